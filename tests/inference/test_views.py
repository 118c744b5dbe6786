"""Views: what each shows, to the pixel, however it is computed."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from toolkit.inference.views import VIEWS, FixedViews, RandomViews, View, enlarge

Pixels = NDArray[np.uint8]

SIZES = (32, 75, 96, 150, 240)
CROPPED = [view for view in VIEWS if view.fraction < 1]


def noise(size: int, seed: int = 0) -> Pixels:
    """The hardest picture for an interpolation: no pixel knows its neighbour."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def exactly_enlarged(crop: Pixels, size: int) -> Pixels:
    """Bilinear with half-pixel centres, pixel by pixel in exact fractions, halves rounded up."""
    side = len(crop)

    def taps(target: int) -> list[tuple[int, Fraction]]:
        source = (Fraction(target) + Fraction(1, 2)) * side / size - Fraction(1, 2)
        source = min(max(source, Fraction(0)), Fraction(side - 1))
        low = floor(source)
        share = source - low
        return [(low, 1 - share), (low + 1, share)] if share else [(low, Fraction(1))]

    result = np.zeros((size, size, 3), dtype=np.uint8)
    for y in range(size):
        for x in range(size):
            for channel in range(3):
                exact = sum(
                    (
                        row_share * column_share * int(crop[row, column, channel])
                        for row, row_share in taps(y)
                        for column, column_share in taps(x)
                    ),
                    Fraction(0),
                )
                result[y, x, channel] = floor(exact + Fraction(1, 2))
    return result


def cut(view: View, pixels: Pixels) -> Pixels:
    """The crop that design.md describes, in words of its own."""
    size = len(pixels)
    side = round(view.fraction * size)
    start = {
        "centre": floor(Fraction(size - side, 2)),
        "upper left": 0,
        "lower right": size - side,
    }[view.anchor]
    return pixels[start : start + side, start : start + side]


