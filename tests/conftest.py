"""What all tests share: a cache of their own, photos that go wrong, and the real cars."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# albumentations asks the network for a newer version as soon as it is imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

if TYPE_CHECKING:
    from toolkit.inference.bundle import Bundle
    from toolkit.training.run import Run

RED, GREEN, BLUE, YELLOW = (220, 30, 40), (20, 160, 60), (30, 50, 200), (230, 210, 20)

CARS10 = Path(__file__).parents[1] / ".." / "shared" / "data" / "cars10.zip"

# Where the EXIF standard says row 0 and column 0 of the stored picture are in the upright one.
EXIF_SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.fixture(scope="session")
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(_cache_of_the_session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))


@pytest.fixture(scope="session")
def draw_photo() -> Callable[..., Image.Image]:
    """A function that draws a soft, photo-like picture: other seeds, other pictures."""

    def draw(seed: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)

    return draw


@pytest.fixture(scope="session")
def hostile_photos(
    tmp_path_factory: pytest.TempPathFactory, draw_photo: Callable[..., Image.Image]
) -> Path:
    """A folder of photos as people really have them; `missing.jpg` is not in it.

    The four quarters of most of them are red, green, blue and yellow: `four_quarters`.
    """
    folder = tmp_path_factory.mktemp("hostile")
    upright = four_quarters()
    photo = Image.fromarray(upright)
    best = {"quality": 95, "subsampling": 0}

    photo.save(folder / "whole.jpg", **best)
    whole = (folder / "whole.jpg").read_bytes()
    draw_photo(0).save(folder / "truncated.jpg")
    large = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(large[: len(large) * 2 // 3])
    (folder / "header_only.jpg").write_bytes(whole[:300])
    (folder / "zero_bytes.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("This is no photo.\n" * 20, encoding="utf-8")
    (folder / "Käfer & Söhne (1) 車.jpg").write_bytes(whole)
    photo.save(folder / "junk_exif.jpg", exif=b"Exif\0\0no such thing", **best)
    for orientation in EXIF_SIDES:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(stored_as(upright, orientation))
        stored.save(folder / f"exif_{orientation}.jpg", exif=exif, **best)

    if features.check("avif"):
        photo.save(folder / "damaged.avif")
        content = (folder / "damaged.avif").read_bytes()
        start = content.index(b"mdat") + 4
        (folder / "damaged.avif").write_bytes(content[:start] + bytes(len(content) - start))

    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(folder / "cmyk.jpg", quality=95)
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024 + 255
    Image.fromarray(ramp).save(folder / "grey16.png")
    colour16 = np.stack([ramp, ramp[::-1], np.full_like(ramp, 0x80FF)], axis=2)
    assert cv2.imwrite(str(folder / "rgb16.png"), np.ascontiguousarray(colour16[..., ::-1]))

    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *GREEN])
    palette.putdata([0, 1])
    palette.save(folder / "palette_alpha.png", transparency=b"\xff\x00")
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(*RED, 255), (*RED, 0), (0, 0, 0, 128)])
    rgba.save(folder / "rgba.png")
    la = Image.new("LA", (2, 1))
    la.putdata([(50, 255), (50, 0)])
    la.save(folder / "la.png")

    Image.new("RGB", (1, 1), RED).save(folder / "one_pixel.png")
    photo.save(folder / "photo.bmp")
    frames = [photo.quantize(16), Image.new("P", photo.size)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (12_000, 9_000), BLUE).save(folder / "huge.jpg", quality=75)
    huge = Image.new("P", (12_000, 9_000))
    huge.putpalette(BLUE)
    huge.save(folder / "huge.png", compress_level=1)
    return folder


@pytest.fixture(scope="session")
def stored() -> Callable[[int], Image.Image]:
    """A function that returns the four quarters as a camera of an EXIF orientation stores them."""
    return lambda orientation: Image.fromarray(stored_as(four_quarters(), orientation))


@pytest.fixture(scope="session")
def cars10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the real cars, extracted."""
    archive = Path(os.environ.get("TOOLKIT_CARS10", CARS10)).resolve()
    if not archive.is_file():
        pytest.skip(f"the real photos are not here ({archive}); name them with TOOLKIT_CARS10")
    folder = tmp_path_factory.mktemp("cars10")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return next(path.parent for path in sorted(folder.rglob("train.csv")))


