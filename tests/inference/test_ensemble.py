"""The ensemble in Python: right answers, whatever the batch, and arguments that are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.data.augmentor import Augmentor, photo_seed
from toolkit.data.pixels import BrokenPhotoError, Square, load
from toolkit.errors import ToolkitError, UsageError
from toolkit.inference.bundle import load_bundle
from toolkit.inference.calls import ModelKey
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import choose_voting

SIZES = {"alpha": 32, "beta": 32, "gamma": 48}


def loaded(tiny_bundle: Any, **options: Any) -> Ensemble:
    return Ensemble.load(tiny_bundle.folder, **{"device": "cpu", **options})


def by_hand(tiny_bundle: Any, photos: list[Path], tta: int, voting: str) -> NDArray[np.float64]:
    """The whole ensemble in NumPy: a photo, a member and a view at a time."""
    chosen = choose_voting(load_bundle(tiny_bundle.folder), tta, voting)
    rows = []
    for photo in photos:
        mixed = np.zeros(3)
        for name, weight in zip(SIZES, chosen.weights, strict=True):
            pixels = load(photo, Square(SIZES[name]))
            for view in VIEWS[:tta]:
                mixed += weight / tta * tiny_bundle.reference(name, view(pixels)[None])[0]
        powers = mixed ** (1 / chosen.temperature)
        rows.append(powers / powers.sum())
    return np.array(rows)


@pytest.mark.parametrize(
    ("tta", "voting"),
    [
        (1, "auto"),
        (2, "auto"),
        (4, "accuracy"),
        (8, "uniform"),
        (3, "gamma=1"),
        (1, "alpha=3,gamma=1"),
    ],
)
def test_probabilities_are_those_worked_out_by_hand(
    tiny_bundle, photos: list[Path], tta: int, voting: str
) -> None:
    ensemble = loaded(tiny_bundle, tta=tta, voting=voting)
    probabilities = ensemble.predict(photos)
    assert probabilities.shape == (11, 3)
    np.testing.assert_allclose(probabilities, by_hand(tiny_bundle, photos, tta, voting), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert np.ptp(probabilities, axis=0).min() > 0.2, "photos that all look alike prove nothing"


def test_labels_are_category_values(tiny_bundle, photos: list[Path]) -> None:
    ensemble = loaded(tiny_bundle)
    probabilities = ensemble.predict(photos)
    labels = ensemble.labels(probabilities)
    assert labels == [("2", "10", "x y")[row.argmax()] for row in probabilities]
    assert len(set(labels)) > 1


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("threads", [1, 2])
def test_batch_and_threads_change_no_bit(
    tiny_bundle, photos: list[Path], batch: int, threads: int
) -> None:
    expected = loaded(tiny_bundle, tta=4, voting="uniform").predict(photos)
    again = loaded(tiny_bundle, tta=4, voting="uniform", batch=batch, threads=threads)
    np.testing.assert_array_equal(again.predict(photos), expected)


def test_paths_names_and_arrays_of_a_photo_are_one(tiny_bundle, photos: list[Path]) -> None:
    ensemble = loaded(tiny_bundle, tta=2)
    expected = ensemble.predict(photos)
    arrays = [np.asarray(Image.open(photo)) for photo in photos]
    np.testing.assert_array_equal(ensemble.predict([str(photo) for photo in photos]), expected)
    np.testing.assert_array_equal(ensemble.predict(arrays), expected)
    np.testing.assert_array_equal(
        ensemble.predict([photos[0], arrays[1], str(photos[2])]), expected[:3]
    )


def test_what_is_no_photo_is_refused(tiny_bundle) -> None:
    with pytest.raises(ToolkitError, match="Expected a photo's path or array, received NoneType"):
        loaded(tiny_bundle).predict([None])


def test_an_array_of_another_shape_is_refused(tiny_bundle) -> None:
    with pytest.raises(
        ToolkitError, match=r"shape \(height, width, 3\) .* received shape \(8, 8\)"
    ):
        loaded(tiny_bundle).predict([np.zeros((8, 8), dtype=np.uint8)])


def test_no_photos_give_no_rows(tiny_bundle) -> None:
    assert loaded(tiny_bundle).predict([]).shape == (0, 3)


def test_a_broken_photo_is_raised_by_name(
    tiny_bundle, photos: list[Path], hostile_photos: Path
) -> None:
    with pytest.raises(BrokenPhotoError, match=r"zero_bytes\.jpg: the file is empty"):
        loaded(tiny_bundle).predict([photos[0], hostile_photos / "zero_bytes.jpg"])


def test_answers_report_broken_photos_and_keep_the_others(
    tiny_bundle, photos: list[Path], hostile_photos: Path
) -> None:
    ensemble = loaded(tiny_bundle, batch=3, tta=2)
    expected = ensemble.predict(photos[:4])
    bad = hostile_photos / "text.jpg"
    first, second = ensemble.answers([photos[0], bad, photos[1], photos[2], photos[3]])
    assert list(first.broken) == [1]
    assert np.isnan(first.probabilities[1]).all()
    assert np.isnan(first.members["alpha"][1]).all()
    np.testing.assert_array_equal(first.probabilities[[0, 2]], expected[:2])
    assert not second.broken
    np.testing.assert_array_equal(second.probabilities, expected[2:])


def test_a_batch_of_broken_photos_is_answered_too(tiny_bundle, hostile_photos: Path) -> None:
    bad = [hostile_photos / "text.jpg", hostile_photos / "missing.jpg"]
    (answer,) = loaded(tiny_bundle).answers(bad)
    assert sorted(answer.broken) == [0, 1]
    assert np.isnan(answer.probabilities).all()


class TestRandomViews:
    """`tta_views="augmentor"`: as training drew them, but the same at every call."""

    @pytest.fixture
    def expected(self, tiny_bundle, photos: list[Path]) -> NDArray[np.float64]:
        return self.ensemble(tiny_bundle).predict(photos)

    @staticmethod
    def ensemble(tiny_bundle: Any, **options: Any) -> Ensemble:
        settings = {"tta": 3, "tta_views": "augmentor", "voting": "uniform", "seed": 1, **options}
        return loaded(tiny_bundle, **settings)

    @pytest.mark.parametrize("batch", [1, 5, 16])
    def test_the_batch_changes_no_bit(
        self, tiny_bundle, photos: list[Path], expected: NDArray[np.float64], batch: int
    ) -> None:
        again = self.ensemble(tiny_bundle, batch=batch).predict(photos)
        np.testing.assert_array_equal(again, expected)

    def test_going_on_in_the_middle_changes_no_bit(
        self, tiny_bundle, photos: list[Path], expected: NDArray[np.float64]
    ) -> None:
        rest = self.ensemble(tiny_bundle, batch=2).answers(photos[7:], first=7)
        rows = np.concatenate([answer.probabilities for answer in rest])
        np.testing.assert_array_equal(rows, expected[7:])

    def test_another_seed_looks_at_other_views(
        self, tiny_bundle, photos: list[Path], expected: NDArray[np.float64]
    ) -> None:
        other = self.ensemble(tiny_bundle, seed=2).predict(photos)
        assert (other != expected).any(axis=1).all()

    def test_views_come_from_the_members_own_augmentor(
        self, tiny_bundle, photos: list[Path]
    ) -> None:
        members = {member.name: member for member in load_bundle(tiny_bundle.folder).members}
        (answer,) = self.ensemble(tiny_bundle, batch=11).answers(photos)
        for name, size in SIZES.items():
            augmentor = Augmentor(members[name].augmentor)
            for number, photo in enumerate(photos):
                pixels = load(photo, Square(size))
                drawn = [augmentor(pixels, photo_seed(1, view, number)) for view in range(3)]
                np.testing.assert_allclose(
                    answer.members[name][number],
                    tiny_bundle.reference(name, np.stack(drawn)),
                    atol=1e-5,
                )

    def test_the_augmentor_of_gamma_mirrors_all_its_views(
        self, tiny_bundle, photos: list[Path]
    ) -> None:
        (answer,) = self.ensemble(tiny_bundle, batch=11).answers(photos)
        for number, photo in enumerate(photos):
            mirrored = tiny_bundle.reference("gamma", load(photo, Square(48))[None, :, ::-1])
            seen = answer.members["gamma"][number]
            np.testing.assert_allclose(seen, mirrored.repeat(3, axis=0), atol=1e-5)


class TestTimings:
    def test_every_sample_is_there_and_the_first_run_is_apart(
        self, tiny_bundle, photos: list[Path]
    ) -> None:
        ensemble = loaded(tiny_bundle, voting="alpha=1,gamma=1", batch=5)
        ensemble.predict(photos)
        timings = ensemble.timings
        keys = {ModelKey("alpha", "fp32"), ModelKey("gamma", "int8")}
        assert set(timings.load) == set(timings.first) == keys
        assert {work: len(samples) for work, samples in timings.samples.items()} == {
            "decode": 11,
            "views": 11,
            "voting": 3,
            "model alpha fp32": 2,
            "model gamma int8": 2,
        }
        assert timings.calls == 22
        assert all(ms > 0 for samples in timings.samples.values() for ms in samples)

    def test_broken_photos_count_for_nothing(self, tiny_bundle, hostile_photos: Path) -> None:
        ensemble = loaded(tiny_bundle)
        list(ensemble.answers([hostile_photos / "text.jpg", hostile_photos / "whole.jpg"]))
        assert len(ensemble.timings.samples["decode"]) == 1


class TestLoad:
    def test_the_provider_is_what_the_sessions_say(self, tiny_bundle) -> None:
        ensemble = loaded(tiny_bundle)
        assert ensemble.provider == "CPUExecutionProvider"
        assert ensemble.device.kind == "cpu"

    def test_a_read_manifest_serves_as_well_as_a_folder(
        self, tiny_bundle, photos: list[Path]
    ) -> None:
        by_manifest = Ensemble.load(load_bundle(tiny_bundle.folder), device="cpu")
        by_name = Ensemble.load(str(tiny_bundle.folder), device="cpu")
        np.testing.assert_array_equal(by_manifest.predict(photos), by_name.predict(photos))

    @pytest.mark.parametrize(
        ("option", "complaint"),
        [
            ({"tta": 0}, r"tta: Expected 1 to 8, received 0\."),
            ({"tta": 9}, r"tta: Expected 1 to 8, received 9\."),
            ({"tta": "4"}, r"tta: Expected 1 to 8, received '4'\."),
            ({"tta_views": "random"}, r"tta_views: Expected fixed or augmentor, received 'random'"),
            ({"batch": 0}, r"batch: Expected at least 1, received 0\."),
            ({"threads": -1}, r"threads: Expected at least 1, received -1\."),
            ({"voting": "best"}, "`voting='best'`: this bundle has no such voting"),
            ({"device": "gpu"}, "received 'gpu'"),
        ],
    )
    def test_a_wrong_option_is_named(
        self, tiny_bundle, option: dict[str, Any], complaint: str
    ) -> None:
        with pytest.raises(UsageError, match=complaint):
            loaded(tiny_bundle, **option)