def test_the_list_of_views_is_the_one_that_was_promised() -> None:
    listed = [(view.fraction, view.anchor, view.mirrored) for view in VIEWS]
    assert listed == [
        (1.0, "centre", False),
        (1.0, "centre", True),
        (0.9, "centre", False),
        (0.9, "centre", True),
        (0.8, "centre", False),
        (0.8, "centre", True),
        (0.9, "upper left", False),
        (0.9, "lower right", False),
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
class TestEveryView:
    def test_keeps_shape_and_dtype(self, view: View, size: int) -> None:
        seen = view(noise(size))
        assert seen.shape == (size, size, 3)
        assert seen.dtype == np.uint8

    def test_leaves_the_photo_as_it_was(self, view: View, size: int) -> None:
        pixels = noise(size)
        before = pixels.copy()
        view(pixels)
        np.testing.assert_array_equal(pixels, before)

    def test_reads_a_photo_that_must_not_be_written(self, view: View, size: int) -> None:
        pixels = noise(size)
        expected = view(pixels)
        pixels.flags.writeable = False
        np.testing.assert_array_equal(view(pixels), expected)

    def test_a_flat_photo_stays_flat(self, view: View, size: int) -> None:
        flat = np.full((size, size, 3), (255, 128, 0), dtype=np.uint8)
        np.testing.assert_array_equal(view(flat), flat)

    def test_mirroring_twice_is_the_unmirrored_view(self, view: View, size: int) -> None:
        pixels = noise(size)
        twin = View(view.name, view.fraction, view.anchor, not view.mirrored)
        np.testing.assert_array_equal(view(pixels)[:, ::-1], twin(pixels))


@pytest.mark.parametrize(
    ("size", "fraction", "side", "start"),
    [(32, 0.9, 29, 1), (75, 0.9, 68, 3), (75, 0.8, 60, 7), (96, 0.9, 86, 5), (150, 0.8, 120, 15)],
)
def test_a_central_crop_starts_and_ends_where_it_should(
    size: int, fraction: float, side: int, start: int
) -> None:
    """The corner pixels of a view are the corner pixels of its crop."""
    pixels = noise(size)
    seen = View("crop", fraction)(pixels)
    end = start + side - 1
    for target, source in {
        (0, 0): (start, start),
        (-1, -1): (end, end),
        (0, -1): (start, end),
    }.items():
        np.testing.assert_array_equal(seen[target], pixels[source])


@pytest.mark.parametrize(("anchor", "corner"), [("upper left", 0), ("lower right", -1)])
def test_a_shifted_crop_touches_its_corner(anchor: str, corner: int) -> None:
    pixels = noise(75)
    seen = View("crop", 0.9, anchor)(pixels)
    np.testing.assert_array_equal(seen[corner, corner], pixels[corner, corner])


@pytest.mark.parametrize("view", CROPPED, ids=lambda view: view.name)
def test_crops_are_enlarged_as_exact_fractions_say(view: View) -> None:
    pixels = noise(20, seed=3)
    expected = exactly_enlarged(cut(view, pixels), 20)
    np.testing.assert_array_equal(view(pixels), expected[:, ::-1] if view.mirrored else expected)


@pytest.mark.parametrize(("side", "size"), [(1, 5), (2, 3), (5, 10), (7, 8), (9, 10), (10, 10)])
def test_enlarging_is_exact_for_any_pair_of_sizes(side: int, size: int) -> None:
    """5 to 10 is full of exact halves, where floating point goes either way."""
    crop = noise(side, seed=side)
    np.testing.assert_array_equal(enlarge(crop, size), exactly_enlarged(crop, size))


def test_halves_are_rounded_up() -> None:
    crop = np.array([[[0] * 3, [2] * 3], [[0] * 3, [2] * 3]], dtype=np.uint8)
    # A quarter and three quarters of the way from 0 to 2 are 0.5 and 1.5.
    assert enlarge(crop, 4)[0, :, 0].tolist() == [0, 1, 2, 2]


def test_the_largest_size_does_not_overflow() -> None:
    white = np.full((922, 922, 3), 255, dtype=np.uint8)
    assert enlarge(white, 1024).min() == 255


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fraction", [0.9, 0.8])
def test_opencv_and_scipy_agree_to_one_level(size: int, fraction: float) -> None:
    crop = noise(size)[: round(fraction * size), : round(fraction * size)]
    ours = enlarge(crop, size).astype(int)
    by_opencv = cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours - by_opencv).max() <= 1
    at = (np.arange(size) + 0.5) * len(crop) / size - 0.5
    places = np.meshgrid(at, at, indexing="ij")
    for channel in range(3):
        floats = crop[..., channel].astype(float)
        by_scipy = ndimage.map_coordinates(floats, places, order=1, mode="nearest")
        assert np.abs(ours[..., channel] - by_scipy).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("size", [32, 75, 150])
@pytest.mark.parametrize("fraction", [0.9, 0.8])
def test_an_onnx_graph_makes_the_same_bytes(size: int, fraction: float) -> None:
    images = np.stack([noise(size, seed) for seed in range(3)])
    session = onnxruntime.InferenceSession(
        crop_graph(size, fraction), providers=["CPUExecutionProvider"]
    )
    (seen,) = session.run(None, {"images": images})
    view = View("crop", fraction)
    np.testing.assert_array_equal(seen, np.stack([view(image) for image in images]))


