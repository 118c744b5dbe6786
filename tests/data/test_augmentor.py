"""The augmentor: decided by the seed alone, strict about what is written, and true to the papers.

What each published step does is measured on pictures made for it, not read from its settings.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats

from toolkit.data.augmentor import Augmentor, photo_seed
from toolkit.data.pixels import Square
from toolkit.errors import ToolkitError
from toolkit.training.recipe_files import load_set

Pixels = NDArray[np.uint8]
SIZE = 150


def steps(recipe_set: str) -> list[dict[str, dict[str, Any]]]:
    return [dict(step) for step in load_set(recipe_set).recipe("xception").augmentor]


def parameters(recipe_set: str, name: str) -> dict[str, Any]:
    return next(step[name] for step in steps(recipe_set) if name in step)


def always(recipe_set: str, name: str) -> Augmentor:
    """Only this step of a shipped set, applied to every photo."""
    return Augmentor([{name: {**parameters(recipe_set, name), "p": 1}}])


def colour_noise(size: int) -> Pixels:
    return np.random.default_rng(0).integers(20, 236, (size, size, 3), dtype=np.uint8)


def flat(*colour: int, size: int = 64) -> Pixels:
    return np.full((size, size, 3), colour, dtype=np.uint8)


# Only the seed decides.


@pytest.mark.parametrize("recipe_set", ["baseline", "improved", "finetune"])
def test_the_seed_alone_decides_whichever_thread_works(
    recipe_set: str, draw_photo: Callable[..., Image.Image]
) -> None:
    photo = np.asarray(draw_photo(1, (75, 75)))
    augmentor = Augmentor(steps(recipe_set))
    expected = [Augmentor(steps(recipe_set))(photo, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(lambda seed: augmentor(photo, seed), range(39, -1, -1)))
    np.testing.assert_array_equal(backwards[::-1], expected)


def test_noise_too_is_decided_by_the_seed_whichever_thread_works() -> None:
    # OpenCV draws it, with a generator of its own.
    augmentor = always("improved", "GaussNoise")
    expected = [augmentor(flat(128, 128, 128), seed) for seed in range(200)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: augmentor(flat(128, 128, 128), seed), range(200)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("recipe_set", ["baseline", "improved", "finetune"])
def test_other_seeds_make_other_photos(recipe_set: str) -> None:
    augmentor = Augmentor(steps(recipe_set))
    made = {augmentor(colour_noise(75), seed).tobytes() for seed in range(50)}
    # Some are taken by no step, or only by the flip.
    assert len(made) >= 45


def test_the_photo_itself_is_never_changed_nor_handed_out() -> None:
    photo = colour_noise(64)
    before = photo.copy()
    augmentor = Augmentor(steps("improved"))
    for seed in range(60):
        changed = augmentor(photo, seed)
        changed[:] = 0
    np.testing.assert_array_equal(photo, before)


def test_a_read_only_photo_can_be_augmented() -> None:
    photo = colour_noise(64)
    photo.flags.writeable = False
    assert Augmentor(steps("finetune"))(photo, 1).shape == photo.shape


def test_every_photo_and_epoch_has_a_seed_of_its_own() -> None:
    seeds = {photo_seed(42, epoch, index) for epoch in range(20) for index in range(500)}
    assert len(seeds) > 9_990  # 32 bits leave room for a rare coincidence.
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert photo_seed(42, 1, 2) == photo_seed(42, 1, 2) != photo_seed(42, 2, 1)


# What is written wrong is told.


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"HorizontalFlipp": {}}, "'HorizontalFlipp'. Did you mean 'HorizontalFlip'?"),
        ({"Sharpest": {}}, "unknown transform 'Sharpest'. "),
        ({"Compose_": {}}, "Did you mean 'Compose'?"),
        ({"BboxParams": {}}, "unknown transform 'BboxParams'"),
        ({"BasicTransform": {}}, "unknown transform 'BasicTransform'. (?!.*'BasicTransform')"),
        ({"ImageOnlyTransform": {}}, "unknown transform 'ImageOnlyTransform'"),
        ({"BaseCompose": {"transforms": [], "p": 1}}, "unknown transform 'BaseCompose'"),
        (
            {"Blur": {"blurlimit": 3}},
            "Blur: unknown parameter 'blurlimit'. Did you mean 'blur_limi",
        ),
        # The name it had in the published code, which albumentations 2 would skip with a warning.
        ({"GaussNoise": {"var_limit": [10, 50]}}, "unknown parameter 'var_limit'. .*std_range"),
        ({"Blur": {"p": 7}}, "Blur: p: .*less than or equal to 1, received 7"),
        ({"Affine": {"border_mode": "BORDER_REFLECT_11"}}, "Did you mean 'BORDER_REFLECT_101'?"),
        ({"Affine": {"scale": "large"}}, "Affine: scale: .*, received 'large'"),
        ({"OneOf": {"transforms": [{"Blurr": {}}]}}, "'Blurr'. Did you mean 'Blur'?"),
        ({"OneOf": {"transforms": 5}}, "transforms: Expected a list of steps, received 5"),
        ({"Blur": 0.07}, r"Blur: Expected '\{parameter: value\}', received 0.07"),
        ({"Blur": {}, "RGBShift": {}}, r"Expected one step as 'Name: \{parameter: value\}'"),
        ("Blur", r"Expected one step as .*, received 'Blur'"),
    ],
)
def test_a_wrong_step_is_named_with_what_would_be_right(step: Any, message: str) -> None:
    with pytest.raises(ToolkitError, match=f"^augmentor: .*{message}") as caught:
        Augmentor([{"HorizontalFlip": None}, step])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "steps",
    [
        [{"Resize": {"height": 60_000, "width": 60_000}}],
        [{"Blur": {"blur_limit": [3, 1_000_001]}}],
        [{"GridDropout": {"unit_size_range": [2, 10**9]}}],
        [{"Affine": {"scale": {"x": [0.9, float("inf")], "y": [0.9, 1.1]}}}],
        [{"GaussNoise": {"std_range": [0.1, float("nan")]}}],
        [{"SomeOf": {"transforms": [{"Blur": {}}], "n": 10**9}}],
        [
            {
                "SomeOf": {
                    "transforms": [{"SomeOf": {"transforms": [{"Blur": {}}], "n": 999}}],
                    "n": 9,
                }
            }
        ],
        [{"HorizontalFlip": {}}] * 1001,
    ],
)
def test_what_would_exhaust_memory_or_time_is_refused(steps: list[Any]) -> None:
    with pytest.raises(ToolkitError, match=r"^augmentor: .*Expected at most \d+"):
        Augmentor(steps)


def test_a_step_that_changes_the_size_is_refused() -> None:
    augmentor = Augmentor([{"RandomCrop": {"height": 20, "width": 30}}])
    with pytest.raises(ToolkitError, match=r"Expected shape \(64, 64, 3\).*\(20, 30, 3\)"):
        augmentor(colour_noise(64), 1)


class TestFromALargerPhoto:
    CROP = ({"RandomResizedCrop": {"size": [48, 48], "scale": [0.2, 0.9]}},)

    def test_a_crop_comes_from_the_pixels_that_are_there(self) -> None:
        photo = colour_noise(96)
        photo[:] = np.arange(96, dtype=np.uint8)[:, None, None]
        steps = [{"RandomCrop": {"height": 48, "width": 48}}]
        crop = Augmentor(steps, 48)(photo, 1)
        assert crop.shape == (48, 48, 3)
        np.testing.assert_array_equal(np.diff(crop[:, 0, 0].astype(int)), 1)

    def test_a_random_resized_crop_ends_at_the_size(self) -> None:
        augmentor = Augmentor(self.CROP, 48)
        for seed in range(20):
            assert augmentor(colour_noise(128), seed).shape == (48, 48, 3)

    def test_steps_that_keep_the_size_are_followed_by_the_resize_of_photos(self) -> None:
        photo = colour_noise(96)
        augmentor = Augmentor([{"HorizontalFlip": {"p": 1.0}}], 48)
        expected = Square(48)(Image.fromarray(np.ascontiguousarray(photo[:, ::-1])))
        np.testing.assert_array_equal(augmentor(photo, 1), expected)

    def test_another_size_is_refused_with_both_that_are_right(self) -> None:
        augmentor = Augmentor([{"RandomCrop": {"height": 60, "width": 60}}], 48)
        with pytest.raises(
            ToolkitError, match=r"Expected shape \(48, 48, 3\) or \(96, 96, 3\).*\(60, 60, 3\)"
        ):
            augmentor(colour_noise(96), 1)

    @pytest.mark.parametrize("p", [0.5, 1.0])
    def test_a_check_finds_it_before_training(self, p: float) -> None:
        step = {"CenterCrop": {"height": 60, "width": 60, "p": p}}
        with pytest.raises(ToolkitError, match=r"received \(60, 60, 3\)"):
            Augmentor([step], 48).check(96)
        Augmentor(self.CROP, 48).check(96)


# How often each published step is taken.

PROBABILITIES = {
    "baseline": {"Affine": 1.0},
    "improved": {
        "Blur": 0.07,
        "GaussNoise": 0.07,
        "Affine": 0.65,
        "HueSaturationValue": 0.5,
        "HorizontalFlip": 0.5,
        "OneOf": 0.5,
    },
    "finetune": {
        "Blur": 0.07,
        "GaussNoise": 0.07,
        "Affine": 0.7,
        "RGBShift": 0.5,
        "HueSaturationValue": 0.5,
        "HorizontalFlip": 0.5,
        "OneOf": 0.3,
    },
}


@pytest.mark.parametrize("recipe_set", PROBABILITIES)
def test_steps_stand_in_the_published_order(recipe_set: str) -> None:
    assert [name for step in steps(recipe_set) for name in step] == list(PROBABILITIES[recipe_set])


@pytest.mark.parametrize(
    ("recipe_set", "name"), [(one, name) for one, names in PROBABILITIES.items() for name in names]
)
def test_a_step_is_taken_as_often_as_published(recipe_set: str, name: str) -> None:
    photo = colour_noise(24)
    augmentor = Augmentor([{name: parameters(recipe_set, name)}])
    changed = sum(not np.array_equal(augmentor(photo, seed), photo) for seed in range(500))
    likely = stats.binomtest(changed, 500, PROBABILITIES[recipe_set][name]).pvalue
    assert likely > 0.001, f"{changed} of 500"


@pytest.mark.parametrize("recipe_set", PROBABILITIES)
def test_a_photo_escapes_all_steps_as_seldom_as_chance_has_it(recipe_set: str) -> None:
    photo = colour_noise(24)
    augmentor = Augmentor(steps(recipe_set))
    untouched = sum(np.array_equal(augmentor(photo, seed), photo) for seed in range(600))
    chance = np.prod([1 - p for p in PROBABILITIES[recipe_set].values()])
    assert stats.binomtest(untouched, 600, chance).pvalue > 0.001, f"{untouched} of 600"


def test_steps_of_equal_probability_are_taken_independently() -> None:
    photo = flat(128, 128, 128, size=24)
    photo[:, :12] = 90
    flip, colour = (
        {name: parameters("improved", name)} for name in ("HorizontalFlip", "HueSaturationValue")
    )
    augmentor = Augmentor([flip, colour])
    counts = np.zeros((2, 2))
    for seed in range(500):
        out = augmentor(photo, seed).astype(int)
        is_flipped = out[0, 0, 0] > out[0, -1, 0]
        is_shifted = sorted({out[0, 0, 0], out[0, -1, 0]}) != [90, 128]
        counts[int(is_flipped), int(is_shifted)] += 1
    assert stats.chi2_contingency(counts).pvalue > 0.001, counts


# What each published step does: places.


@dataclass(frozen=True)
class Move:
    """A measured affine change: `out = matrix @ place + shift`, places counted from the centre."""

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    beyond: NDArray[np.float64]

    @property
    def scales(self) -> NDArray[np.float64]:
        """Of x and of y."""
        return np.linalg.norm(self.matrix, axis=0)

    @property
    def degrees(self) -> float:
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))


def measure(augmentor: Augmentor, seed: int) -> Move:
    """Augment a picture whose red is the x and whose green is the y of each pixel."""
    y, x = np.mgrid[:SIZE, :SIZE]
    out = augmentor(np.stack([x, y, x], axis=2).astype(np.uint8), seed).astype(float)
    centre = (SIZE - 1) / 2
    inner = slice(33, SIZE - 33)
    places = np.stack([x - centre, y - centre], axis=2).astype(float)
    rows = np.column_stack([places[inner, inner].reshape(-1, 2), np.ones((SIZE - 66) ** 2)])
    fitted, *_ = np.linalg.lstsq(rows, out[inner, inner, :2].reshape(-1, 2) - centre, rcond=None)
    backwards, offset = fitted[:2].T, fitted[2]
    matrix = np.linalg.inv(backwards)
    # Which x of the photo a pixel shows, against which it ought to if the photo went on.
    ought = (places @ backwards.T + offset)[..., 0] + centre
    y_ought = (places @ backwards.T + offset)[..., 1] + centre
    left = (ought < -2) & (y_ought > 2) & (y_ought < SIZE - 3)
    return Move(matrix, -matrix @ offset, np.column_stack([ought[left], out[left][:, 0]]))


@pytest.fixture(scope="module", params=["baseline", "improved", "finetune"])
def moved(request: pytest.FixtureRequest) -> tuple[str, list[Move]]:
    """A set's name, and how its affine step moved 250 photos."""
    augmentor = always(request.param, "Affine")
    return request.param, [measure(augmentor, seed) for seed in range(250)]


