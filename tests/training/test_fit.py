"""Training itself, on a network small enough to be interrupted after every epoch."""

from __future__ import annotations

import dataclasses
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.progress import SILENT, Reporter
from toolkit.training import fit as room
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.fit import Job, fit, load_model, predict
from toolkit.training.recipe import Recipe
from toolkit.training.run import CHECKPOINTS, PROGRESS, DataSeen, Progress, Run, load_run

# Keras's own way to read a TensorFlow variable, in NumPy's eyes.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PHOTOS, HELD_OUT, CLASSES = 44, 12, 3

HEAD = {"name": "head", "epochs": 1, "frozen_fraction": 1, "learning_rate": 0.05}
ALL = {"name": "all", "epochs": 1, "frozen_fraction": 0}


def small_network(recipe: Recipe, classes: int, *, pretrained: bool) -> keras.Model:
    """Everything that has a state of its own: batch norm, dropout, an inner model."""
    inside = keras.Input((32, 32, 3))
    features = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(inside)
    features = keras.layers.BatchNormalization(momentum=0.5)(features)
    features = keras.layers.Dropout(0.3)(features)
    base = keras.Model(inside, features, name="backbone")
    images = keras.Input((32, 32, 3), dtype="uint8", name="images")
    features = base(keras.layers.Rescaling(1 / 127.5, -1, name="scaling")(images))
    features = keras.layers.Dropout(0.3)(keras.layers.GlobalMaxPooling2D()(features))
    output = keras.layers.Dense(classes, activation="softmax", name="probabilities")(features)
    return keras.Model(images, output)


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "build_model", small_network)


def recipe(**changes: Any) -> Recipe:
    content = {
        "set": "test",
        "backbone": "mobilenetv3small",
        "image_size": 32,
        "batch_size": 5,
        "validation_fraction": 0.25,
        "seed": 1,
        "weights": "none",
        "pixels": "own",
        "head": {"pooling": "max"},
        "loss": "categorical_crossentropy",
        "optimizer": {"name": "Adamax", "learning_rate": 0.01},
        "keep_best": "loss",
        "stages": [
            HEAD,
            {**ALL, "epochs": 3},
        ],
        "augmentor": [{"HorizontalFlip": {"p": 0.5}}],
    }
    return Recipe.model_validate({**content, **changes})


def job(folder: Path, recipe: Recipe, reporter: Reporter = SILENT, **changes: Any) -> Job:
    """Photos of two classes to learn, and held-out ones of a third, which nobody can get right."""
    generator = np.random.default_rng(0)
    labels = np.arange(PHOTOS) % 2
    labels[:HELD_OUT] = 2
    held_out = np.arange(PHOTOS) < HELD_OUT
    pixels = generator.integers(0, 256, (PHOTOS, 32, 32, 3), dtype=np.uint8)
    pixels[labels == 1] //= 2
    photos = folder.parent / "photos.npy"
    np.save(photos, pixels)
    data = DataSeen("data", "f" * 64, ("a", "b", "c"), (16, 16, 0), 42, 0.25, 32, HELD_OUT)
    settings: dict[str, Any] = {
        "folder": folder,
        "recipe": recipe,
        "data": data,
        "identity": {"recipe": recipe.model_dump(mode="json")},
        "photos": photos,
        "stored": photos,
        "ids": tuple(f"{number}.jpg" for number in range(PHOTOS)),
        "labels": labels,
        "groups": np.arange(PHOTOS),
        "held_out": held_out,
        "trained_on": "",
        "pretrained": False,
        "weights_folder": None,
        "seed": 5,
        "workers": 2,
        "mixed_precision": False,
        "tensorboard": False,
        "checkpoint_every_s": 0.0,
        "reporter": reporter,
    }
    return Job(**{**settings, **changes})


class Killed(BaseException):
    """As a SIGKILL: no handler of ours looks at it."""


@dataclasses.dataclass(frozen=True)
class KillsAfterEveryEpoch(Reporter):
    """Ends the process, so to speak, as soon as an epoch is written down."""

    def say(self, line: str) -> None:
        if "loss" in line:
            raise Killed


def in_a_new_process(job: Job) -> Run:
    keras.utils.clear_session()
    return fit(job)


def sittings(job: Job) -> tuple[Run, int]:
    """Train, killed after every epoch, to the end; return also how often it was begun."""
    for count in range(1, 100):
        try:
            return in_a_new_process(job), count
        except Killed:
            continue
    raise AssertionError("it never ends")


