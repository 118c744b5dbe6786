"""The command's work: what is checked before training, what is trained, what is left alone."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import psutil
import pytest
from PIL import Image

from toolkit.data.labelled import load_labelled
from toolkit.errors import ToolkitError, UsageError
from toolkit.files import sha256_file
from toolkit.processes import Call, Outcome
from toolkit.progress import Reporter
from toolkit.training import train as room
from toolkit.training.at_once import MOST_THREADS
from toolkit.training.recipe_files import RecipeSet, load_set
from toolkit.training.registry import find_backbone
from toolkit.training.run import (
    PHOTO_DIGITS,
    DataSeen,
    Progress,
    Run,
    Validation,
    finished_runs,
    load_run,
)
from toolkit.training.train import LOCK, TrainingOptions, run_folder, train

if TYPE_CHECKING:
    from tests.conftest import Trained

SMALL = "mobilenetv3small"


class Began(BaseException):
    """Training would have begun."""


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Lets no training begin, and collects what it would have begun with."""
    plans: list[Any] = []

    def note(calls: Iterable[Call], *_: Any) -> None:
        for call in calls:
            plans.append(call.arguments[0])
            raise Began

    monkeypatch.setattr(room, "in_own_processes", note)
    return plans


@pytest.fixture
def recipes(small_recipes: Path) -> RecipeSet:
    return load_set(str(small_recipes))


def changed(recipes: RecipeSet, **changes: Any) -> RecipeSet:
    recipe = recipes.recipe(SMALL).model_copy(update=changes)
    return dataclasses.replace(recipes, recipes={SMALL: recipe})


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> TrainingOptions:
    """A copy of the finished runs, to be spoilt, and of the data, to be changed."""
    shutil.copytree(trained.folder, tmp_path / "runs")
    shutil.copytree(trained.data, tmp_path / "data")
    return TrainingOptions(data=tmp_path / "data", runs=tmp_path / "runs")


def test_a_run_is_a_folder_with_all_that_is_known_about_it(trained: Trained) -> None:
    run = trained.runs[0]
    assert run.folder == trained.folder / "small" / SMALL
    assert run.label == f"small/{SMALL}"
    assert load_run(run.folder).identity == run.identity
    assert {path.name for path in run.folder.iterdir()} == {
        "run.json",
        "recipe.yaml",
        "model.keras",
        "history.csv",
        "validation.npz",
    }
    assert run.data.folder == str(trained.data)
    assert run.data.training_photos == sum(run.data.class_counts) == 38
    assert run.data.validation_photos == run.score.photos == 10
    assert run.epochs == len(run.history)
    assert run.versions["backend"] == "tensorflow"
    assert run.seconds > 0
    validation = run.validation
    assert validation is not None
    accuracy = (validation.probabilities.argmax(axis=1) == validation.labels).mean()
    assert run.score.accuracy == accuracy
    assert np.bincount(validation.labels).tolist() == [
        2 if run.data.class_counts[each] == 4 else 1 for each in range(8)
    ]


def test_a_run_knows_the_photos_it_trained_on_by_their_bytes(trained: Trained) -> None:
    run = trained.runs[0]
    assert run.validation is not None
    held_out = set(run.validation.ids)
    learnt = [photo for photo in load_labelled(trained.data).photos if photo.id not in held_out]
    hashes = [sha256_file(photo.path)[:PHOTO_DIGITS] for photo in learnt]
    assert run.trained_on == "".join(hashes)
    assert load_run(run.folder).trained_on == run.trained_on


def test_runs_with_names_stand_side_by_side(trained: Trained) -> None:
    first, second = trained.runs
    assert second.label == f"small/{SMALL}-second"
    assert (first.identity["seed"], second.identity["seed"]) == (42, 7)
    assert first.data == second.data
    assert first.model_sha256 != second.model_sha256
    assert [run.folder for run in finished_runs(trained.folder)] == [first.folder, second.folder]


def test_stages_follow_each_other_and_all_of_the_backbone_comes_to_learn(trained: Trained) -> None:
    stages = [row["stage"] for row in trained.runs[0].history]
    assert stages[0] == "head"
    assert set(stages[1:]) == {"all"}
    losses = [row["loss"] for row in trained.runs[0].history]
    assert min(losses) < losses[0] - 0.5  # The head alone does not move it by a tenth of that.


