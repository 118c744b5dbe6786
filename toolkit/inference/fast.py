"""Predicts a request by a plan, and certifies its labels on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Request
from toolkit.errors import ToolkitError
from toolkit.inference.cascade import BROKEN, Cascade
from toolkit.inference.certificate import (
    Certificate,
    Certify,
    certify_by_sample,
    certify_by_validation,
    exactly,
    sample_size,
    uncertified,
)
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.job import Outcome, broken_reason, refuse_broken, refuse_missing
from toolkit.inference.journal import Journal
from toolkit.inference.plan import Plan
from toolkit.inference.promise import draw_sample
from toolkit.inference.sessions import Sessions
from toolkit.progress import SILENT, Reporter, counted

CERTIFICATE = "certificate"

CERTAIN_REASON = "runs that could not change it were skipped"


@dataclass(frozen=True)
class FastJob:
    """A plan, and the photos that it is certified on.

    Attributes:
        plan: The plan.
        certify: What the promise shall rest on.
        photos: That are predicted.
        sample: Of them get their exact label first.
        seed: Of the sample's draw.
        budget_ms: Largest mean inference cost a photo; None sets no limit.
    """

    plan: Plan
    certify: Certify
    photos: int
    sample: int
    seed: int
    budget_ms: float | None = None

    @classmethod
    def of(
        cls,
        plan: Plan,
        certify: Certify,
        photos: int,
        *,
        seed: int,
        budget_ms: float | None = None,
    ) -> FastJob:
        """Choose the sample's size; nothing that it rests on is learnt from the photos."""
        sample = sample_size(plan, photos, certify)
        return cls(plan, certify, photos, sample, seed, budget_ms)

    @property
    def order(self) -> NDArray[np.int64]:
        """Numbers of the photos in the order of prediction: the sample first, shape (photos,)."""
        sample = draw_sample(self.photos, self.sample, self.seed)
        return np.concatenate([sample, np.setdiff1d(np.arange(self.photos), sample)])

    @property
    def identity(self) -> dict[str, Any]:
        """All that the answers depend on."""
        return {
            "plan": self.plan.sha256,
            "certify": self.certify,
            "sample": self.sample,
            "sample_seed": self.seed,
        }


@dataclass(frozen=True)
class FastOutcome(Outcome):
    """All answers to a request, and how they were come by.

    Attributes:
        plan: What was carried out.
        certificate: What is promised of the labels.
        left: Step after which each photo left, in the request's order, shape (photos,); the number
            of steps where it got its exact label, -1 where the photo could not be read.
        sampled: Photos that got their exact label for the certificate, broken ones not counted.
        providers: What the sessions ran on.
    """

    plan: Plan
    certificate: Certificate
    left: NDArray[np.int64]
    sampled: int
    providers: tuple[str, ...]

    @property
    def precisions(self) -> set[str]:
        """Precisions that the plan's steps were run in."""
        steps = self.plan.steps if self.certificate.shipped else ()
        return {run.precision for step in steps for run in step}