def four_quarters() -> NDArray[np.uint8]:
    """Red and green above, blue and yellow below; 48 wide and 32 high."""
    picture = np.empty((32, 48, 3), dtype=np.uint8)
    picture[:16, :24], picture[:16, 24:] = RED, GREEN
    picture[16:, :24], picture[16:, 24:] = BLUE, YELLOW
    return picture


def stored_as(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the pixels that a camera stores, pixel by pixel as the EXIF standard words it."""
    height, width = upright.shape[:2]
    row_side, column_side = EXIF_SIDES[orientation]
    swapped = row_side in ("left", "right")
    stored = np.empty((width, height, 3) if swapped else (height, width, 3), dtype=np.uint8)
    for row in range(stored.shape[0]):
        for column in range(stored.shape[1]):
            place = {row_side: row, column_side: column}
            y = place["top"] if "top" in place else height - 1 - place["bottom"]
            x = place["left"] if "left" in place else width - 1 - place["right"]
            stored[row, column] = upright[y, x]
    return stored


# Finished runs and their bundle, trained and exported once a session.


@dataclass(frozen=True)
class Trained:
    """What a user has after `toolkit train`.

    Attributes:
        data: Sixty drawn photos in ten classes, in the layout of a Kaggle competition.
        recipes: A folder with a recipe set of one small network and two stages.
        folder: Of the runs.
        runs: `mobilenetv3small`, and `mobilenetv3small-second`, which had another training seed.
    """

    data: Path
    recipes: Path
    folder: Path
    runs: list[Run]


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and three test photos of each of the ten drawn vehicles."""
    from toolkit.data.demo import make_demo

    folder = tmp_path_factory.mktemp("demo") / "data"
    make_demo(folder, train_per_class=6, test_per_class=3)
    return folder


@pytest.fixture(scope="session")
def small_recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe set that trains one small network in seconds and uses all that a recipe can say."""
    folder = tmp_path_factory.mktemp("recipes") / "small"
    folder.mkdir()
    (folder / "augmentor.yaml").write_text("- HorizontalFlip: {p: 0.5}\n", encoding="utf-8")
    (folder / "mobilenetv3small.yaml").write_text("# As the set says.\n", encoding="utf-8")
    (folder / "set.yaml").write_text(
        """\
image_size: 32
batch_size: 8
validation_fraction: 0.2
seed: 42
weights: none
pixels: own
batch_norm_momentum: 0.8
loss: categorical_crossentropy
optimizer: {name: Adamax, learning_rate: 0.003}
head:
  pooling: average
  layers:
    - dropout: {rate: 0.2}
reduce_on_plateau: {monitor: val_loss, factor: 0.5, patience: 2}
early_stopping: {monitor: loss, patience: 3}
keep_best: accuracy
stages:
  - {name: head, epochs: 1, frozen_fraction: 1, learning_rate: 0.01}
  - {name: all, epochs: 6, frozen_fraction: 0}
""",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="session")
def trained(
    demo_data: Path,
    small_recipes: Path,
    _cache_of_the_session: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    """Two finished runs. Tests must not change what lies in their folders."""
    from toolkit.training.recipe_files import load_set
    from toolkit.training.train import TrainingOptions, train

    folder = tmp_path_factory.mktemp("trained") / "runs"
    recipes = load_set(str(small_recipes))
    first = TrainingOptions(data=demo_data, runs=folder)
    second = TrainingOptions(data=demo_data, runs=folder, name="second", seed=7)
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        runs = [train(recipes, ["mobilenetv3small"], each)[0] for each in (first, second)]
    return Trained(demo_data, small_recipes, folder, runs)


@pytest.fixture(scope="session")
def folds(
    demo_data: Path,
    small_recipes: Path,
    _cache_of_the_session: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Run]:
    """Three folds of a backbone, trained in two calls, a fifth of the photos outside.

    Tests must not change what lies in their folders.
    """
    from toolkit.training.recipe_files import load_set
    from toolkit.training.train import TrainingOptions, train

    runs, small = tmp_path_factory.mktemp("folds") / "runs", "mobilenetv3small"
    recipes = load_set(str(small_recipes))

    def options(*only: int) -> TrainingOptions:
        return TrainingOptions(
            data=demo_data, runs=runs, folds=3, holdout=0.2, only_folds=only or None, jobs=1
        )

    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        alone = train(recipes, [small], options(1))
        made = train(recipes, [small], options())
    assert alone[0].finished == made[1].finished  # Not trained again.
    return made


@pytest.fixture(scope="session")
def exported(
    trained: Trained, _cache_of_the_session: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The bundle of both runs. Tests must not change what lies in its folder."""
    from toolkit.exporting.export import ExportOptions, export

    folder = tmp_path_factory.mktemp("exported") / "bundle"
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        return export(trained.runs, ExportOptions(bundle=folder))


# A bundle without training: three members whose arithmetic a test can do itself.

TINY_CLASSES = ("2", "10", "x y")
TINY_SIZES = {"alpha": 32, "beta": 32, "gamma": 48}
TINY_GRID = 4


@dataclass(frozen=True)
class TinyBundle:
    """A bundle of three hand-written networks, and their weights.

    Attributes:
        folder: The bundle. It is shared by all tests: `copy` it to change it.
        layers: By member, the weights (48, 3) and the bias (3,) of its one layer.
    """

    folder: Path
    layers: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    classes: tuple[str, ...] = TINY_CLASSES

    def reference(self, member: str, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """A member's probabilities in plain NumPy: shape (n, S, S, 3) in, (n, classes) out."""
        weights, bias = self.layers[member]
        side = images.shape[1] // TINY_GRID
        cells = images.astype(np.float64).reshape(-1, TINY_GRID, side, TINY_GRID, side, 3) / 255
        logits = cells.mean(axis=(2, 4)).reshape(len(images), -1) @ weights.astype(float) + bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.folder, folder))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    """A bundle of the members alpha and beta (32 px) and gamma (48 px), written by hand.

    `auto` votes 'fitted' (gamma has no vote, temperature 1.5) for an even number of views, and
    'uniform' for an odd one. Random views of alpha and beta are drawn, those of gamma are mirrored.
    """
    pytest.importorskip("onnx")
    from toolkit.data.pixels import PixelDefinition
    from toolkit.files import sha256_file
    from toolkit.inference import bundle as module

    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    folder.mkdir()
    generator = np.random.default_rng(7)
    layers = {}
    for name, size in TINY_SIZES.items():
        weights = generator.normal(0, 2, (TINY_GRID * TINY_GRID * 3, 3)).astype(np.float32)
        bias = (-weights.mean(axis=0) * len(weights) / 2).astype(np.float32)
        layers[name] = weights, bias
        write_tiny_network(folder / f"{name}.onnx", size, weights, bias)
    drawn = ({"HorizontalFlip": {"p": 0.5}}, {"RandomBrightnessContrast": {"p": 1.0}})
    augmentors = {"alpha": drawn, "beta": drawn, "gamma": ({"HorizontalFlip": {"p": 1.0}},)}
    labels = np.arange(12) % len(TINY_CLASSES)
    np.savez(
        folder / module.VALIDATION,
        ids=np.array([f"{number}.jpg" for number in range(12)]),
        labels=labels,
        groups=np.arange(12),
        probabilities=generator.dirichlet((1, 1, 1), (3, 12, 8)).astype(np.float32),
    )

    def alternative(*weights: float, temperature: float = 1.0) -> module.Alternative:
        return module.Alternative(weights, temperature, accuracy=0.5, log_loss=1.0)

    alternatives = {
        "uniform": alternative(1 / 3, 1 / 3, 1 / 3),
        "accuracy": alternative(0.2, 0.3, 0.5, temperature=0.8),
        "fitted": alternative(0.75, 0.25, 0.0, temperature=1.5),
    }
    module.save_bundle(
        module.Bundle(
            folder=folder,
            created="2026-01-01T00:00:00+00:00",
            versions={},
            classes=TINY_CLASSES,
            names={"2": "two"},
            class_prior=(0.2, 0.5, 0.3),
            pixels=PixelDefinition(),
            data=module.TrainedOn("of other photos", 42, 0.2),
            members=tuple(
                module.Member(
                    name=name,
                    run=f"tiny/{name}",
                    model_sha256="0" * 64,
                    backbone="Tiny",
                    file=f"{name}.onnx",
                    sha256=sha256_file(folder / f"{name}.onnx"),
                    precision="int8" if name == "gamma" else "fp32",
                    image_size=size,
                    augmentor=augmentors[name],
                    score=None,
                    parity=None,
                )
                for name, size in TINY_SIZES.items()
            ),
            voting={
                views: module.VotingTable(
                    "uniform" if views % 2 else "fitted", "", alternatives, None
                )
                for views in range(1, 9)
            },
            requested_voting="auto",
            validation_sha256=sha256_file(folder / module.VALIDATION),
        )
    )
    return TinyBundle(folder, layers)