def test_a_finished_run_is_not_trained_again(
    trained: Trained, recipes: RecipeSet, began: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Run] = []
    options = TrainingOptions(data=trained.data, runs=trained.folder)
    (run,) = train(recipes, [SMALL], options, Reporter(quiet=False), told.append)
    assert not began
    assert told == [run]
    assert run.model_sha256 == trained.runs[0].model_sha256
    assert f"small/{SMALL}: finished on {run.finished}, not trained again" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "recipe", "key"),
    [
        ({"seed": 8}, {}, "another seed"),
        ({"split_seed": 1}, {}, "another held_out, split_seed"),
        ({"refit_all": True, "name": "second"}, {}, "another held_out, seed, validation_fraction"),
        ({}, {"batch_size": 9}, r"another recipe\.batch_size"),
        ({}, {"augmentor": ()}, r"another recipe\.augmentor"),
        ({}, {"reduce_on_plateau": None}, r"another recipe\.reduce_on_plateau"),
    ],
)
def test_a_run_under_other_settings_is_refused_by_what_changed(
    options: dict[str, Any],
    recipe: dict[str, Any],
    key: str,
    copied: TrainingOptions,
    recipes: RecipeSet,
    began: list[Any],
) -> None:
    with pytest.raises(ToolkitError, match=rf"holds a run with {key}\. Pass `name=NAME` .*`fresh"):
        train(changed(recipes, **recipe), [SMALL], dataclasses.replace(copied, **options))
    assert not began


