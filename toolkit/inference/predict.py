"""Predicts all photos of a request by a plan, whatever happens on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import DECODER_VERSION
from toolkit.data.request import Request
from toolkit.errors import ToolkitError, argument
from toolkit.files import sha256_json
from toolkit.inference.certificate import (
    Certificate,
    Certify,
    certify_by_sample,
    fallback_ms,
    label_exact_from_the_start,
    sample_size,
    uncertified,
)
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.executor import BROKEN, Executor
from toolkit.inference.guarantee import draw_sample
from toolkit.inference.journal import Journal
from toolkit.inference.plan import CascadePlan
from toolkit.inference.unread import Unread
from toolkit.machine import RUNTIMES, package_versions
from toolkit.progress import SILENT, Reporter, counted

EXIT_STEP, DIFFERS, PROBABILITIES = 0, 1, 2
"""Columns of a row: `toolkit.inference.executor.Window`'s; the last one is the first of many."""


@dataclass(frozen=True)
class PredictionJob:
    """A plan, and the photos that it is certified on.

    Attributes:
        plan: The plan.
        certify: What the guarantee shall rest on.
        photos: That are predicted.
        sample: Of them get the full ensemble first, and the threshold sets are tried on them.
        seed: Of the sample's draw.
        budget_ms: Largest mean inference cost a photo; None sets no limit.
    """

    plan: CascadePlan
    certify: Certify
    photos: int
    sample: int
    seed: int
    budget_ms: float | None = None

    @classmethod
    def of(
        cls,
        plan: CascadePlan,
        photos: int,
        *,
        certify: Certify = "test",
        seed: int = 0,
        budget_ms: float | None = None,
    ) -> PredictionJob:
        """Choose the sample's size; nothing that it rests on is learnt from the photos."""
        return cls(plan, certify, photos, sample_size(plan, photos, certify), seed, budget_ms)

    @property
    def order(self) -> NDArray[np.int64]:
        """Numbers of the photos in the order of prediction: the sample first, shape (photos,)."""
        sample = draw_sample(self.photos, self.sample, self.seed)
        return np.concatenate([sample, np.setdiff1d(np.arange(self.photos), sample)])

    @property
    def identity(self) -> dict[str, Any]:
        """All of it that the answers depend on."""
        return {
            "plan": self.plan.sha256,
            "certify": self.certify,
            "sample": self.sample,
            "sample_seed": self.seed,
        }

    def certificate(self, differs: NDArray[np.int64]) -> Certificate:
        """Return what is guaranteed, when the sample is predicted.

        Args:
            differs: Of its photos, shape (sample,); see `certify_by_sample`.
        """
        certain = label_exact_from_the_start(self.plan, self.photos, self.certify, self.sample)
        if certain:
            return certain
        if self.certify == "off":
            return uncertified(self.plan, self.photos)
        return certify_by_sample(self.plan, self.photos, differs)


@dataclass(frozen=True)
class Predictions:
    """What a job predicted.

    Attributes:
        probabilities: Shape (photos, classes), in the request's order. A broken photo has the
            class prior.
        exit_step: Step after which each photo exited, in the request's order, shape (photos,); the
            number of steps where its label is the full ensemble's, -1 where it could not be read.
        broken: Ids of broken photos, with the reason.
        resumed: Photos whose answers an interrupted earlier call had written down.
        seconds: From the first photo of this call to its last.
        plan: What was carried out.
        certificate: What is guaranteed of the labels.
        sampled: Photos that got the full ensemble for the certificate, broken ones not counted.
        providers: What the sessions ran on.
    """

    probabilities: NDArray[np.float64]
    exit_step: NDArray[np.int64]
    broken: dict[str, str]
    resumed: int
    seconds: float
    plan: CascadePlan
    certificate: Certificate
    sampled: int
    providers: tuple[str, ...]

    @property
    def guarantee(self) -> str:
        """How the labels stand to the full ensemble's, in words."""
        return self.certificate.guarantee

    @property
    def precisions(self) -> list[str]:
        """Precisions that were run, if only on the sample."""
        tried = self.certificate.accepted or self.certificate.disagreements
        calls = self.plan.calls if tried else self.plan.weights
        return sorted({call.precision for call in calls})

    @property
    def photos_per_second(self) -> float | None:
        """Rate of this call from file to vote, or None where nothing was left to do."""
        done = len(self.probabilities) - self.resumed
        return done / self.seconds if done else None