def assert_fills(values: Any, low: float, high: float, slack: float) -> None:
    """All values lie between the bounds, and they come near both."""
    values = np.asarray(values, dtype=float)
    assert values.min() >= low - slack
    assert values.max() <= high + slack
    assert values.min() <= low + (high - low) * 0.1
    assert values.max() >= high - (high - low) * 0.1


def test_photos_are_shifted_as_far_as_published(moved: tuple[str, list[Move]]) -> None:
    recipe_set, moves = moved
    most = {"baseline": 0.1, "improved": 0.08, "finetune": 0.08}[recipe_set] * SIZE
    for axis in (0, 1):
        assert_fills([move.shift[axis] for move in moves], -most, most, slack=0.6)
    # In both directions independently.
    assert abs(np.corrcoef([move.shift for move in moves], rowvar=False)[0, 1]) < 0.25


def test_photos_are_turned_as_far_as_published(moved: tuple[str, list[Move]]) -> None:
    recipe_set, moves = moved
    most = {"baseline": 5, "improved": 20, "finetune": 20}[recipe_set]
    assert_fills([move.degrees for move in moves], -most, most, slack=0.15)


def test_photos_are_scaled_as_published(moved: tuple[str, list[Move]]) -> None:
    recipe_set, moves = moved
    low, high = {"baseline": (0.9, 1.1)}.get(recipe_set, (0.95, 1.05))
    scales = np.array([move.scales for move in moves])
    for axis in (0, 1):
        assert_fills(scales[:, axis], low, high, slack=0.003)
    if recipe_set == "baseline":
        assert abs(np.corrcoef(scales, rowvar=False)[0, 1]) < 0.25
    else:
        np.testing.assert_allclose(scales[:, 0], scales[:, 1], atol=0.005)


