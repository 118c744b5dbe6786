"""The package as a library: what it exports, and that a plain script can use all of it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import toolkit
from toolkit import UsageError

if TYPE_CHECKING:
    from tests.conftest import Trained
    from toolkit.inference.bundle import Bundle

PUBLIC = [
    "BrokenPhotoError",
    "Bundle",
    "BundleError",
    "DataError",
    "DeviceError",
    "Ensemble",
    "ParityError",
    "RecipeError",
    "Reporter",
    "ResourceError",
    "Run",
    "RunError",
    "ToolkitError",
    "UsageError",
    "__version__",
    "compare",
    "compare_submissions",
    "doctor",
    "evaluate",
    "export",
    "fuse",
    "plan",
    "predict",
    "reproduce",
    "train",
]

FUNCTIONS = [name for name in PUBLIC if name.islower() and not name.startswith("__")]


def test_the_public_names_are_these() -> None:
    assert toolkit.__all__ == PUBLIC
    assert all(getattr(toolkit, name) is not None for name in PUBLIC)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_typed_and_described(name: str) -> None:
    function = getattr(toolkit, name)
    signature = inspect.signature(function)
    described = inspect.getdoc(function) or ""
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        assert f"\n    {parameter.name}: " in described, parameter
    assert signature.return_annotation not in ("None", signature.empty)
    assert all(f"\n{part}:\n" in described for part in ("Args", "Returns", "Raises", "Example"))
    assert ">>> " in described
    assert "Any" not in str(signature)


def script(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a user's; it has no guard against being imported."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(path)], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_plain_script_trains_and_exports_without_progress(
    trained: Trained, tmp_path: Path
) -> None:
    ended = script(
        tmp_path,
        f"""
        from toolkit import Ensemble, export, train
        print("once")
        runs = train({str(trained.data)!r}, recipes={str(trained.recipes)!r})
        bundle = export(runs, "bundle")
        print(runs[0].label, len(Ensemble.load(bundle).classes))
        """,
    )
    assert ended.returncode == 0, ended.stderr
    assert all(line.startswith("warning: ") for line in ended.stderr.splitlines())
    assert ended.stdout.split("\n") == ["once", "small/mobilenetv3small 8", ""]
    assert (tmp_path / "runs/small/mobilenetv3small/curves.png").is_file()


def test_a_script_whose_own_objects_are_needed_ends_in_one_line(tmp_path: Path) -> None:
    ended = script(
        tmp_path,
        """
        from toolkit.errors import ToolkitError
        from toolkit.processes import in_own_process

        def work():
            pass

        try:
            in_own_process(work)
        except ToolkitError as error:
            print(error)
        """,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("The script defines what its calls use")
    assert len(ended.stdout.splitlines()) == 1


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"jobs": 0}, "jobs"),
            ({"workers": 0}, "workers"),
            ({"threads": -1}, "threads"),
            ({"seed": -1}, "seed"),
            ({"split_seed": -1}, "split_seed"),
            ({"checkpoint_every_s": -0.5}, "checkpoint_every_s"),
            ({"pretrained_missing": "download"}, "pretrained_missing"),
            ({"pretrained": "image-net"}, "pretrained"),
            ({"name": "a/b"}, "name"),
            ({"backbones": "xception"}, "backbones"),
            ({"backbones": ["xeption"]}, "backbones"),
            ({"backbones": []}, "backbones"),
        ],
    )
    def test_of_train_are_checked_before_anything_is_read(
        self, arguments: dict[str, Any], name: str, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError) as refused:
            toolkit.train(tmp_path / "none", runs=tmp_path / "runs", **arguments)
        assert refused.value.argument == name
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"metric": "f1"}, "metric"),
            ({"voting": "fited"}, "voting"),
            ({"precisions": "int4"}, "precisions"),
            ({"runs": []}, "runs"),
        ],
    )
    def test_of_export_are_checked(
        self, arguments: dict[str, Any], name: str, trained: Trained, tmp_path: Path
    ) -> None:
        arguments = {"runs": trained.runs, **arguments}
        with pytest.raises(UsageError) as refused:
            toolkit.export(bundle=tmp_path / "bundle", **arguments)
        assert refused.value.argument == name
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [({"metric": "f1"}, "metric"), ({"device": "cpu"}, "device"), ({"photos": "x"}, "photos")],
    )
    def test_of_evaluate_are_checked(
        self, arguments: dict[str, Any], name: str, exported: Bundle
    ) -> None:
        with pytest.raises(UsageError) as refused:
            toolkit.evaluate(exported.folder, **arguments)
        assert refused.value.argument == name

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"metric": "f1"}, "metric"),
            ({"sort": "name"}, "sort"),
            ({"against": "another"}, "against"),
            ({"subjects": "bundle"}, "subjects"),
        ],
    )
    def test_of_compare_are_checked(
        self, arguments: dict[str, Any], name: str, exported: Bundle
    ) -> None:
        with pytest.raises(UsageError) as refused:
            toolkit.compare(**{"subjects": [exported.folder], **arguments})
        assert refused.value.argument == name


def test_runs_may_be_loaded_named_or_found(trained: Trained, exported: Bundle) -> None:
    """All three name the members that the bundle holds, so nothing is exported again."""
    folders = [str(run.folder) for run in trained.runs]
    for runs in (trained.runs, folders):
        assert toolkit.export(runs, exported.folder) == exported


def test_a_file_of_the_whole_ensemble_finds_the_photos_by_the_runs(
    trained: Trained, exported: Bundle, tmp_path: Path
) -> None:
    made = toolkit.fuse(exported.folder, tmp_path / "one.onnx", runs=trained.folder, tta=2)
    assert (made.views, made.members) == (2, tuple(each.name for each in exported.members))
    with pytest.raises(toolkit.RunError, match="holds no run that"):
        toolkit.fuse(exported, tmp_path / "two.onnx", runs=tmp_path)


def test_evaluation_counts_what_was_mistaken(exported: Bundle) -> None:
    found = toolkit.evaluate(exported.folder, tta=2)
    right = found.confusion.diagonal().sum()
    score = list(found.scores.values())[-1]
    assert score.accuracy == pytest.approx(right / found.confusion.sum())
    assert [row.photos for row in found.class_scores] == found.confusion.sum(axis=1).tolist()