def job_identity(ensemble: Ensemble, request: Request, **settings: Any) -> dict[str, Any]:
    """Return all that the answers to a request depend on, whatever the plan."""
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


def columns(ensemble: Ensemble) -> int:
    """Return how many columns a row of the journal has."""
    return PROBABILITIES + len(ensemble.classes)


def predict_request(
    ensemble: Ensemble,
    request: Request,
    job: PredictionJob,
    journal: Journal,
    *,
    skip_broken: bool,
    reporter: Reporter = SILENT,
) -> Predictions:
    """Predict every photo of a request; none is ever dropped.

    Args:
        ensemble: Loaded.
        request: What to predict.
        job: How.
        journal: Of rows in `job.order`, of `columns`. Rows that it holds are not computed again.
        skip_broken: Answer a broken photo with the class prior, instead of refusing.

    Returns:
        One row a photo.

    Raises:
        ToolkitError: Photos are missing or broken; the message lists all of them. Or no threshold
            set was accepted, and the labels of the full ensemble are over the budget.
    """
    order = job.order
    paths = [request.paths[index] for index in order]
    unread = Unread(
        request.paths,
        ranges=ensemble.bundle.pixels.ranges,
        skip_broken=skip_broken,
        reporter=reporter,
    )
    held = journal.rows()
    done = len(held)
    unread.met_before(order[np.flatnonzero(held[:, EXIT_STEP] == BROKEN)].tolist())
    if done:
        reporter.say(f"resuming after {done} of {counted(job.photos, 'photo')}")
    started = perf_counter()

    def predicted(work: str, executor: Executor, start: int, end: int) -> None:
        with reporter.track(work, max(0, end - start)) as advance:
            for window in executor.predict(paths[start:end], first=start):
                unread.met({int(order[start + n]): error for n, error in window.broken.items()})
                numbers = (int(order[start + n]) for n in window.notes)
                unread.noted(numbers, window.notes.values())
                known = np.stack([window.exit_step, window.differs], axis=1)
                journal.append(np.hstack([known, window.probabilities]))
                start += len(window)
                advance(len(window))

    if done < job.sample:
        tried = ensemble.executor(job.plan, tried=True)
        predicted("full ensemble on a sample", tried, done, job.sample)
    certificate = job.certificate(journal.rows()[: job.sample, DIFFERS].astype(np.int64))
    if job.plan.method != "full":
        reporter.say(f"guarantee: {certificate.guarantee}")
    _refuse_over_budget(job, certificate)
    executor = ensemble.executor(job.plan, accepted=certificate.accepted)
    predicted("predicting", executor, max(done, job.sample), job.photos)
    seconds = perf_counter() - started
    unread.report_notes()
    table = np.empty_like(journal.rows())
    table[order] = journal.rows()
    exit_step = table[:, EXIT_STEP].astype(np.int64)
    probabilities = table[:, PROBABILITIES:]
    broken = np.flatnonzero(exit_step == BROKEN).tolist()
    probabilities[broken] = ensemble.bundle.class_prior
    return Predictions(
        probabilities=probabilities,
        exit_step=exit_step,
        broken={request.ids[number]: unread.reason(number) for number in broken},
        resumed=done,
        seconds=seconds,
        plan=job.plan,
        certificate=certificate,
        sampled=int((exit_step[order[: job.sample]] != BROKEN).sum()),
        providers=tuple(ensemble.sessions.providers),
    )


def _refuse_over_budget(job: PredictionJob, certificate: Certificate) -> None:
    """Refuse a job that costs more than its budget, because no threshold set was accepted.

    Raises:
        ToolkitError: It does.
    """
    if certificate.accepted or job.budget_ms is None or job.plan.search is None:
        return
    ms = fallback_ms(job.plan, job.photos, job.sample)
    if ms > job.budget_ms:
        raise ToolkitError(
            f"{argument('budget_ms', job.budget_ms)}: {certificate.reason}, and the full "
            f"ensemble's labels take {ms:.2f} ms a photo, what was tried included. Raise it or "
            "`tolerance`."
        )
