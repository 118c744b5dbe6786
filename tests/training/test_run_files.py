"""What a run folder holds is read by one schema: what was edited or cut off is named in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.errors import RunError, ToolkitError
from toolkit.training.run import HISTORY, MANIFEST, PROGRESS, RECIPE, VALIDATION, Progress, load_run


@pytest.fixture
def run(finished_job: Path, tmp_path: Path) -> Path:
    """A run of three epochs and 12 held-out photos, to spoil."""
    folder = Path(shutil.copytree(finished_job / "runs" / "improved" / "xception", tmp_path / "x"))
    rows = np.full((12, 3), 1 / 3, dtype=np.float32)
    written(folder, probabilities=rows)
    return folder


def written(folder: Path, **changes: Any) -> None:
    arrays = {
        "ids": np.array([f"{n}.jpg" for n in range(12)]),
        "labels": np.arange(12) % 3,
        "groups": np.arange(12),
        "probabilities": np.full((12, 3), 1 / 3, dtype=np.float32),
    } | changes
    np.savez(
        folder / VALIDATION, **{key: value for key, value in arrays.items() if value is not None}
    )


def told(read: Callable[[], object], path: Path) -> str:
    with pytest.raises(RunError) as refused:
        read()
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert refused.value.path == path
    return str(refused.value)


def test_a_whole_run_is_read(run: Path) -> None:
    found = load_run(run)
    assert len(found.history) == found.epochs == 3
    assert found.validation is not None


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ({"epochs": None}, "epochs: Input should be a valid integer"),
        ({"epochs": 0}, "epochs: Input should be greater than 0"),
        ({"epochs": "3"}, "epochs: Input should be a valid integer"),
        ({"best_epoch": 4}, "best_epoch: Expected 1 to 3, received 4"),
        ({"seconds": float("nan")}, "seconds: Input should be"),
        ({"seconds": -1}, "seconds: Input should be greater than or equal to 0"),
        ({"model_sha256": "../x"}, "model_sha256: String should match"),
        ({"trained_on": "abc"}, "trained_on: String should match"),
        ({"score": {"photos": 12}}, "score.accuracy: the key is missing"),
        ({"extra": 1}, "extra: unknown key"),
        ({"data": []}, "data: Input should be an object"),
        ({"identity": "x"}, "identity: Input should be an object"),
    ],
)
def test_a_flaw_of_the_manifest_is_named(run: Path, edit: dict[str, Any], complaint: str) -> None:
    path = run / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | edit), encoding="utf-8")
    assert complaint in told(lambda: load_run(run), path)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("classes", ["a"], "data.classes: Tuple should have at least 2 items"),
        ("classes", ["a", "a", "b"], "data: classes: Expected each once"),
        ("class_counts", [1, 2], "data: class_counts: Expected one for each of the 3 classes"),
        ("class_counts", [1, -2, 3], "data.class_counts.1: Input should be greater"),
        ("validation_fraction", 1.5, "data.validation_fraction: Input should be less"),
        ("split_by", "luck", "data.split_by: Input should be 'seed' or 'data'"),
        ("reading", {"labels": 1}, "data.reading.labels: Input should be a valid string"),
    ],
)
def test_a_flaw_of_what_it_saw_is_named(run: Path, key: str, value: object, complaint: str) -> None:
    path = run / MANIFEST
    content = json.loads(path.read_text())
    content["data"][key] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    assert complaint in told(lambda: load_run(run), path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ids": None}, "ids: the array is missing"),
        ({"labels": np.full(12, 9)}, "labels: Expected 0 to 2, received 9 to 9"),
        ({"probabilities": np.zeros((12, 3), np.float32)}, "probabilities: do not sum to 1 (0)"),
        ({"probabilities": np.full((12, 3), np.nan, np.float32)}, "probabilities: are not finite"),
        ({"probabilities": np.ones((12, 1), np.float32)}, "probabilities: Expected float32 of"),
        ({"ids": np.array(["a", "b"])}, "labels: Expected 2 whole numbers"),
    ],
)
def test_a_flaw_of_its_predictions_is_named(
    run: Path, changes: dict[str, Any], complaint: str
) -> None:
    written(run, **changes)
    assert complaint in told(lambda: load_run(run).validation, run / VALIDATION)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read"),
        ("epoch,stage\n1,all\n", "seconds: the column is missing"),
        ("\x00\x01\x02", "the column is missing"),
        ("a,b\n1,2,3,4\n1\n", "stage: the column is missing"),
        (None, "loss: Expected numbers"),
        ("cut", "Expected a row for each of the 3 epochs, received 2"),
    ],
)
def test_a_flaw_of_its_history_is_named(run: Path, text: str | None, complaint: str) -> None:
    path = run / HISTORY
    if text is None:
        text = path.read_text().replace("1.4", "much")
    elif text == "cut":
        text = "\n".join(path.read_text().splitlines()[:3]) + "\n"
    path.write_text(text, encoding="utf-8")
    assert complaint in told(lambda: load_run(run).history, path)


@pytest.mark.parametrize("text", ["", "a: [", "image_size: 40000", "[]", "\x00"])
def test_a_flaw_of_its_recipe_is_named(run: Path, text: str) -> None:
    (run / RECIPE).write_text(text, encoding="utf-8")
    with pytest.raises(ToolkitError) as refused:
        load_run(run)
    assert str(refused.value).startswith(f"{run / RECIPE}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ({"stage": "1"}, "stage: Input should be a valid integer"),
        ({"best_epoch": 7}, "best_epoch: Expected 0 to 1, received 7"),
        ({"history": {}}, "history: Input should be a valid array"),
        ({"more": 1}, "more: unknown key"),
    ],
)
def test_a_flaw_of_an_unfinished_run_is_named(
    tmp_path: Path, edit: dict[str, Any], complaint: str
) -> None:
    Progress({}, history=[{"epoch": 1}]).save(tmp_path)
    path = tmp_path / PROGRESS
    path.write_text(json.dumps(json.loads(path.read_text()) | edit), encoding="utf-8")
    assert complaint in told(lambda: Progress.load(tmp_path), path)