def test_photos_are_hardly_sheared(moved: tuple[str, list[Move]]) -> None:
    # The published 0.1 are degrees; a tenth of the width would be 5.7. Whole-numbered pixels let a
    # single angle be measured only to half a degree.
    for move in moved[1]:
        first, second = move.matrix.T
        angle = np.degrees(np.arccos(first @ second / np.prod(move.scales)))
        assert abs(angle - 90) < 0.8


def test_the_border_is_reflected_as_published(moved: tuple[str, list[Move]]) -> None:
    recipe_set, moves = moved
    beyond = np.concatenate([move.beyond for move in moves])
    assert len(beyond) > 10_000
    # BORDER_REFLECT repeats the outermost pixel (-1 shows 0), BORDER_REFLECT_101 does not.
    expected = -beyond[:, 0] - (1 if recipe_set == "baseline" else 0)
    assert abs((beyond[:, 1] - expected).mean()) < 0.1


def test_no_black_corners_come_in(moved: tuple[str, list[Move]]) -> None:
    augmentor = always(moved[0], "Affine")
    for seed in range(30):
        np.testing.assert_array_equal(augmentor(flat(200, 150, 90), seed), flat(200, 150, 90))


@pytest.mark.parametrize("recipe_set", ["improved", "finetune"])
def test_the_flip_is_an_exact_mirror_image(recipe_set: str) -> None:
    photo = colour_noise(33)
    mirrored = always(recipe_set, "HorizontalFlip")(photo, 1)
    np.testing.assert_array_equal(mirrored, photo[:, ::-1])


