"""A job answers every photo of a request, or says why it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.data.pixels import BrokenPhotoError, read_photo
from toolkit.data.request import Request
from toolkit.errors import ToolkitError
from toolkit.inference import engine
from toolkit.inference import job as module
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.job import Outcome, file_numbers, job_identity, predict_request
from toolkit.inference.journal import Journal
from toolkit.progress import Reporter

PRIOR = (0.2, 0.5, 0.3)
FILES = np.zeros(100)


@pytest.fixture
def ensemble(tiny_bundle) -> Ensemble:
    return Ensemble.load(tiny_bundle.folder, tta=2, device="cpu", batch=4)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.held(tmp_path / "partial", {}, 3, FILES) as held:
        yield held


def request_for(paths: list[Path]) -> Request:
    return Request(tuple(path.name for path in paths), tuple(paths))


@pytest.fixture
def mixed(photos: list[Path], hostile_photos: Path) -> Request:
    """Sound photos, two broken ones and one that is not there."""
    bad = [hostile_photos / name for name in ("text.jpg", "missing.jpg", "zero_bytes.jpg")]
    return request_for([*photos[:5], bad[0], photos[5], bad[1], *photos[6:], bad[2]])


def test_rows_are_the_ensembles_in_the_order_of_the_request(
    ensemble: Ensemble, journal: Journal, photos: list[Path]
) -> None:
    shuffled = [photos[n] for n in (3, 0, 10, 7, 1)]
    outcome = predict_request(ensemble, request_for(shuffled), journal, skip_broken=False)
    np.testing.assert_array_equal(outcome.probabilities, ensemble.predict(shuffled))
    assert outcome.broken == {}
    assert outcome.resumed == 0
    assert outcome.photos_per_second == pytest.approx(5 / outcome.seconds)


@pytest.mark.parametrize("done", [1, 4, 7, 11])
def test_rows_of_an_earlier_sitting_are_not_computed_again(
    ensemble: Ensemble,
    journal: Journal,
    photos: list[Path],
    done: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where it stopped within a batch, or when all was done but the writing."""
    expected = ensemble.predict(photos)
    journal.append(expected[:done])
    asked: list[int] = []
    real = Ensemble.answers

    def answers(self: Ensemble, sources: Any, first: int = 0) -> Any:
        asked.extend([len(sources), first])
        return real(self, sources, first)

    monkeypatch.setattr(Ensemble, "answers", answers)
    outcome = predict_request(ensemble, request_for(photos), journal, skip_broken=False)
    assert asked == [11 - done, done]
    assert outcome.resumed == done
    np.testing.assert_array_equal(outcome.probabilities, expected)
    assert (outcome.photos_per_second is None) == (done == 11)


