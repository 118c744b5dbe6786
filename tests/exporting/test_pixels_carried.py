"""From a recipe to the fused file: ranges, proportions and the stored size go all the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.cache import decoded_photos
from toolkit.data.pixels import Square
from toolkit.data.ranges import GREY_16, Range
from toolkit.errors import ToolkitError
from toolkit.exporting.export import ExportOptions, export
from toolkit.inference.bundle import Bundle
from toolkit.inference.ensemble import Ensemble
from toolkit.training.predict import predict_run
from toolkit.training.recipe_files import load_set
from toolkit.training.run import Run, load_run
from toolkit.training.train import TrainingOptions, train

RESIZES = ("letterbox", "center_crop")


def twelve_bits(folder: Path) -> Path:
    """Two classes of grey photos of 12 bits in 16, wide or high: a bright end left or right."""
    generator = np.random.default_rng(4)
    for label in ("left", "right"):
        (folder / label).mkdir(parents=True)
        for number in range(14):
            height, width = (20, 44) if number % 2 else (40, 26)
            ramp = np.linspace(3800, 100, width)
            noise = generator.integers(0, 200, (height, width))
            values = (ramp if label == "left" else ramp[::-1]) + noise
            Image.fromarray(values.astype(np.uint16)).save(folder / label / f"{number}.png")
    return folder


def reference(path: Path, resize: str) -> NDArray[np.uint8]:
    """The 32 pixels of a network's input, by Pillow's own tools."""
    from PIL import ImageOps

    with Image.open(path) as image:
        grey = Image.fromarray((np.asarray(image) >> 4).astype(np.uint8)).convert("RGB")
    if resize == "center_crop":
        side = min(grey.size)
        left, top = (grey.width - side) // 2, (grey.height - side) // 2
        grey = grey.crop((left, top, left + side, top + side))
        return np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR))
    bilinear = Image.Resampling.BILINEAR
    small = ImageOps.contain(grey, (32, 32), bilinear)
    whole = Image.new("RGB", (32, 32), (124, 116, 104))
    whole.paste(small, ((32 - small.width) // 2, (32 - small.height) // 2))
    return np.asarray(whole)


@dataclass(frozen=True)
class Made:
    data: Path
    paths: list[Path]
    runs: list[Run]
    bundle: Bundle


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, small_recipes: Path, _cache_of_the_session: Path
) -> Made:
    """A letterboxed member whose augmentor crops from 64 pixels, and one of the central square."""
    folder = tmp_path_factory.mktemp("carried")
    data = twelve_bits(folder / "data")
    text = (small_recipes / "set.yaml").read_text(encoding="utf-8")
    runs = []
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        for resize in RESIZES:
            recipes = folder / resize
            recipes.mkdir()
            store = "store_size: 64\n" if resize == "letterbox" else ""
            (recipes / "set.yaml").write_text(f"resize: {resize}\n{store}{text}", encoding="utf-8")
            (recipes / "mobilenetv3small.yaml").write_text("# As the set says.\n", encoding="utf-8")
            crop = "- RandomResizedCrop: {size: [32, 32], scale: [0.5, 1.0]}\n"
            (recipes / "augmentor.yaml").write_text(
                crop if store else "- Blur: {p: 0.5}\n", encoding="utf-8"
            )
            options = TrainingOptions(data=data, runs=folder / "runs")
            runs += train(load_set(str(recipes)), ["mobilenetv3small"], options)
        bundle = export(runs, ExportOptions(bundle=folder / "bundle"))
    return Made(data, sorted(data.glob("*/*.png")), runs, bundle)


def test_the_run_records_them(made: Made) -> None:
    for run, resize in zip(made.runs, RESIZES, strict=True):
        again = load_run(run.folder)
        assert again.data.pixels.ranges == {GREY_16: Range(0, 4095)}
        assert again.recipe.square == Square(32, resize)
        recorded = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
        assert recorded["data"]["pixels"]["ranges"] == {GREY_16: {"low": 0.0, "high": 4095.0}}
        assert recorded["identity"]["recipe"]["resize"] == resize
    assert made.runs[0].recipe.stored_square == Square(64, "letterbox")


def test_the_bundle_records_them(made: Made) -> None:
    assert made.bundle.pixels.ranges == {GREY_16: Range(0, 4095)}
    assert [member.square for member in made.bundle.members] == [
        Square(32, resize) for resize in RESIZES
    ]
    assert [member.store_size for member in made.bundle.members] == [64, None]


@pytest.mark.parametrize("number", [0, 1], ids=RESIZES)
def test_validation_saw_the_plain_square_of_the_original(made: Made, number: int) -> None:
    run, resize = made.runs[number], RESIZES[number]
    validation = run.validation
    assert validation is not None
    paths = [made.data / str(id) for id in validation.ids]
    pixels = np.stack([reference(path, resize) for path in paths])
    arrays = made.data.parent / f"{resize}.npy"
    np.save(arrays, pixels)
    from toolkit.processes import in_own_process
    from toolkit.training.predict import _predict_in_child

    expected = in_own_process(_predict_in_child, run.model_path, arrays, 8)
    np.testing.assert_allclose(validation.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(predict_run(run, paths), expected, atol=1e-5)
    name = made.bundle.members[number].name
    served = Ensemble.load(made.bundle, voting=f"{name}=1", device="cpu").predict(paths)
    np.testing.assert_allclose(served, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 1e-3, "photos that all look alike prove nothing"


def test_the_augmentor_was_given_the_stored_size(made: Made) -> None:
    run = made.runs[0]
    from toolkit.data.survey import survey

    hashes = [fact.sha256 for fact in survey(made.paths)]
    for square in (run.recipe.square, run.recipe.stored_square):
        stored = decoded_photos(made.paths, hashes, square, run.data.pixels)
        assert np.load(stored, mmap_mode="r").shape == (28, square.size, square.size, 3)


def test_a_run_of_other_ranges_is_another_run(made: Made) -> None:
    path = next(path for path in made.paths if path.parent.name == "left")
    before = path.read_bytes()
    try:
        Image.fromarray(np.full((20, 44), 16000, dtype=np.uint16)).save(path)
        options = TrainingOptions(data=made.data, runs=made.runs[0].folder.parent.parent)
        with pytest.raises(ToolkitError, match=r"another .*pixels\.ranges"):
            train(load_set(str(made.data.parent / "letterbox")), ["mobilenetv3small"], options)
    finally:
        path.write_bytes(before)