# What each published step does: colours.


@pytest.mark.parametrize("recipe_set", ["improved", "finetune"])
def test_noise_has_the_published_variance(recipe_set: str) -> None:
    augmentor = always(recipe_set, "GaussNoise")
    grey = flat(128, 128, 128)
    noise = [augmentor(grey, seed).astype(float) - 128 for seed in range(150)]
    drawn = [before_cutting(one.std()) for one in noise]
    assert_fills(drawn, np.sqrt(10), np.sqrt(50), slack=0.1)
    assert abs(np.mean(noise)) < 0.05
    # Each colour has its own noise.
    red, green = noise[0][..., 0].ravel(), noise[0][..., 1].ravel()
    assert abs(np.corrcoef(red, green)[0, 1]) < 0.1


def before_cutting(std: float) -> float:
    """Give the deviation that normal noise had before its fractions were cut off toward zero.

    albumentations does that, which takes 0.4 from what is seen. The part f cut off from a size |n|
    is evenly spread in [0, 1), so that seen² = E(|n| - f)² = s² - s sqrt(2 / pi) + 1 / 3.
    """
    mean_size = np.sqrt(2 / np.pi)
    return float((mean_size + np.sqrt(mean_size**2 + 4 * (std**2 - 1 / 3))) / 2)


@pytest.mark.parametrize("recipe_set", ["improved", "finetune"])
def test_blur_is_a_mean_of_three_five_or_seven_pixels(recipe_set: str) -> None:
    photo = colour_noise(32)
    means = {
        width: ndimage.uniform_filter(photo.astype(float), (width, width, 1)) for width in (3, 5, 7)
    }
    inner = slice(4, -4)
    augmentor = always(recipe_set, "Blur")
    used = set()
    for seed in range(40):
        blurred = augmentor(photo, seed)
        near = [
            width
            for width, mean in means.items()
            if np.abs(blurred - mean)[inner, inner].max() <= 1
        ]
        assert len(near) == 1
        used.update(near)
    assert used == {3, 5, 7}