def test_going_on_is_told(
    ensemble: Ensemble, journal: Journal, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    journal.append(ensemble.predict(photos[:3]))
    predict_request(
        ensemble, request_for(photos), journal, skip_broken=False, reporter=Reporter(quiet=False)
    )
    told = capsys.readouterr()
    assert "going on after 3 of 11 photos" in told.err
    assert told.out == ""


class TestBrokenPhotos:
    def test_missing_and_broken_ones_are_all_listed_at_once(
        self, ensemble: Ensemble, journal: Journal, mixed: Request, hostile_photos: Path
    ) -> None:
        with pytest.raises(ToolkitError, match=r"3 of the photos .* --skip-broken") as told:
            predict_request(ensemble, mixed, journal, skip_broken=False)
        assert str(told.value).splitlines()[1:] == [
            f"  {hostile_photos / 'text.jpg'}: not a photo in a known format",
            f"  {hostile_photos / 'missing.jpg'}: no such file",
            f"  {hostile_photos / 'zero_bytes.jpg'}: the file is empty",
        ]

    def test_missing_ones_are_found_before_any_prediction(
        self,
        ensemble: Ensemble,
        journal: Journal,
        mixed: Request,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(Ensemble, "answers", lambda *_, **__: pytest.fail("predicted"))
        with pytest.raises(ToolkitError):
            predict_request(ensemble, mixed, journal, skip_broken=False)

    def test_a_broken_one_after_sound_ones_stops_the_job(
        self, ensemble: Ensemble, journal: Journal, photos: list[Path], hostile_photos: Path
    ) -> None:
        request = request_for([*photos, hostile_photos / "text.jpg"])
        with pytest.raises(ToolkitError, match=r"text\.jpg: not a photo"):
            predict_request(ensemble, request, journal, skip_broken=False)
        np.testing.assert_array_equal(journal.rows(), ensemble.predict(photos[:8]))

    def test_skipped_ones_are_answered_with_the_class_prior(
        self, ensemble: Ensemble, journal: Journal, mixed: Request, photos: list[Path]
    ) -> None:
        outcome = predict_request(ensemble, mixed, journal, skip_broken=True)
        assert outcome.broken == {
            "text.jpg": "not a photo in a known format",
            "missing.jpg": "no such file",
            "zero_bytes.jpg": "the file is empty",
        }
        bad = [mixed.ids.index(id) for id in outcome.broken]
        np.testing.assert_array_equal(outcome.probabilities[bad], [PRIOR] * 3)
        sound = np.delete(outcome.probabilities, bad, axis=0)
        np.testing.assert_array_equal(sound, ensemble.predict(photos))

    def test_skipped_ones_of_an_earlier_sitting_are_named_too(
        self, ensemble: Ensemble, journal: Journal, mixed: Request
    ) -> None:
        journal.append(np.concatenate([np.full((5, 3), 1 / 3), np.full((1, 3), np.nan)]))
        outcome = predict_request(ensemble, mixed, journal, skip_broken=True)
        assert list(outcome.broken) == ["text.jpg", "missing.jpg", "zero_bytes.jpg"]

    def test_skipped_ones_of_an_earlier_sitting_are_refused_where_they_shall_not_be(
        self, ensemble: Ensemble, journal: Journal, mixed: Request
    ) -> None:
        predict_request(ensemble, mixed, journal, skip_broken=True)
        with pytest.raises(ToolkitError, match=r"^3 of the photos to predict cannot be read"):
            predict_request(ensemble, mixed, journal, skip_broken=False)

    def test_one_that_can_be_read_a_moment_later_is_not_said_to_be_broken(
        self,
        ensemble: Ensemble,
        journal: Journal,
        photos: list[Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def hiccup(photo: Path, ranges: Any) -> Any:
            if photo == photos[2]:
                raise BrokenPhotoError(str(photo), "Stale file handle")
            return read_photo(photo, ranges)

        monkeypatch.setattr(engine, "read_photo", hiccup)
        request = request_for(photos[:4])
        with pytest.raises(
            ToolkitError, match=r"Stale file handle, and a moment later .* the same command again"
        ):
            predict_request(ensemble, request, journal, skip_broken=False)
        outcome = predict_request(ensemble, request, journal, skip_broken=True)
        assert outcome.broken == {photos[2].name: "Stale file handle"}

    def test_a_request_of_nothing_but_broken_ones_is_answered(
        self, ensemble: Ensemble, journal: Journal, hostile_photos: Path
    ) -> None:
        request = request_for([hostile_photos / "text.jpg"])
        outcome = predict_request(ensemble, request, journal, skip_broken=True)
        np.testing.assert_array_equal(outcome.probabilities, [PRIOR])


class TestIdentity:
    """Two calls are the same job exactly if they must give the same bytes."""

    @pytest.fixture
    def identity(self, ensemble: Ensemble, photos: list[Path]) -> Callable[..., dict[str, Any]]:
        def identity(
            *, paths: list[Path] | None = None, voting: str = "auto", **settings: Any
        ) -> dict[str, Any]:
            same = ensemble
            if voting != "auto":
                same = Ensemble.load(ensemble.bundle, tta=2, device="cpu", voting=voting)
            options = {"tta": 2, "seed": 0, **settings}
            return job_identity(same, request_for(paths or photos), **options)

        return identity

    def test_the_same_call_is_the_same_job(self, identity: Callable[..., Any]) -> None:
        assert identity() == identity()

    def test_by_another_runtime_it_is_another_job(
        self, identity: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = identity()
        monkeypatch.setattr(module, "package_versions", lambda names: {"onnxruntime": "99.0"})
        assert identity() != before

    @pytest.mark.parametrize("change", [{"voting": "uniform"}, {"tta": 3}, {"seed": 1}])
    def test_other_options_are_another_job(
        self, identity: Callable[..., Any], change: dict[str, Any]
    ) -> None:
        assert identity(**change) != identity()

    def test_another_order_is_another_job(
        self, identity: Callable[..., Any], photos: list[Path]
    ) -> None:
        assert identity(paths=photos[::-1]) != identity()

    def test_a_mended_photo_has_another_number(self, photos: list[Path], tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        request = request_for([path])
        missing = file_numbers(request)[0]
        path.write_bytes(photos[0].read_bytes())
        first = file_numbers(request)[0]
        path.write_bytes(photos[1].read_bytes())
        os.utime(path, ns=(0, 0))
        assert len({missing, first, file_numbers(request)[0]}) == 3

    def test_another_bundle_is_another_job(
        self, identity: Callable[..., Any], ensemble: Ensemble
    ) -> None:
        assert identity()["bundle"] == ensemble.bundle.sha256


def test_a_rate_needs_photos() -> None:
    outcome = Outcome(np.zeros((4, 3)), {}, resumed=4, seconds=0.1)
    assert outcome.photos_per_second is None
    assert module.Outcome(np.zeros((4, 3)), {}, 1, 0.5).photos_per_second == 6