def rows(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]


def assert_same_run(first: Run, second: Run) -> None:
    assert rows(first) == rows(second)
    assert (first.epochs, first.best_epoch) == (second.epochs, second.best_epoch)
    assert first.score == second.score
    for one, other in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(one, other)


def weights(run: Run) -> list[Any]:
    found: list[Any] = load_model(run.model_path).get_weights()
    return found


def cosine(rate: float, floor: float, done: float) -> float:
    return rate * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


@pytest.mark.parametrize(
    ("changes", "stages", "rates"),
    [
        # Nothing improves: after three epochs of a stage the rate is halved, after four it ends.
        (
            {
                "reduce_on_plateau": {"monitor": "val_accuracy", "factor": 0.5, "patience": 2},
                "early_stopping": {"monitor": "val_accuracy", "patience": 3},
                "stages": [HEAD, {**ALL, "epochs": 5}],
            },
            ["head"] + ["all"] * 4,
            [0.05, 0.01, 0.01, 0.01, 0.005],
        ),
        # Seven steps an epoch; each stage begins anew. The rates are those an epoch begins with.
        (
            {"exponential_decay": {"rate": 0.5, "every_steps": 7}},
            ["head"] + ["all"] * 3,
            [0.05, 0.01, 0.01 / 2, 0.01 / 4],
        ),
        # The first 2 of 7 and 6 of 21 steps rise; epochs begin at steps 0, 7 and 14 of a stage.
        (
            {
                "warmup_cosine": {"warmup_fraction": 0.3, "floor": 0.1},
                "label_smoothing": 0.1,
                "cutmix": {"alpha": 1.0},
                "ema": {"momentum": 0.8},
            },
            ["head"] + ["all"] * 3,
            [0.05 / 2, 0.01 / 6, cosine(0.01, 0.1, 1 / 15), cosine(0.01, 0.1, 8 / 15)],
        ),
        (
            {
                "reduce_on_plateau": {"monitor": "val_accuracy", "factor": 0.5, "patience": 2},
                "mixup": {"alpha": 0.2},
                "ema": {"momentum": 0.9, "stages": ["all"]},
                "keep_best": "val_loss",
            },
            ["head"] + ["all"] * 3,
            [0.05, 0.01, 0.01, 0.01],
        ),
        # Held-out photos are of a class that is never learnt: no figure of labels improves.
        (
            {
                "loss": "focal",
                "class_weights": "balanced",
                "reduce_on_plateau": {"monitor": "val_macro_f1", "factor": 0.5, "patience": 2},
                "early_stopping": {"monitor": "val_balanced_accuracy", "patience": 3},
                "keep_best": "val_macro_f1",
                "stages": [HEAD, {**ALL, "epochs": 5}],
            },
            ["head"] + ["all"] * 4,
            [0.05, 0.01, 0.01, 0.01, 0.005],
        ),
        (
            {"sampling": "balanced", "keep_best": "val_log_loss", "ema": {"momentum": 0.8}},
            ["head"] + ["all"] * 3,
            [0.05, 0.01, 0.01, 0.01],
        ),
        # An epoch ends in the middle of three batches. The schedule counts batches.
        (
            {
                "gradient_accumulation_steps": 3,
                "exponential_decay": {"rate": 0.5, "every_steps": 7},
                "ema": {"momentum": 0.8},
            },
            ["head"] + ["all"] * 3,
            [0.05, 0.01, 0.01 / 2, 0.01 / 4],
        ),
    ],
    ids=[
        *("plateau and early stopping", "exponential decay", "cosine, cutmix, averages", "mixup"),
        *("class weights, macro-F1", "balanced sampling, log-loss", "gradient accumulation"),
    ],
)
def test_training_killed_after_every_epoch_ends_as_if_it_had_not_been(
    changes: dict[str, Any], stages: list[str], rates: list[float], tmp_path: Path
) -> None:
    whole = in_a_new_process(job(tmp_path / "whole", recipe(**changes)))
    assert [row["stage"] for row in whole.history] == stages
    assert [row["learning_rate"] for row in whole.history] == pytest.approx(rates)
    assert [row["epoch"] for row in whole.history] == list(range(1, len(stages) + 1))
    pieces, count = sittings(job(tmp_path / "pieces", recipe(**changes), KillsAfterEveryEpoch()))
    assert count == len(stages) + 1
    assert_same_run(whole, pieces)


