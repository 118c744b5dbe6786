"""Members that see photos in other proportions, ranges and sizes: one decode, the right square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.augmentor import Augmentor, photo_seed
from toolkit.data.pixels import BrokenPhotoError, PixelDefinition, Square, load
from toolkit.data.ranges import GREY_16, Range
from toolkit.inference.bundle import Bundle, load_bundle, save_bundle
from toolkit.inference.ensemble import Ensemble, PhotoWarning
from toolkit.inference.finding import LABEL_EXACT, chosen_plan
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import choose_voting

SQUARES = {
    "alpha": Square(32, "letterbox"),
    "beta": Square(32, "center_crop"),
    "gamma": Square(48, "stretch"),
}
CROP = {"RandomResizedCrop": {"size": [32, 32], "scale": [0.3, 0.6]}}


@pytest.fixture
def bundle(tiny_bundle: Any, tmp_path: Path) -> Bundle:
    """Two members of one size with other proportions, and 12-bit photos trained on.

    The augmentor of alpha gets photos of 64 pixels.
    """
    folder = tiny_bundle.copy(tmp_path / "bundle")
    made = load_bundle(folder)
    members = tuple(
        replace(
            member,
            precision="fp32",
            resize=SQUARES[member.name].resize,
            store_size=64 if member.name == "alpha" else None,
            augmentor=(CROP,) if member.name == "alpha" else member.augmentor,
        )
        for member in made.members
    )
    pixels = PixelDefinition(ranges={GREY_16: Range(0, 4095)})
    save_bundle(replace(made, members=members, pixels=pixels))
    return load_bundle(folder)


@pytest.fixture
def photos(tmp_path: Path, draw_photo: Callable[..., Image.Image]) -> list[Path]:
    """Wide, high and square ones of 8 bits, and one of 12 bits in 16."""
    sizes = [(90, 40), (30, 80), (50, 50), (33, 100)]
    paths = [tmp_path / f"{number}.png" for number in range(len(sizes) + 1)]
    for number, size in enumerate(sizes):
        draw_photo(number, size).save(paths[number])
    values = np.random.default_rng(0).integers(0, 4096, (5, 9), dtype=np.uint16)
    Image.fromarray(values.repeat(9, axis=0).repeat(9, axis=1)).save(paths[-1])
    return paths


def seen(photo: Path, name: str) -> NDArray[np.uint8]:
    """A member's square, the 12-bit photo scaled by hand."""
    with Image.open(photo) as image:
        is_deep, values = image.mode == "I;16", np.asarray(image)
    bytes_of = (values >> 4).astype(np.uint8) if is_deep else values
    return SQUARES[name](Image.fromarray(bytes_of).convert("RGB"))


def by_hand(tiny_bundle: Any, bundle: Bundle, photos: list[Path], tta: int) -> NDArray[np.float64]:
    chosen = choose_voting(bundle, tta, "uniform")
    rows = []
    for photo in photos:
        mixed = np.zeros(3)
        for name, weight in zip(SQUARES, chosen.weights, strict=True):
            for view in VIEWS[:tta]:
                images = view(seen(photo, name))[None]
                mixed += weight / tta * tiny_bundle.reference(name, images)[0]
        powers = mixed ** (1 / chosen.temperature)
        rows.append(powers / powers.sum())
    return np.array(rows)


@pytest.mark.parametrize("tta", [1, 4])
def test_each_member_sees_its_own_square(
    tiny_bundle: Any, bundle: Bundle, photos: list[Path], tta: int
) -> None:
    ensemble = Ensemble.load(bundle, tta=tta, voting="uniform", device="cpu")
    expected = by_hand(tiny_bundle, bundle, photos, tta)
    np.testing.assert_allclose(ensemble.predict(photos), expected, atol=1e-5)
    stretched = replace(bundle, members=tuple(replace(m, resize="stretch") for m in bundle.members))
    other = Ensemble.load(stretched, tta=tta, voting="uniform", device="cpu").predict(photos)
    assert np.abs(other - expected).max() > 0.05, "where nothing depends on it, nothing is proved"