@pytest.fixture(scope="session")
def bundle_of(tiny_bundle: TinyBundle) -> Callable[..., Path]:
    """Make `bundle_of(folder, classes)`: a bundle of one member, for any classes."""
    from dataclasses import replace

    from toolkit.files import sha256_file
    from toolkit.inference import bundle as module

    def make(folder: Path, classes: Sequence[str], names: Mapping[str, str] | None = None) -> Path:
        folder.mkdir(parents=True)
        generator = np.random.default_rng(len(classes))
        weights = generator.normal(0, 2, (TINY_GRID * TINY_GRID * 3, len(classes)))
        bias = -weights.mean(axis=0) * len(weights) / 2
        file = folder / "alpha.onnx"
        write_tiny_network(file, 32, weights.astype(np.float32), bias.astype(np.float32))
        made = module.load_bundle(tiny_bundle.folder)
        alone = {"uniform": module.Alternative((1.0,), 1.0, None, None)}
        module.save_bundle(
            replace(
                made,
                folder=folder,
                classes=tuple(classes),
                names=dict(names or {}),
                class_prior=(1 / len(classes),) * len(classes),
                members=(replace(made.members[0], sha256=sha256_file(file)),),
                voting=dict.fromkeys(range(1, 9), module.VotingTable("uniform", "", alone, None)),
                validation_sha256="",
            )
        )
        return folder

    return make