def test_a_run_says_where_the_weights_lay_that_it_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "load_imagenet", lambda model, backbone, folder: None)
    chosen = recipe(stages=[{"name": "all", "epochs": 1, "frozen_fraction": 0}])
    lay = {"pretrained": True, "weights_folder": tmp_path / "weights"}
    in_a_new_process(job(tmp_path / "run", chosen, **lay))
    assert load_run(tmp_path / "run").weights_folder == str(tmp_path / "weights")


def test_the_number_of_workers_changes_nothing_and_another_seed_does(tmp_path: Path) -> None:
    chosen = recipe(stages=[{"name": "all", "epochs": 2, "frozen_fraction": 0}])
    one, four, other = (
        in_a_new_process(job(tmp_path / f"{workers} {seed}", chosen, workers=workers, seed=seed))
        for workers, seed in ((1, 5), (4, 5), (1, 6))
    )
    assert_same_run(one, four)
    assert rows(one) != rows(other)


def test_the_epochs_of_a_stage_do_not_all_drop_the_same(tmp_path: Path) -> None:
    frozen = [{"name": "head", "epochs": 3, "frozen_fraction": 1, "learning_rate": 1e-12}]
    run = in_a_new_process(job(tmp_path / "run", recipe(stages=frozen, augmentor=[])))
    # Neither weights nor photos change from epoch to epoch: only dropout does.
    losses = sorted(row["loss"] for row in run.history)
    assert min(np.diff(losses)) > 1e-5
    assert np.ptp([row["val_loss"] for row in run.history]) < 1e-5


@pytest.mark.numeric
def test_the_best_epochs_weights_are_kept_not_the_last_ones(tmp_path: Path) -> None:
    # Held-out photos of a class that is never seen look the worse the longer it trains.
    chosen = recipe(
        keep_best="val_loss",
        stages=[{"name": "all", "epochs": 4, "frozen_fraction": 0, "learning_rate": 0.003}],
    )
    run = in_a_new_process(job(tmp_path / "run", chosen))
    losses = [row["val_loss"] for row in run.history]
    assert run.best_epoch == int(np.argmin(losses)) + 1 < 4
    assert run.score.log_loss == pytest.approx(min(losses), rel=1e-5)
    assert run.score.log_loss < losses[-1] - 0.01


def test_figures_of_all_validation_photos_choose_the_weights_that_are_kept(
    tmp_path: Path,
) -> None:
    watched = ["val_log_loss", "val_macro_f1", "val_balanced_accuracy", "val_auc"]
    held_out = np.arange(PHOTOS) // 2 % 4 == 0  # A quarter of each class.
    labels = np.arange(PHOTOS) % 2
    for name in watched:
        chosen = recipe(keep_best=name, stages=[{**ALL, "epochs": 4}])
        run = in_a_new_process(job(tmp_path / name, chosen, held_out=held_out, labels=labels))
        values = [row[name] for row in run.history]
        best = np.argmin(values) if name.endswith("loss") else np.argmax(values)
        assert run.best_epoch == best + 1
        kept = getattr(run.score, name.removeprefix("val_"))
        assert kept == pytest.approx(values[best], rel=1e-5)
        again = load_run(run.folder)
        assert [row[name] for row in again.history] == pytest.approx(values)


def test_focal_loss_is_that_of_the_paper(tmp_path: Path) -> None:
    chosen = recipe(
        loss="focal", focal_gamma=3, keep_best="val_loss", stages=[{**ALL, "epochs": 1}]
    )
    run = in_a_new_process(job(tmp_path / "run", chosen))
    validation = run.validation
    assert validation is not None
    true = validation.probabilities[np.arange(HELD_OUT), validation.labels].astype(float)
    expected = (-((1 - true) ** 3) * np.log(true)).mean()
    assert run.history[0]["val_loss"] == pytest.approx(expected, rel=1e-4)


def test_class_weights_count_in_the_training_loss_alone(tmp_path: Path) -> None:
    frozen = [{"name": "head", "epochs": 1, "frozen_fraction": 1, "learning_rate": 1e-12}]
    plain, weighted = (
        in_a_new_process(job(tmp_path / name, recipe(stages=frozen, augmentor=[], **changes)))
        for name, changes in (("plain", {}), ("weighted", {"class_weights": {"a": 3, "b": 3}}))
    )
    assert weighted.history[0]["loss"] == pytest.approx(3 * plain.history[0]["loss"], rel=1e-4)
    for key in ("accuracy", "val_loss", "val_accuracy"):
        assert weighted.history[0][key] == pytest.approx(plain.history[0][key], rel=1e-5)