def test_a_run_from_before_a_key_was_known_stays_the_same_run(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    manifest = copied.runs / "small" / SMALL / "run.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    for key in ("warmup_cosine", "label_smoothing", "mixup", "cutmix", "ema"):
        del content["identity"]["recipe"][key]
    manifest.write_text(json.dumps(content), encoding="utf-8")
    (run,) = train(recipes, [SMALL], copied)
    assert run.identity["recipe"] == content["identity"]["recipe"]
    assert not began
    with pytest.raises(ToolkitError, match=r"holds a run with another recipe\.label_smoothing\. "):
        train(changed(recipes, label_smoothing=0.1), [SMALL], copied)


def test_a_run_on_other_data_is_refused(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    table = copied.data / "train.csv"
    header, first, *rest = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([header, *rest]) + "\n", encoding="utf-8")
    (photo,) = copied.data.rglob(first.split(",")[0])
    photo.unlink()
    with pytest.raises(ToolkitError, match="holds a run with another data"):
        train(recipes, [SMALL], copied)
    assert not began


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_whose_photos_were_replaced_under_the_same_names_is_refused(
    is_finished: bool, copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    folder = copied.runs / "small" / SMALL
    if not is_finished:
        Progress(identity=load_run(folder).identity).save(folder)
        (folder / "run.json").unlink()
    photo = next((copied.data / "train").rglob("*.jpg"))
    Image.open(photo).save(photo, quality=60)
    with pytest.raises(ToolkitError, match=r"holds a run with another photos_sha256\."):
        train(recipes, [SMALL], copied)
    assert not began


def interrupted(options: TrainingOptions) -> Path:
    """Turn the first of the copied runs into one that has not come to its first checkpoint."""
    folder = options.runs / "small" / SMALL
    Progress(identity=load_run(folder).identity).save(folder)
    (folder / "run.json").unlink()
    return folder


def test_a_new_run_computes_with_one_thread_a_core_but_not_with_many(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    for threads in (None, 3):
        with pytest.raises(Began):
            train(recipes, [SMALL], dataclasses.replace(copied, name="x", threads=threads))
    expected = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    assert [plan.identity["threads"] for plan in began] == [expected, 3]


def test_a_run_goes_on_with_its_own_threads_and_with_no_others(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    folder = interrupted(copied)
    progress = Progress.load(folder)
    assert progress is not None
    progress.identity["threads"] = 31  # As from a machine with more cores.
    progress.save(folder)
    with pytest.raises(Began):
        train(recipes, [SMALL], copied)
    assert began[0].identity["threads"] == 31
    with pytest.raises(ToolkitError, match="holds a run with another threads"):
        train(recipes, [SMALL], dataclasses.replace(copied, threads=2))


def test_what_a_killed_training_had_begun_to_write_is_removed_and_nothing_else(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    folder = interrupted(copied)
    for name in (".model.0123abcd.keras", ".history.89abcdef.csv", ".notes.of.mine"):
        (folder / name).write_text("half", encoding="utf-8")
    with pytest.raises(Began):
        train(recipes, [SMALL], copied)
    assert [path.name for path in folder.glob(".*")] == [".notes.of.mine"]


def test_jobs_and_checkpoints_are_not_part_of_a_run(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    train(recipes, [SMALL], dataclasses.replace(copied, jobs=7, checkpoint_every_s=0, workers=3))
    assert not began


class TestThatFail:
    """Several trainings of which some fail, by processes that only pretend."""

    @pytest.fixture
    def three(self, recipes: RecipeSet) -> RecipeSet:
        known = recipes.recipe(SMALL)
        names = ("mobilenetv3small", "efficientnetv2b0", "efficientnetb3")
        made = {name: known.model_copy(update={"backbone": name}) for name in names}
        return dataclasses.replace(recipes, recipes=made)

    @pytest.fixture
    def options(self, copied: TrainingOptions) -> TrainingOptions:
        return dataclasses.replace(copied, name="x", jobs=3)

    def fail(self, monkeypatch: pytest.MonkeyPatch, run: Run, errors: dict[str, Exception]) -> None:
        def pretend(calls: Iterable[Call], at_once: int, heard: Any, ended: Any) -> None:
            assert at_once == 3
            for call in reversed(list(calls)):
                error = errors.get(call.name)
                ended(Outcome(call.name, None if error else run, error))

        monkeypatch.setattr(room, "in_own_processes", pretend)

    def test_one_is_named_and_the_others_are_finished(
        self,
        options: TrainingOptions,
        three: RecipeSet,
        trained: Trained,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        finished: list[Run] = []
        self.fail(
            monkeypatch, trained.runs[0], {"efficientnetb3-x": ToolkitError("It is too wild.")}
        )
        with pytest.raises(ToolkitError) as caught:
            train(three, list(three.recipes), options, Reporter(quiet=False), finished.append)
        folder = options.runs / "small" / "efficientnetb3-x"
        assert str(caught.value) == f"1 of 3 trainings failed:\n  {folder}: It is too wild."
        assert len(finished) == 2
        assert "efficientnetb3-x: failed: It is too wild.\n" in capsys.readouterr().err

    def test_a_bug_keeps_its_kind_and_names_the_run(
        self,
        options: TrainingOptions,
        three: RecipeSet,
        trained: Trained,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        errors = {
            f"{SMALL}-x": ToolkitError("It is too wild."),
            "efficientnetb3-x": ValueError("a bug"),
        }
        self.fail(monkeypatch, trained.runs[0], errors)
        with pytest.raises(ValueError, match="a bug") as caught:
            train(three, list(three.recipes), options)
        assert caught.value.__notes__ == [
            f"while {options.runs / 'small' / 'efficientnetb3-x'} was trained"
        ]

    def test_runs_come_in_the_order_of_the_recipes_and_one_named_twice_is_trained_once(
        self,
        options: TrainingOptions,
        three: RecipeSet,
        trained: Trained,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def pretend(calls: Iterable[Call], at_once: int, heard: Any, ended: Any) -> None:
            for call in reversed(list(calls)):
                made = dataclasses.replace(trained.runs[0], folder=call.arguments[0].folder)
                ended(Outcome(call.name, made))

        monkeypatch.setattr(room, "in_own_processes", pretend)
        runs = train(three, [*three.recipes, SMALL], options)
        names = [run.folder.name for run in runs]
        assert names == [f"{name}-x" for name in [*three.recipes, SMALL]]


def test_a_description_may_change(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    other = changed(recipes, description="Now in other words.", published_accuracy=0.5)
    train(other, [SMALL], copied)
    assert not began


def test_fresh_throws_that_run_away_and_no_other(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    with pytest.raises(Began):
        train(recipes, [SMALL], dataclasses.replace(copied, fresh=True, seed=8))
    assert not (copied.runs / "small" / SMALL / "run.json").exists()
    assert (copied.runs / "small" / f"{SMALL}-second" / "run.json").exists()
    assert began[0].identity["seed"] == 8


def test_a_name_makes_another_run(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    with pytest.raises(Began):
        train(recipes, [SMALL], dataclasses.replace(copied, name="third"))
    assert began[0].folder == copied.runs / "small" / f"{SMALL}-third"
    assert run_folder(Path("runs"), recipes.recipe(SMALL), None) == Path("runs/small") / SMALL


def test_refit_trains_on_all_photos_beside_the_validated_run(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    with pytest.raises(Began):
        train(recipes, [SMALL], dataclasses.replace(copied, refit_all=True))
    (plan,) = began
    assert plan.folder.name == f"{SMALL}-refit"
    assert not plan.held_out.any()
    assert (plan.data.training_photos, plan.data.validation_photos) == (48, 0)
    assert plan.data.validation_fraction == 0


def test_broken_photos_are_all_listed_before_any_training(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    broken = sorted((copied.data / "train").rglob("*.jpg"))[::20]
    for photo in broken:
        photo.write_bytes(b"")
    with pytest.raises(ToolkitError, match="3 of 48 labelled photos cannot be read") as caught:
        train(recipes, [SMALL], copied)
    assert all(str(photo) in str(caught.value) for photo in broken)
    assert not began


def test_broken_photos_that_are_left_out_are_written_down(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    broken = sorted((copied.data / "train").rglob("*.jpg"))[::20]
    for photo in broken:
        photo.write_bytes(b"")
    options = dataclasses.replace(copied, skip_broken=True, name="skipped")
    with pytest.raises(Began):
        train(recipes, [SMALL], options)
    data: DataSeen = began[0].data
    assert set(data.left_out) == {photo.name for photo in broken}
    assert data.training_photos + data.validation_photos == 45
    assert data.fingerprint != load_run(copied.runs / "small" / SMALL).data.fingerprint


def test_left_out_photos_stand_in_the_manifest(trained: Trained, tmp_path: Path) -> None:
    from toolkit.training.run import save_run

    data = dataclasses.replace(trained.runs[0].data, left_out=("a.jpg", "b.jpg"))
    save_run(dataclasses.replace(trained.runs[0], folder=tmp_path, data=data))
    assert load_run(tmp_path).data == data


def test_a_second_process_is_refused_while_one_trains(
    copied: TrainingOptions, recipes: RecipeSet
) -> None:
    with (
        filelock.FileLock(copied.runs / LOCK),
        pytest.raises(ToolkitError, match="runs: another process is training here"),
    ):
        train(recipes, [SMALL], copied)
    train(recipes, [SMALL], copied)


def test_the_lock_is_free_after_training_and_after_a_mistake(
    copied: TrainingOptions, recipes: RecipeSet
) -> None:
    with pytest.raises(ToolkitError, match="another seed"):
        train(recipes, [SMALL], dataclasses.replace(copied, seed=8))
    with filelock.FileLock(copied.runs / LOCK, timeout=0):
        pass
    train(recipes, [SMALL], copied)
    assert not (copied.runs / LOCK).exists()


def test_runs_that_cannot_be_written_are_named_by_the_name_the_user_knows(
    copied: TrainingOptions, recipes: RecipeSet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"file/runs: cannot be written \(Not a directory\)"):
        train(recipes, [SMALL], dataclasses.replace(copied, runs=tmp_path / "file" / "runs"))


def test_sixteen_bits_without_a_gpu_are_refused_before_any_photo_is_opened(
    copied: TrainingOptions, recipes: RecipeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(room, "prepare", lambda *_, **__: pytest.fail("a photo was opened"))
    with pytest.raises(ToolkitError, match="`mixed_precision=True`: no GPU is visible"):
        train(recipes, [SMALL], dataclasses.replace(copied, mixed_precision=True))


def test_a_link_in_the_place_of_a_run_is_not_thrown_away(
    copied: TrainingOptions, recipes: RecipeSet
) -> None:
    run = copied.runs / "small" / SMALL
    elsewhere = run.rename(copied.runs.parent / "elsewhere")
    run.symlink_to(elsewhere)
    with pytest.raises(ToolkitError, match=f"{SMALL}: is a link"):
        train(recipes, [SMALL], dataclasses.replace(copied, fresh=True))
    assert load_run(elsewhere)


def test_photos_that_came_to_be_alike_make_another_split_and_so_another_run(
    copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    # Ids, labels and seeds stay: only which photos are near-duplicates, and so the split, changes.
    for folder in (copied.data / "train").iterdir():
        first, *others = sorted(folder.iterdir())
        for other in others[:3]:
            shutil.copy(first, other)
    with pytest.raises(ToolkitError, match="holds a run with another held_out"):
        train(recipes, [SMALL], copied)
    assert not began


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "two words"])
def test_a_name_that_makes_no_folder_name_is_bad_usage(
    name: str, copied: TrainingOptions, recipes: RecipeSet, began: list[Any]
) -> None:
    with pytest.raises(UsageError, match=r"`name=.*Expected letters"):
        train(recipes, [SMALL], dataclasses.replace(copied, name=name))
    assert not began


def test_too_few_photos_to_hold_any_out_are_refused(
    tmp_path: Path, recipes: RecipeSet, trained: Trained
) -> None:
    for category in "ab":
        folder = tmp_path / "data" / category
        folder.mkdir(parents=True)
        for number, photo in enumerate(sorted(trained.data.rglob("*.jpg"))[:2]):
            shutil.copy(photo, folder / f"{number}{category}.jpg")
    options = TrainingOptions(data=tmp_path / "data", runs=tmp_path / "runs")
    with pytest.raises(
        ToolkitError, match="too few photos to hold some out for validation: 20% of"
    ):
        train(recipes, [SMALL], options)


class TestWeightsToStartFrom:
    def test_a_missing_file_is_told_before_anything_is_read(
        self, tmp_path: Path, recipes: RecipeSet
    ) -> None:
        options = TrainingOptions(data=tmp_path / "no data", pretrained=str(tmp_path))
        with pytest.raises(
            ToolkitError,
            match=rf"{SMALL}_imagenet_notop\.weights\.h5: no such file\..*"
            rf"`pretrained_missing=.none.` to train {SMALL} from nothing",
        ):
            train(recipes, [SMALL], options)

    def test_a_missing_file_can_be_done_without(
        self, copied: TrainingOptions, recipes: RecipeSet, tmp_path: Path, began: list[Any]
    ) -> None:
        options = dataclasses.replace(
            copied, name="x", pretrained=str(tmp_path), pretrained_missing="none"
        )
        with pytest.raises(Began):
            train(recipes, [SMALL], options)
        assert not began[0].start.pretrained
        assert began[0].identity["pretrained"] == "none"

    def test_the_files_bytes_belong_to_the_runs_identity(
        self, copied: TrainingOptions, recipes: RecipeSet, tmp_path: Path, began: list[Any]
    ) -> None:
        path = tmp_path / find_backbone(SMALL).weights_file
        seen = []
        for content in (b"one", b"other"):
            path.write_bytes(content)
            options = dataclasses.replace(copied, name="x", pretrained=str(tmp_path))
            with pytest.raises(Began):
                train(recipes, [SMALL], options)
            seen.append(began[-1].identity["pretrained"])
        assert all(each.startswith("imagenet ") for each in seen)
        assert seen[0] != seen[1]

    def test_neither_a_word_nor_a_folder_is_bad_usage(
        self, tmp_path: Path, recipes: RecipeSet
    ) -> None:
        options = TrainingOptions(data=tmp_path, pretrained="image-net")
        with pytest.raises(UsageError, match="Expected imagenet, none or a folder"):
            train(recipes, [SMALL], options)


def test_validation_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    validation = Validation(
        np.array(["Käfer.jpg", "車.jpg"]),
        np.array([1, 0]),
        np.array([0, 7]),
        np.array([[0.25, 0.75], [1, 0]], dtype=np.float32),
    )
    validation.save(tmp_path / "validation.npz")
    data = DataSeen("data", "", ("a", "b"), (1, 1), 42, 0.5, 2, 2)
    loaded = Validation.load(tmp_path / "validation.npz", data)
    for field in dataclasses.fields(Validation):
        before, after = getattr(validation, field.name), getattr(loaded, field.name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no run \(no run\.json\)\. Train it"),
        (
            {"schema_version": 99},
            r"schema_version: Expected 4, received 99\. Train it again with `fresh=True`",
        ),
    ],
)
def test_a_folder_without_a_run_is_told(
    content: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ToolkitError, match=message):
        load_run(tmp_path)


PROGRAM = """
import sys
from pathlib import Path
from toolkit.progress import Reporter
from toolkit.training.recipe_files import load_set
from toolkit.training.train import TrainingOptions, train

if __name__ == "__main__":
    recipes, data, runs = sys.argv[1:]
    options = TrainingOptions(data=Path(data), runs=Path(runs), checkpoint_every_s=0)
    train(load_set(recipes), ["mobilenetv3small"], options, Reporter(quiet=False))
    print(sorted({"keras", "tensorflow"} & set(sys.modules)))
"""


def test_training_killed_by_the_system_leaves_no_orphan_and_ends_as_if_it_had_not_been(
    trained: Trained, recipes: RecipeSet, tmp_path: Path
) -> None:
    program, runs = tmp_path / "program.py", tmp_path / "runs"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, program, trained.recipes, trained.data, runs]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        for line in parent.stderr:
            if " all 2/" in line:
                break
        children = psutil.Process(parent.pid).children(recursive=True)
        with pytest.raises(ToolkitError, match="another process is training here"):
            train(recipes, [SMALL], TrainingOptions(data=trained.data, runs=runs))
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert children
        assert not alive
    with pytest.raises(ToolkitError, match=r"a run that is not finished"):
        load_run(runs / "small" / SMALL)
    with pytest.raises(ToolkitError, match="holds a run with another seed"):
        train(recipes, [SMALL], TrainingOptions(data=trained.data, runs=runs, seed=3))

    resumed = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "going on after epoch" in resumed.stderr
    assert "port.cc" not in resumed.stderr  # TensorFlow's native lines.
    assert resumed.stdout.strip() == "[]"  # The parent has imported no framework.
    assert_same_run(load_run(runs / "small" / SMALL), trained.runs[0])


def assert_same_run(first: Run, second: Run) -> None:
    histories = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
        for run in (first, second)
    ]
    assert histories[0] == histories[1]
    assert [row["epoch"] for row in histories[0]] == list(range(1, first.epochs + 1))
    assert first.best_epoch == second.best_epoch
    one, other = first.validation, second.validation
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_how_the_data_was_read_is_kept_with_the_run_and_read_again(
    began: list[Any], recipes: RecipeSet, trained: Trained, tmp_path: Path
) -> None:
    from toolkit.data.reading import Reading
    from toolkit.exporting.members import Photos

    data = tmp_path / "data"
    (data / "tables").mkdir(parents=True)
    shutil.copytree(trained.data / "train", data / "frames")
    known = load_labelled(trained.data)
    rows = [f"{p.id},{known.classes[p.label]},{n % 5 == 0}" for n, p in enumerate(known.photos)]
    table = "\n".join(["what,which,is_valid", *rows])
    (data / "tables" / "second.csv").write_text(table, encoding="utf-8")
    (data / "first.csv").write_text(table.replace("which", "label"), encoding="utf-8")
    reading = Reading(
        labels=data / "tables" / "second.csv",
        label_column="which",
        photos=data / "frames",
    )
    options = TrainingOptions(data=data, reading=reading, runs=tmp_path / "runs")
    with pytest.raises(Began):
        train(recipes, [SMALL], options)
    (plan,) = began
    seen = plan[0].data if isinstance(plan, tuple) else plan.data
    assert seen.reading == {
        "labels": "tables/second.csv",
        "label_column": "which",
        "photos": "frames",
    }
    assert seen.split_by == "data"
    assert seen.validation_photos == sum(n % 5 == 0 for n in range(len(rows)))
    # Moved, and without the options, the same photos are found.
    data.rename(tmp_path / "moved")
    run = dataclasses.replace(trained.runs[0], data=dataclasses.replace(seen, validation_photos=0))
    found = Photos.find([run], tmp_path / "moved", Reporter())
    assert len(found.paths) == len(rows)