@pytest.fixture(scope="session")
def plannable(
    tiny_bundle: TinyBundle,
    tmp_path_factory: pytest.TempPathFactory,
    draw_photo: Callable[..., Image.Image],
) -> Path:
    """The folder of a bundle that a plan pays for, which tests must not change.

    Its members mostly agree, and alpha is there in INT8 too. `validation.npz` holds what they say
    of 160 drawn photos, in groups of two. `auto` votes 0.5, 0.2, 0.3 with temperature 1.5, and
    'pair' leaves gamma out.
    """
    from dataclasses import replace

    from toolkit.data.pixels import from_array
    from toolkit.files import sha256_file
    from toolkit.inference import bundle as module
    from toolkit.inference.calls import ModelKey
    from toolkit.inference.devices import Device
    from toolkit.inference.sessions import open_session
    from toolkit.inference.views import VIEWS
    from toolkit.inference.voting import vote

    folder = tiny_bundle.copy(tmp_path_factory.mktemp("plannable") / "bundle")
    generator = np.random.default_rng(3)
    common, _ = tiny_bundle.layers["alpha"]

    def write(name: str, size: int, weights: NDArray[np.float32]) -> str:
        bias = (-weights.mean(axis=0) * len(weights) / 2).astype(np.float32)
        write_tiny_network(folder / name, size, weights, bias)
        return sha256_file(folder / name)

    layers = {
        name: common + generator.normal(0, 0.5, common.shape).astype(np.float32)
        for name in TINY_SIZES
    }
    files = {name: write(f"{name}.onnx", TINY_SIZES[name], layers[name]) for name in layers}
    rounded = np.round(4 * layers["alpha"]) / 4
    coarse = {"alpha.int8.onnx": write("alpha.int8.onnx", TINY_SIZES["alpha"], rounded)}
    made = module.load_bundle(folder)
    members = tuple(
        replace(
            member,
            sha256=files[member.name],
            precision="fp32",
            variants=(
                (module.Variant("int8", "onnxruntime", coarse, module.Judged("made for tests")),)
                if member.name == "alpha"
                else ()
            ),
        )
        for member in made.members
    )
    photos = [from_array(np.asarray(draw_photo(5000 + n, (40, 30)))) for n in range(160)]
    device, said = Device("cpu", "processor"), {}
    for member in members:
        seen = [member.square(photo) for photo in photos]
        for precision in ("fp32", *(variant.precision for variant in member.variants)):
            session = open_session(folder, member, precision, device, 1, 16)
            views = [np.stack([view(photo) for photo in seen]) for view in VIEWS]
            answers = [session.run(session.place(images), len(images)) for images in views]
            said[member.name, precision] = np.stack(answers, axis=1)
    exactly = [said[member.name, "fp32"] for member in members]
    weights = (0.5, 0.2, 0.3)
    labels = vote(exactly, weights, 1.0).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % len(TINY_CLASSES)
    module.BundleValidation(
        ids=np.array([f"{number}.jpg" for number in range(len(photos))]),
        labels=labels,
        groups=np.arange(len(photos)) // 2,
        probabilities=np.stack(exactly),
        variants={ModelKey("alpha", "int8"): said["alpha", "int8"]},
    ).save(folder / module.VALIDATION)
    alternatives = {
        "fitted": module.Alternative(weights, 1.5, 0.9, 0.4),
        "pair": module.Alternative((0.75, 0.25, 0.0), 1.0, 0.9, 0.4),
    }
    module.save_bundle(
        replace(
            made,
            members=members,
            voting={n: module.VotingTable("fitted", "", alternatives, None) for n in range(1, 9)},
            validation_sha256=sha256_file(folder / module.VALIDATION),
        )
    )
    return folder


