"""Bench scenarios: what is counted, and what is kept out of the count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolkit.data.pixels import BrokenPhotoError
from toolkit.inference.bench import WARM_UP, BenchResult, offline, single_stream
from toolkit.inference.ensemble import Ensemble


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[Path]]:
    """The photos of each call, in order."""
    calls: list[list[Path]] = []
    real = Ensemble.answers

    def answers(self: Ensemble, photos: Any, first: int = 0) -> Any:
        calls.append(list(photos))
        return real(self, photos, first)

    monkeypatch.setattr(Ensemble, "answers", answers)
    return calls


def ensemble(tiny_bundle: Any, batch: int) -> Ensemble:
    return Ensemble.load(tiny_bundle.folder, device="cpu", batch=batch)


def test_single_stream_sends_photos_one_at_a_time_in_turn(
    tiny_bundle, photos: list[Path], asked: list[list[Path]]
) -> None:
    result = single_stream(ensemble(tiny_bundle, 1), photos[:3], 7)
    assert all(len(call) == 1 for call in asked)
    assert [call[0] for call in asked[WARM_UP:]] == [photos[n % 3] for n in range(7)]
    assert result.scenario == "single-stream"
    assert result.photos == len(result.latencies_ms) == 7
    assert sum(result.latencies_ms) <= 1e3 * result.seconds


def test_offline_takes_all_photos_in_batches(
    tiny_bundle, photos: list[Path], asked: list[list[Path]]
) -> None:
    result = offline(ensemble(tiny_bundle, 4), photos, 18, batch=4)
    warm_up, measured = asked
    assert len(warm_up) == WARM_UP * 4
    assert measured == [photos[n % 11] for n in range(18)]
    assert result.photos == 18
    assert len(result.latencies_ms) == 5, "batches of 4, 4, 4, 4 and 2"
    assert sum(result.latencies_ms) <= 1e3 * result.seconds


def test_throughput_is_photos_by_seconds() -> None:
    assert BenchResult("offline", photos=30, seconds=1.5, latencies_ms=[]).photos_per_second == 20


@pytest.mark.parametrize("place", [0, 10])
def test_a_broken_photo_is_not_measured_but_raised(
    tiny_bundle, photos: list[Path], hostile_photos: Path, place: int
) -> None:
    spoilt = [*photos]
    spoilt[place] = hostile_photos / "text.jpg"
    with pytest.raises(BrokenPhotoError, match=r"text\.jpg"):
        single_stream(ensemble(tiny_bundle, 1), spoilt, 11)
    with pytest.raises(BrokenPhotoError, match=r"text\.jpg"):
        offline(ensemble(tiny_bundle, 4), spoilt, 11, batch=4)