def predict_fast(
    ensemble: Ensemble,
    request: Request,
    job: FastJob,
    journal: Journal,
    *,
    skip_broken: bool,
    reporter: Reporter = SILENT,
) -> FastOutcome:
    """Predict every photo of a request by a plan; none is ever dropped.

    Args:
        ensemble: The exact one, loaded for a plan.
        request: What to predict.
        job: How.
        journal: Of rows in `job.order`: step left, then probabilities. Rows that it holds already
            are not computed again.
        skip_broken: Answer a broken photo with the class prior, instead of refusing.
        reporter: Where progress is told.

    Returns:
        One row a photo.

    Raises:
        ToolkitError: Photos are missing or broken; the message lists all of them. Or no plan
            within the budget was certified.
    """
    if not skip_broken:
        refuse_missing(request.paths, reporter)
    order = job.order
    paths = [request.paths[index] for index in order]
    done = len(journal.rows())
    if done:
        reporter.say(f"going on after {done} of {counted(job.photos, 'photo')}")
    if done < job.sample:
        journal.forget(CERTIFICATE)
    started = perf_counter()

    def predicted(work: str, rows: Iterator[NDArray[np.float64]], end: int) -> None:
        with reporter.track(work, max(0, end - len(journal.rows()))) as advance:
            for each in rows:
                if not skip_broken and (each[:, 0] == BROKEN).any():
                    refuse_broken(request.paths, reporter)
                journal.append(each)
                advance(len(each))

    sessions = ensemble.sessions
    predicted("exact sample", _exactly(sessions, job.plan, paths[done : job.sample]), job.sample)
    found = journal.remember(
        CERTIFICATE,
        lambda: asdict(_certificate(ensemble, job, journal, paths, reporter)),
    )
    certificate = Certificate(
        **{
            **found,
            "disagreements": tuple(found["disagreements"]),
            "p_values": tuple(found["p_values"]),
        }
    )
    reporter.say(f"promise: {certificate.promise}")
    if not certificate.shipped and job.budget_ms and job.plan.settled_ms > job.budget_ms:
        raise ToolkitError(
            f"--budget-ms {job.budget_ms:g}: {certificate.reason}, and exact labels take "
            f"{job.plan.settled_ms:.2f} ms a photo. Raise the budget or --tolerance."
        )
    rest = paths[max(done, job.sample) :]
    if certificate.shipped:
        thresholds = job.plan.candidates[certificate.shipped - 1].thresholds
        rows = _rows(Cascade(sessions, job.plan, [thresholds], exact=True), rest)
    else:
        rows = _exactly(sessions, job.plan, rest)
    predicted("predicting", rows, job.photos)
    seconds = perf_counter() - started
    table = np.empty_like(journal.rows())
    table[order] = journal.rows()
    probabilities = table[:, 1:]
    unread = np.flatnonzero(table[:, 0] == BROKEN)
    probabilities[unread] = ensemble.bundle.class_prior
    return FastOutcome(
        probabilities=probabilities,
        broken={request.ids[index]: broken_reason(request.paths[index]) for index in unread},
        resumed=done,
        seconds=seconds,
        plan=job.plan,
        certificate=certificate,
        left=table[:, 0].astype(np.int64),
        sampled=int((table[order[: job.sample], 0] != BROKEN).sum()),
        providers=tuple(sessions.providers),
    )


def _exactly(
    sessions: Sessions, plan: Plan, paths: Sequence[Path]
) -> Iterator[NDArray[np.float64]]:
    """Give every photo its exact label, at no less than is needed to be certain of it."""
    cascade = Cascade(sessions, replace(plan, steps=()), [()], exact=True)
    for row in _rows(cascade, paths):
        row[:, 0] = np.where(row[:, 0] == BROKEN, BROKEN, len(plan.steps))
        yield row


def _rows(cascade: Cascade, paths: Sequence[Path]) -> Iterator[NDArray[np.float64]]:
    for window in cascade.predict(paths):
        yield np.hstack([window.left[0][:, None], window.probabilities[0]])


def _certificate(
    ensemble: Ensemble,
    job: FastJob,
    journal: Journal,
    paths: Sequence[Path],
    reporter: Reporter,
) -> Certificate:
    plan = job.plan
    if not plan.candidates:
        reason = "nothing cheaper was found" if plan.photos else CERTAIN_REASON
        return exactly(plan, job.photos, job.certify, reason)
    if job.certify == "off":
        return uncertified(plan, job.photos)
    if job.certify == "validation":
        return certify_by_validation(ensemble, plan, job.photos)
    if not job.sample:
        return exactly(
            plan, job.photos, "test", "for so few photos a certificate costs more than it saves"
        )
    exact = journal.rows()[: job.sample, 1:]
    thresholds = [each.thresholds for each in plan.candidates]
    cascade = Cascade(ensemble.sessions, plan, thresholds, exact=False)
    labels: list[NDArray[np.int64]] = []
    with reporter.track("plans on the sample", job.sample) as advance:
        for window in cascade.predict(paths[: job.sample]):
            labels.append(_labels(window.probabilities))
            advance(window.left.shape[1])
    expected = _labels(exact)
    found = np.concatenate(labels, axis=1)
    # Where a candidate leaves the answer to the exact ensemble, it gives that one's label.
    return certify_by_sample(plan, job.photos, expected, np.where(found < 0, expected, found))


def _labels(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the labels of rows of any leading shape; -1 where a row is NaN."""
    labels: NDArray[np.int64] = np.nan_to_num(probabilities, nan=-1.0).argmax(axis=-1)
    return np.where(np.isnan(probabilities[..., 0]), -1, labels)
