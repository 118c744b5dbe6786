"""Predicts all photos of a request, whatever happens on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import DECODER_VERSION
from toolkit.data.request import Request
from toolkit.files import sha256_json
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.journal import Journal
from toolkit.inference.unread import Unread
from toolkit.machine import RUNTIMES, package_versions
from toolkit.progress import SILENT, Reporter, counted


@dataclass(frozen=True)
class Outcome:
    """All answers to a request.

    Attributes:
        probabilities: Shape (photos, classes), in the request's order. A broken photo has the
            class prior.
        broken: Ids of broken photos, with the reason.
        resumed: Photos whose answers an interrupted earlier call had written down.
        seconds: From the first photo of this call to its last.
    """

    probabilities: NDArray[np.float64]
    broken: dict[str, str]
    resumed: int
    seconds: float

    @property
    def photos_per_second(self) -> float | None:
        """Rate of this call from file to vote, or None where nothing was left to do."""
        done = len(self.probabilities) - self.resumed
        return done / self.seconds if done else None


def job_identity(ensemble: Ensemble, request: Request, **settings: Any) -> dict[str, Any]:
    """Return all that the answers to a request depend on."""
    return {
        "bundle": ensemble.bundle.sha256,
        "weights": list(ensemble.voting.weights),
        "temperature": ensemble.voting.temperature,
        "provider": ensemble.provider,
        "device": ensemble.device.name,
        "runtimes": package_versions(RUNTIMES),
        "decoder": DECODER_VERSION,
        "photos": sha256_json(request.ids),
        **settings,
    }


def file_numbers(request: Request) -> NDArray[np.float64]:
    """Return a number for each photo that changes when its file does, shape (photos,)."""

    def number(path: Path) -> float:
        try:
            status = path.stat()
        except OSError:
            return -1.0
        state = sha256_json([str(path), status.st_size, status.st_mtime_ns])
        return float(int(state[:12], 16))  # 48 bits, which a float64 holds exactly

    return np.array([number(path) for path in request.paths], dtype=np.float64)


def predict_request(
    ensemble: Ensemble,
    request: Request,
    journal: Journal,
    *,
    skip_broken: bool,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Predict every photo of a request; none is ever dropped.

    Args:
        ensemble: Loaded.
        request: What to predict.
        journal: Rows that it holds already are not computed again.
        skip_broken: Answer a broken photo with the class prior, instead of refusing.

    Returns:
        One row a photo.

    Raises:
        ToolkitError: Photos are missing or broken; the message lists all of them.
    """
    unread = Unread(
        request.paths,
        ranges=ensemble.bundle.pixels.ranges,
        skip_broken=skip_broken,
        reporter=reporter,
    )
    held = journal.rows()
    answered = done = len(held)
    unread.met_before(np.flatnonzero(np.isnan(held[:, 0])).tolist())
    if done:
        reporter.say(f"going on after {done} of {counted(len(request.ids), 'photo')}")
    started = perf_counter()
    with reporter.track("predicting", len(request.ids) - done) as advance:
        for answer in ensemble.answers(request.paths[done:], first=done):
            unread.met({answered + number: error for number, error in answer.broken.items()})
            unread.noted((answered + number for number in answer.notes), answer.notes.values())
            journal.append(answer.probabilities)
            answered += len(answer.probabilities)
            advance(len(answer.probabilities))
    seconds = perf_counter() - started
    unread.report_notes()
    probabilities = journal.rows()
    broken = np.flatnonzero(np.isnan(probabilities[:, 0])).tolist()
    probabilities[broken] = ensemble.bundle.class_prior
    reasons = {request.ids[number]: unread.reason(number) for number in broken}
    return Outcome(probabilities, reasons, done, seconds)