def test_random_views_are_drawn_from_the_size_that_was_stored_for_training(
    tiny_bundle: Any, bundle: Bundle, photos: list[Path]
) -> None:
    ensemble = Ensemble.load(
        bundle, tta=2, tta_views="augmentor", voting="alpha=1", device="cpu", seed=3, batch=8
    )
    (answer,) = ensemble.answers(photos)
    augmentor = Augmentor([CROP], 32)
    ranges = bundle.pixels.ranges
    for number, photo in enumerate(photos):
        stored = load(photo, Square(64, "letterbox"), ranges)
        drawn = [augmentor(stored, photo_seed(3, view, number)) for view in range(2)]
        np.testing.assert_allclose(
            answer.members["alpha"][number],
            tiny_bundle.reference("alpha", np.stack(drawn)),
            atol=1e-5,
        )


def test_label_exact_gives_every_member_its_own_square_too(
    bundle: Bundle, photos: list[Path]
) -> None:
    ensemble = Ensemble.load(bundle, tta=2, voting="uniform", device="cpu", batch=2)
    plan = chosen_plan(ensemble, LABEL_EXACT, len(photos))
    windows = list(ensemble.executor(plan).predict(photos))
    settled = np.concatenate([window.probabilities for window in windows])
    assert (settled.argmax(axis=1) == ensemble.predict(photos).argmax(axis=1)).all()


def test_the_fused_file_has_an_input_for_each_square(
    tiny_bundle: Any, bundle: Bundle, photos: list[Path], tmp_path: Path
) -> None:
    import json

    from toolkit.exporting.fused import fuse

    made = fuse(bundle, tmp_path / "fused.onnx", photos, views=4, voting="uniform")
    assert made.inputs == ("images_32_center_crop", "images_32_letterbox", "images_48")
    session = onnxruntime.InferenceSession(made.file, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    inputs = {name: Square(**each) for name, each in json.loads(metadata["toolkit.inputs"]).items()}
    names = {square: name for name, square in SQUARES.items()}
    feed = {
        name: np.stack([seen(photo, names[square]) for photo in photos])
        for name, square in inputs.items()
    }
    (answers,) = session.run(["probabilities"], feed)
    np.testing.assert_allclose(answers, by_hand(tiny_bundle, bundle, photos, 4), atol=1e-5)
    ranges = json.loads(metadata["toolkit.pixels"])["ranges"]
    assert ranges == {GREY_16: {"low": 0, "high": 4095}}


class TestValuesBeyondTheRange:
    @pytest.fixture
    def bright(self, tmp_path: Path) -> Path:
        path = tmp_path / "bright.png"
        Image.fromarray(np.full((9, 9), 9000, dtype=np.uint16)).save(path)
        return path

    def test_predict_warns(self, bundle: Bundle, photos: list[Path], bright: Path) -> None:
        ensemble = Ensemble.load(bundle, device="cpu", batch=2)
        with pytest.warns(PhotoWarning, match=r"bright\.png: its values from 9000 to 9000 are cli"):
            ensemble.predict([*photos, bright])

    def test_answers_carry_the_note(self, bundle: Bundle, photos: list[Path], bright: Path) -> None:
        ensemble = Ensemble.load(bundle, device="cpu", batch=3)
        answers = list(ensemble.answers([*photos, bright]))
        assert [sorted(answer.notes) for answer in answers] == [[], [2]]
        assert "clipped to 0 and 4095" in answers[1].notes[2][0]

    def test_a_kind_that_was_not_trained_on_is_broken(self, bundle: Bundle, tmp_path: Path) -> None:
        path = tmp_path / "float.tif"
        Image.fromarray(np.full((9, 9), 0.5, dtype=np.float32)).save(path)
        with pytest.raises(BrokenPhotoError, match=r"has floating-point grey values up to 0\.5"):
            Ensemble.load(bundle, device="cpu").predict([path])