def test_a_stage_begins_with_the_best_weights_of_all_before_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"name": "first", "epochs": 4, "frozen_fraction": 0, "learning_rate": 0.003}
    worse = {"name": "worse", "epochs": 1, "frozen_fraction": 0, "learning_rate": 0.1}
    idle = {"name": "idle", "epochs": 1, "frozen_fraction": 1, "learning_rate": 1e-12}
    chosen = recipe(keep_best="val_loss", stages=[first, worse, idle])
    run = in_a_new_process(job(tmp_path / "run", chosen, Reporter(quiet=False)))
    losses = [row["val_loss"] for row in run.history]
    best = int(np.argmin(losses[:4]))
    assert losses[best] < min(losses[3], losses[4]) - 0.01
    assert losses[5] == pytest.approx(losses[best], rel=1e-5)
    told = " ".join(capsys.readouterr().err.split())
    for stage in ("worse", "idle"):
        assert f"stage '{stage}' begins with the weights of epoch {best + 1} " in told


class NoFigureAtFirst(keras.callbacks.Callback):
    """Validation that overflows in the first epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch == 0 and logs is not None:
            logs["val_loss"] = math.nan


def test_a_figure_that_is_no_number_is_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "recipe_callbacks", lambda recipe, validates: [NoFigureAtFirst()])
    chosen = recipe(keep_best="val_loss", stages=[{**ALL, "epochs": 3}])
    run = in_a_new_process(job(tmp_path / "run", chosen))
    losses = [row["val_loss"] for row in run.history]
    assert losses[0] is None
    assert run.best_epoch == 2 + int(np.argmin(losses[1:]))


class Spy(keras.callbacks.Callback):
    """Writes down the weights after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[Any]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(trainable(self.model))


def trainable(model: keras.Model) -> list[Any]:
    return [keras.ops.convert_to_numpy(one).copy() for one in model.trainable_variables]