HOSTILE_NAMES = {"2": "<b>bold</b>", "10": "</script><script>alert(1)</script>", "x y": "A & B"}


@pytest.fixture(scope="session")
def finished_job(
    tiny_bundle: TinyBundle,
    tmp_path_factory: pytest.TempPathFactory,
    _cache_of_the_session: Path,
    draw_photo: Callable[..., Image.Image],
) -> Path:
    """A folder with `data/`, `runs/`, `bundle/`, a submission of two views and `labels.csv`.

    The held-out photos are the 12 labelled ones. `3.jpg` is broken, `6.jpg` is `0.jpg` again, and
    the test photo `t0.jpg` is `1.jpg`. The names of the classes are no names to be trusted. Tests
    must not change what lies there.
    """
    from dataclasses import replace

    from toolkit.data.labelled import load_labelled
    from toolkit.inference import bundle as module
    from toolkit.reporting.job import submit

    folder = tmp_path_factory.mktemp("finished")
    data = folder / "data"
    (data / "test_upload").mkdir(parents=True)
    rows, tests = ["Id,Category"], ["Id,Category"]
    for number in range(12):
        category = TINY_CLASSES[number % 3]
        (data / "train" / category).mkdir(parents=True, exist_ok=True)
        path = data / "train" / category / f"{number}.jpg"
        draw_photo(900 if number == 6 else 900 + number, (100, 75)).save(path)
        rows.append(f"{number}.jpg,{category}")
    (data / "train" / TINY_CLASSES[0] / "3.jpg").write_bytes(b"no photo")
    for number in range(6):
        tests.append(f"t{number}.jpg,{TINY_CLASSES[number % 3]}")
        seed = 901 if number == 0 else 950 + number
        draw_photo(seed, (100, 75)).save(data / "test_upload" / f"t{number}.jpg")
    for name, lines in (
        ("data/train.csv", rows),
        ("data/sample-submission.csv", tests),
        ("labels.csv", tests),
        ("data/classes.csv", ["Category,Name", *(f"{c},{n}" for c, n in HOSTILE_NAMES.items())]),
    ):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    bundle = module.load_bundle(tiny_bundle.copy(folder / "bundle"))
    judged = {
        views: replace(
            table,
            best_single=module.BestSingle("alpha", 0.4, 1.1),
            reason="made for tests",
        )
        for views, table in bundle.voting.items()
    }
    fingerprint = load_labelled(data).without(["3.jpg"]).fingerprint
    seen = replace(bundle.data, fingerprint=fingerprint)
    module.save_bundle(replace(bundle, names=HOSTILE_NAMES, voting=judged, data=seen))
    for backbone in ("xception", "efficientnetb3"):
        write_run(folder / "runs" / "improved" / backbone, backbone, fingerprint)
    settings = {"tta": 2, "tta_views": "fixed", "voting": "auto", "device": "cpu"}
    settings |= {"batch": 4, "threads": 1, "seed": 0}
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        submit(folder / "bundle", data, folder / "submission.csv", settings)
    return folder