def crop_graph(size: int, fraction: float) -> bytes:
    """The central crop and its enlargement in integer operators, as a network could begin."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    side = round(fraction * size)
    unit = 2 * size  # All positions are whole multiples of 1 / (2 * size).
    exact = [min(max((2 * i + 1) * side - size, 0), (side - 1) * unit) for i in range(size)]
    start = (size - side) // 2
    low = np.array([start + position // unit for position in exact])
    high = np.minimum(low + 1, start + side - 1)
    weight = np.array([position % unit for position in exact], dtype=np.int32)
    constants = {
        "low": low.astype(np.int64),
        "high": high.astype(np.int64),
        "half": np.array(unit * unit // 2, dtype=np.int32),
        "whole": np.array(unit * unit, dtype=np.int32),
        "to_low 1": (unit - weight).reshape(1, -1, 1, 1),
        "to_high 1": weight.reshape(1, -1, 1, 1),
        "to_low 2": (unit - weight).reshape(1, 1, -1, 1),
        "to_high 2": weight.reshape(1, 1, -1, 1),
    }
    nodes = [helper.make_node("Cast", ["images"], ["mixed 0"], to=TensorProto.INT32)]
    for axis in (1, 2):
        for end in ("low", "high"):
            nodes += [
                helper.make_node(
                    "Gather", [f"mixed {axis - 1}", end], [f"{end} {axis}"], axis=axis
                ),
                helper.make_node("Mul", [f"{end} {axis}", f"to_{end} {axis}"], [f"{end}er {axis}"]),
            ]
        nodes.append(
            helper.make_node("Add", [f"lower {axis}", f"higher {axis}"], [f"mixed {axis}"])
        )
    nodes += [
        helper.make_node("Add", ["mixed 2", "half"], ["rounded"]),
        helper.make_node("Div", ["rounded", "whole"], ["levels"]),
        helper.make_node("Cast", ["levels"], ["seen"], to=TensorProto.UINT8),
    ]
    shape = ["batch", size, size, 3]
    graph = helper.make_graph(
        nodes,
        "crop",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("seen", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return model


def test_views_are_those_that_are_wanted_in_that_order() -> None:
    pixels = noise(31)
    seen = FixedViews()(pixels, 5, (3, 2, 5, 0, 7))
    for made, view in zip(seen, (3, 2, 5, 0, 7), strict=True):
        np.testing.assert_array_equal(made, VIEWS[view](pixels))


@pytest.mark.parametrize("count", range(1, 9))
def test_tta_takes_the_first_views_of_the_list(count: int) -> None:
    pixels = noise(32)
    seen = FixedViews()(pixels, 5, range(count))
    assert len(seen) == count
    for made, view in zip(seen, VIEWS, strict=False):
        np.testing.assert_array_equal(made, view(pixels))


class TestRandomViews:
    STEPS = ({"RandomBrightnessContrast": {"p": 1.0}}, {"HorizontalFlip": {"p": 0.5}})

    @pytest.fixture
    def pixels(self, draw_photo: Callable[..., object]) -> Pixels:
        return np.asarray(draw_photo(4, (32, 32)))

    def test_the_seed_and_the_photos_number_decide(self, pixels: Pixels) -> None:
        views = RandomViews(self.STEPS, seed=1, size=32)
        first = views(pixels, 0, range(4))
        assert first.shape == (4, 32, 32, 3)
        assert (views(pixels, 1, range(4)) != first).any(), "another photo is seen in another way"
        again = RandomViews(self.STEPS, seed=1, size=32)(pixels, 0, range(4))
        np.testing.assert_array_equal(again, first)
        assert (RandomViews(self.STEPS, seed=2, size=32)(pixels, 0, range(4)) != first).any()

    def test_views_of_a_photo_differ(self, pixels: Pixels) -> None:
        seen = RandomViews(self.STEPS, seed=0, size=32)(pixels, 0, range(8))
        assert len({view.tobytes() for view in seen}) == 8

    def test_more_views_begin_with_the_same_ones(self, pixels: Pixels) -> None:
        views = RandomViews(self.STEPS, seed=0, size=32)
        few, many = (views(pixels, 3, range(count)) for count in (2, 5))
        np.testing.assert_array_equal(many[:2], few)

    def test_the_given_augmentor_makes_them(self, pixels: Pixels) -> None:
        seen = RandomViews(({"HorizontalFlip": {"p": 1.0}},), seed=0, size=32)(pixels, 0, range(2))
        np.testing.assert_array_equal(seen, [pixels[:, ::-1]] * 2)