@pytest.mark.parametrize("validates", [True, False])
def test_the_average_of_all_steps_is_what_is_validated_and_kept(
    validates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy()
    monkeypatch.setattr(room, "recipe_callbacks", lambda recipe, validates: [spy])
    chosen = recipe(ema={"momentum": 0.8}, stages=[{**ALL, "epochs": 3}])
    settings = job(tmp_path / "run", chosen)
    if not validates:
        settings = dataclasses.replace(settings, held_out=np.zeros(PHOTOS, dtype=np.bool_))
    run = in_a_new_process(settings)
    steps_an_epoch = len(spy.steps) // 3
    expected = spy.steps[0]
    for step in spy.steps[1 : run.best_epoch * steps_an_epoch]:
        expected = [0.8 * old + 0.2 * new for old, new in zip(expected, step, strict=True)]
    kept = load_model(run.model_path)
    for one, other in zip(trainable(kept), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    if validates:
        losses = [row["val_loss"] for row in run.history]
        assert run.score.log_loss == pytest.approx(losses[run.best_epoch - 1], rel=1e-5)
    # The statistics are those of the training photos under the averaged weights.
    base = kept.get_layer("backbone")
    photos = np.load(settings.photos)[~settings.held_out].astype(np.float32) / 127.5 - 1
    features = keras.ops.convert_to_numpy(base.layers[1](photos))
    mean = keras.ops.convert_to_numpy(base.layers[2].moving_mean)
    np.testing.assert_allclose(mean, features.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)


def test_only_the_named_stages_average_and_a_frozen_network_keeps_its_statistics(
    tmp_path: Path,
) -> None:
    stages = [{**HEAD, "epochs": 2}]
    plain, other, averaged = (
        in_a_new_process(job(tmp_path / name, recipe(stages=one, ema=ema, keep_best="val_loss")))
        for name, ema, one in (
            ("plain", None, [*stages, ALL]),
            ("other", {"momentum": 0.9, "stages": ["all"]}, [*stages, ALL]),
            ("averaged", {"momentum": 0.9}, stages),
        )
    )
    assert rows(plain)[:2] == rows(other)[:2]
    assert rows(plain)[2] != rows(other)[2]
    assert rows(plain)[0]["loss"] == rows(averaged)[0]["loss"]
    assert rows(plain)[0]["val_loss"] != rows(averaged)[0]["val_loss"]
    normalization = load_model(averaged.model_path).get_layer("backbone").layers[2]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(normalization.moving_mean), 0)


def test_mixed_targets_are_for_training_and_never_for_validation(tmp_path: Path) -> None:
    frozen = [{"name": "head", "epochs": 1, "frozen_fraction": 1, "learning_rate": 1e-12}]
    plain, mixed = (
        in_a_new_process(job(tmp_path / name, recipe(stages=frozen, augmentor=[], **changes)))
        for name, changes in (
            ("plain", {}),
            ("mixed", {"label_smoothing": 0.3, "mixup": {"alpha": 1.0}}),
        )
    )
    assert plain.history[0]["loss"] != pytest.approx(mixed.history[0]["loss"], rel=1e-3)
    assert plain.history[0]["val_loss"] == pytest.approx(mixed.history[0]["val_loss"], rel=1e-5)


def test_a_later_stage_trains_what_an_earlier_one_froze(tmp_path: Path) -> None:
    stages = [
        {"name": "head", "epochs": 1, "frozen_fraction": 1},
        {"name": "all", "epochs": 1, "frozen_fraction": 0},
    ]
    runs = [
        in_a_new_process(job(tmp_path / str(count), recipe(stages=stages[:count])))
        for count in (1, 2)
    ]
    head_only, both = (load_model(run.model_path).get_layer("backbone") for run in runs)
    kernels = [np.array(base.layers[1].kernel) for base in (head_only, both)]
    assert not np.allclose(kernels[0], kernels[1])


@pytest.mark.numeric
def test_validation_photos_are_measured_as_they_are(tmp_path: Path) -> None:
    black = [
        {
            "CoarseDropout": {
                "num_holes_range": [1, 1],
                "hole_height_range": [1.0, 1.0],
                "hole_width_range": [1.0, 1.0],
                "p": 1.0,
            }
        }
    ]
    settings = job(tmp_path / "run", recipe(augmentor=black))
    run = in_a_new_process(settings)
    validation = run.validation
    assert validation is not None
    photos = np.load(settings.photos)
    expected = predict(load_model(run.model_path), photos, np.arange(HELD_OUT), 7)
    np.testing.assert_allclose(validation.probabilities, expected, atol=1e-6)
    assert validation.ids.tolist() == [f"{number}.jpg" for number in range(HELD_OUT)]
    np.testing.assert_array_equal(validation.labels, 2)
    assert np.ptp(expected, axis=0).max() > 1e-4


def test_training_on_all_photos_keeps_the_last_epoch_and_claims_no_score(tmp_path: Path) -> None:
    none = np.zeros(PHOTOS, dtype=np.bool_)
    chosen = recipe(
        keep_best="val_accuracy", early_stopping={"monitor": "val_accuracy", "patience": 1}
    )
    settings = job(tmp_path / "run", chosen, held_out=none)
    seen = dataclasses.replace(settings.data, validation_photos=0)
    run = in_a_new_process(dataclasses.replace(settings, data=seen))
    assert run.epochs == run.best_epoch == 4
    assert run.score is None
    assert run.validation is None
    assert {row["val_loss"] for row in run.history} == {None}


def test_a_finished_run_holds_its_results_and_nothing_of_the_work(tmp_path: Path) -> None:
    run = in_a_new_process(job(tmp_path / "run", recipe()))
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "history.csv",
        "model.keras",
        "recipe.yaml",
        "run.json",
        "validation.npz",
    ]
    assert load_run(run.folder) == run
    with zipfile.ZipFile(run.model_path) as archive:
        assert "optimizer" not in archive.read("config.json").decode()


def checkpoints(run: Path) -> dict[str, set[str]]:
    """Kinds of checkpoint by epoch."""
    found: dict[str, set[str]] = {}
    for path in (run / CHECKPOINTS).iterdir():
        number, kind, _ = path.name.split(".")
        found.setdefault(number, set()).add(kind)
    return found