def write_run(folder: Path, backbone: str, fingerprint: str) -> None:
    """Write a run of the improved set as if it had been trained: three epochs in two stages."""
    from toolkit.files import sha256_json
    from toolkit.metrics import Score
    from toolkit.training.recipe_files import load_set
    from toolkit.training.run import DataSeen, Run, save_run, write_history

    folder.mkdir(parents=True)
    figures = [(1, 1.4, 0.4, 1.2, 0.5), (2, 0.9, 0.6, 0.8, 0.75), (3, 0.5, 0.8, 0.9, 0.7)]
    keys = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    write_history(
        folder,
        [
            dict(zip(keys, row, strict=True))
            | {"stage": "head" if row[0] < 3 else "all", "learning_rate": 1e-3, "seconds": 2.5}
            for row in figures
        ],
    )
    data = DataSeen("/elsewhere", fingerprint, TINY_CLASSES, (4, 4, 4), 42, 0.2, 48, 12, ("3.jpg",))
    interval = (0.47, 0.91)
    score = Score(12, 0.75, interval, log_loss=0.8, calibration_error=0.1)
    recipe = load_set("improved").recipe(backbone)
    save_run(
        Run(
            folder=folder,
            recipe=recipe,
            data=data,
            identity={"seed": 42, "pretrained": "imagenet"},
            score=score,
            epochs=3,
            seconds=7.5,
            best_epoch=2,
            finished="2026-01-01T00:00:00.000+00:00",
            versions={"backend": "tensorflow", "keras": "3"},
            model_sha256=sha256_json(backbone),
            peak_memory_bytes=3 * 2**30,
        )
    )


def write_tiny_network(
    path: Path, size: int, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> None:
    """uint8 images -> /255 -> means of a grid of cells -> one layer -> softmax."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    side = size // TINY_GRID
    constants = {
        "scale": np.float32(255).reshape(()),
        "cells": np.array([-1, TINY_GRID, side, TINY_GRID, side, 3], dtype=np.int64),
        "within": np.array([2, 4], dtype=np.int64),
        "weights": weights,
        "bias": bias,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "cells"], ["celled"]),
        helper.make_node("ReduceMean", ["celled", "within"], ["means"], keepdims=0),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    classes = len(bias)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
