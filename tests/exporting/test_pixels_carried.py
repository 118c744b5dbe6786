"""From a recipe to the fused file: ranges, proportions and the stored size go all the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from toolkit.data.cache import decoded_photos
from toolkit.data.pixels import Square, load
from toolkit.data.ranges import GREY_16, Range
from toolkit.data.survey import survey
from toolkit.errors import ToolkitError
from toolkit.exporting.export import ExportOptions, export
from toolkit.inference.bundle import Bundle
from toolkit.inference.ensemble import Ensemble
from toolkit.training.recipe_files import load_set
from toolkit.training.run import Run, load_run
from toolkit.training.train import TrainingOptions, train


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


def reference(path: Path) -> NDArray[np.uint8]:
    """The letterbox of 32 pixels that the network shall see, by Pillow's own tools."""
    with Image.open(path) as image:
        grey = Image.fromarray((np.asarray(image) >> 4).astype(np.uint8)).convert("RGB")
    small = ImageOps.contain(grey, (32, 32), Image.Resampling.BILINEAR)
    whole = Image.new("RGB", (32, 32), (124, 116, 104))
    whole.paste(small, ((32 - small.width) // 2, (32 - small.height) // 2))
    return np.asarray(whole)


@dataclass(frozen=True)
class Made:
    """What a user has after training and export."""

    data: Path
    recipes: Path
    run: Run
    bundle: Bundle

    @property
    def paths(self) -> list[Path]:
        return sorted(self.data.glob("*/*.png"))


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, small_recipes: Path, _cache_of_the_session: Path
) -> Made:
    """A letterboxed member whose augmentor crops from 64 pixels."""
    folder = tmp_path_factory.mktemp("carried")
    data, recipes = twelve_bits(folder / "data"), folder / "recipes"
    recipes.mkdir()
    text = (
        (small_recipes / "set.yaml").read_text(encoding="utf-8").replace("epochs: 6", "epochs: 1")
    )
    own = "resize: letterbox\nstore_size: 64\nreestimate_batch_norm: true\n"
    (recipes / "set.yaml").write_text(own + text, encoding="utf-8")
    (recipes / "mobilenetv3small.yaml").write_text("# As the set says.\n", encoding="utf-8")
    crop = "- RandomResizedCrop: {size: [32, 32], scale: [0.5, 1.0]}\n"
    (recipes / "augmentor.yaml").write_text(crop, encoding="utf-8")
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        options = TrainingOptions(data=data, runs=folder / "runs")
        (run,) = train(load_set(str(recipes)), ["mobilenetv3small"], options)
        bundle = export([run], ExportOptions(bundle=folder / "bundle"))
    return Made(data, recipes, run, bundle)


def test_the_run_records_them(made: Made) -> None:
    again = load_run(made.run.folder)
    assert again.data.pixels.ranges == {GREY_16: Range(0, 4095)}
    assert again.recipe.square == Square(32, "letterbox")
    assert again.recipe.stored_square == Square(64, "letterbox")
    recorded = json.loads((made.run.folder / "run.json").read_text(encoding="utf-8"))
    assert recorded["data"]["pixels"]["ranges"] == {GREY_16: {"low": 0.0, "high": 4095.0}}
    assert recorded["identity"]["recipe"]["resize"] == "letterbox"


def test_the_bundle_records_them(made: Made) -> None:
    assert made.bundle.pixels.ranges == {GREY_16: Range(0, 4095)}
    (member,) = made.bundle.members
    assert (member.square, member.store_size) == (Square(32, "letterbox"), 64)


def test_validation_and_serving_see_the_plain_square_of_the_original(made: Made) -> None:
    validation = made.run.validation
    assert validation is not None
    paths = [made.data / str(id) for id in validation.ids]
    name = made.bundle.members[0].name
    served = Ensemble.load(made.bundle, voting=f"{name}=1", device="cpu")  # at temperature 1
    arrays = [reference(path) for path in paths]
    for number, path in enumerate(paths):
        np.testing.assert_array_equal(
            load(path, made.run.recipe.square, made.bundle.pixels.ranges), arrays[number]
        )
    # The bundle of one member, shown the reference itself: 32 pixels, so that nothing is resized.
    expected = served.predict(arrays)
    np.testing.assert_array_equal(served.predict(paths), expected)
    np.testing.assert_allclose(validation.probabilities, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 1e-3, "photos that all look alike prove nothing"


def test_the_augmentor_was_given_the_stored_size(made: Made) -> None:
    hashes = [fact.sha256 for fact in survey(made.paths)]
    for square in (made.run.recipe.square, made.run.recipe.stored_square):
        stored = decoded_photos(made.paths, hashes, square, made.run.data.pixels)
        assert np.load(stored, mmap_mode="r").shape == (28, square.size, square.size, 3)


def test_a_run_of_another_range_is_another_run(made: Made) -> None:
    path = made.paths[0]
    before = path.read_bytes()
    try:
        Image.fromarray(np.full((20, 44), 16000, dtype=np.uint16)).save(path)
        options = TrainingOptions(data=made.data, runs=made.run.folder.parent.parent)
        with pytest.raises(ToolkitError, match=r"another .*pixels\.ranges"):
            train(load_set(str(made.recipes)), ["mobilenetv3small"], options)
    finally:
        path.write_bytes(before)