def test_the_best_epoch_is_kept_without_its_optimizer_and_the_last_once(tmp_path: Path) -> None:
    worse = {"name": "worse", "epochs": 3, "frozen_fraction": 0, "learning_rate": 0.1}
    settings = job(
        tmp_path / "run",
        recipe(keep_best="val_loss", stages=[{**worse, "name": "first", "epochs": 1}, worse]),
        KillsAfterEveryEpoch(),
    )
    seen = []
    for _ in range(3):
        with pytest.raises(Killed):
            in_a_new_process(settings)
        seen.append((Progress.load(settings.folder), checkpoints(settings.folder)))
    for progress, found in seen:
        assert progress is not None
        best, last = f"epoch-{progress.best_epoch:04d}", f"epoch-{len(progress.history):04d}"
        if progress.stage_done:  # The next stage begins with the best weights and nothing else.
            assert found == {best: {"weights"}}
        else:
            assert found == {best: {"weights"}, last: {"weights", "optimizer"}}
    assert {progress.best_epoch for progress, _ in seen if progress} != {1, 2, 3}


def test_a_run_that_ends_before_a_checkpoint_is_due_writes_none(tmp_path: Path) -> None:
    settings = job(tmp_path / "run", recipe(), KillsAfterEveryEpoch(), checkpoint_every_s=3600.0)
    with pytest.raises(Killed):
        in_a_new_process(settings)
    assert not (settings.folder / CHECKPOINTS).exists()
    assert (settings.folder / PROGRESS).is_file()
    again = dataclasses.replace(settings, reporter=SILENT)
    assert_same_run(in_a_new_process(again), in_a_new_process(job(tmp_path / "other", recipe())))


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_checkpoint_is_written_after_the_first_epoch_that_ends_when_it_is_due(
    tmp_path: Path,
) -> None:
    clock = Clock()
    kept = Checkpoints(tmp_path, 120, clock)
    model = small_network(recipe(), CLASSES, pretrained=False)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    progress, written = Progress(identity={}), []
    bias = model.get_layer("probabilities").bias
    for number in range(1, 9):  # Of 50 s each; the third is the best, and the fourth.
        clock.now += 50
        progress.history.append({})
        bias.assign(np.full(CLASSES, number))
        if best := number <= 4:
            progress.best_epoch = number
        kept.epoch_ended(model, progress, best=best)
        on_disk = Progress.load(tmp_path)
        written.append(len(on_disk.history) if on_disk else 0)
        kept.set_best(model, progress)
        np.testing.assert_array_equal(np.array(bias), min(number, 4))
    assert written == [0, 0, 3, 3, 3, 6, 6, 6]
    assert checkpoints(tmp_path) == {
        "epoch-0004": {"weights"},
        "epoch-0006": {"weights", "optimizer"},
    }


@pytest.mark.parametrize("kind", ["weights", "optimizer"])
@pytest.mark.parametrize("damage", [b"half a file", None])
def test_a_checkpoint_that_cannot_be_read_is_told_with_the_way_out(
    kind: str, damage: bytes | None, tmp_path: Path
) -> None:
    stages = [{**ALL, "epochs": 3}]
    settings = job(tmp_path / "run", recipe(stages=stages), KillsAfterEveryEpoch())
    with pytest.raises(Killed):
        in_a_new_process(settings)
    checkpoint = settings.folder / CHECKPOINTS / f"epoch-0001.{kind}.npz"
    if damage is None:
        checkpoint.unlink()
    else:
        checkpoint.write_bytes(damage)
    with pytest.raises(
        ToolkitError, match=f"{checkpoint.name}: the checkpoint cannot be read.*Remove .*run to"
    ):
        in_a_new_process(settings)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_loss_that_is_no_number_ends_training_with_advice(tmp_path: Path) -> None:
    wild = recipe(optimizer={"name": "SGD", "learning_rate": 1e30}, stages=recipe().stages[1:])
    with pytest.raises(ToolkitError, match=r"the loss became .* Lower optimizer\.learning_rate"):
        in_a_new_process(job(tmp_path / "run", wild))


def test_mixed_precision_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="`mixed_precision=True`: no GPU is visible"):
        in_a_new_process(job(tmp_path / "run", recipe(), mixed_precision=True))


def test_every_epoch_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_a_new_process(job(tmp_path / "run", recipe(), Reporter(quiet=False)))
    lines = capsys.readouterr().err.splitlines()
    pattern = r"mobilenetv3small (head|all) \d/\d  loss \S+  accuracy \S+  validation loss"
    assert sum(bool(re.match(pattern, line)) for line in lines) == 4