@pytest.mark.parametrize("recipe_set", ["improved", "finetune"])
def test_hue_saturation_and_value_shift_as_published(recipe_set: str) -> None:
    colour = flat(*cv2.cvtColor(np.array([[[90, 128, 160]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0])
    before = cv2.cvtColor(colour, cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    augmentor = always(recipe_set, "HueSaturationValue")
    shifts = [
        cv2.cvtColor(augmentor(colour, seed), cv2.COLOR_RGB2HSV)[0, 0].astype(int) - before
        for seed in range(250)
    ]
    for shift, most in zip(np.transpose(shifts), (20, 30, 20), strict=True):
        assert_fills(shift, -most, most, slack=2)


def test_red_green_and_blue_shift_apart_by_at_most_twenty() -> None:
    augmentor = always("finetune", "RGBShift")
    shifts = np.array([augmentor(flat(99, 99, 99), seed)[0, 0].astype(int) for seed in range(250)])
    for channel in range(3):
        assert_fills(shifts[:, channel] - 99, -20, 20, slack=1)
    assert np.abs(np.corrcoef(shifts, rowvar=False) - np.eye(3)).max() < 0.25


@pytest.mark.parametrize(
    ("recipe_set", "choice", "most"),
    [("improved", 0, 0.2), ("improved", 1, 0.1), ("finetune", 0, 0.3), ("finetune", 1, 0.1)],
)
def test_brightness_and_contrast_change_as_published(
    recipe_set: str, choice: int, most: float
) -> None:
    chosen = parameters(recipe_set, "OneOf")["transforms"][choice]
    augmentor = Augmentor([{name: {**values, "p": 1}} for name, values in chosen.items()])
    lines = [grey_line(augmentor, seed) for seed in range(250)]
    contrast, brightness = np.transpose(lines)
    assert_fills(contrast, 1 - most, 1 + most, slack=0.02)
    assert_fills(brightness, -most, most, slack=0.02)


@pytest.mark.parametrize(("recipe_set", "most"), [("improved", 0.2), ("finetune", 0.3)])
def test_the_strong_and_the_weak_change_are_chosen_equally_often(
    recipe_set: str, most: float
) -> None:
    augmentor = always(recipe_set, "OneOf")
    lines = np.array([grey_line(augmentor, seed) for seed in range(400)]) - (1, 0)
    weak = int((np.abs(lines) <= 0.1).all(axis=1).sum())
    # The strong one is now and then as weak as the weak one: within a tenth in both.
    assert stats.binomtest(weak, 400, 0.5 + 0.5 * (0.1 / most) ** 2).pvalue > 0.001


def grey_line(augmentor: Augmentor, seed: int) -> tuple[float, float]:
    """Fit `out = contrast * in + brightness * 255` to greys that no change drives to the ends."""
    levels = np.arange(112, 145)
    ramp = np.repeat(levels, 33).reshape(33, 33, 1).repeat(3, axis=2).astype(np.uint8)
    out = augmentor(ramp, seed)[:, 0, 0].astype(float)
    slope, intercept = np.polyfit(levels, out, 1)
    return float(slope), float(intercept / 255)


@pytest.mark.parametrize(
    "step",
    [
        {"FDA": {"p": 1}},
        {"Downscale": {"scale_range": [1e-9, 1e-9], "p": 1}},
        {"RandomCropNearBBox": {"p": 1}},
        {"MixUp": {}},
    ],
)
def test_a_step_that_cannot_change_a_photo_is_refused_in_a_line(step: dict[str, Any]) -> None:
    with pytest.raises(ToolkitError, match="augmentor: ") as told:
        Augmentor([step]).check(32)
    assert "\n" not in str(told.value)
