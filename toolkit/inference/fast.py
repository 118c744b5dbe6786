"""Predicts a request by a plan, and certifies its labels on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.request import Request
from toolkit.errors import ToolkitError
from toolkit.inference.cascade import BROKEN, Cascade, Window
from toolkit.inference.certificate import (
    Certificate,
    Certify,
    certify_by_sample,
    exact_from_the_start,
    fallback_ms,
    sample_size,
    uncertified,
)
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.job import Outcome
from toolkit.inference.journal import Journal
from toolkit.inference.plan import Plan
from toolkit.inference.promise import draw_sample
from toolkit.inference.unread import Unread
from toolkit.progress import SILENT, Reporter, counted

CERTIFICATE = "certificate"


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
        """Precisions that the plan's steps were run in, if only on the sample."""
        followed = self.certificate.shipped or self.certificate.disagreements
        steps = self.plan.steps if followed else ()
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

    Returns:
        One row a photo.

    Raises:
        ToolkitError: Photos are missing or broken; the message lists all of them. Or no plan
            within the budget was certified.
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
    unread.met_before(order[np.flatnonzero(held[:, 0] == BROKEN)].tolist())
    if done:
        reporter.say(f"going on after {done} of {counted(job.photos, 'photo')}")
    if done < job.sample:
        journal.forget(CERTIFICATE)
    started = perf_counter()

    def predicted(work: str, cascade: Cascade, start: int, end: int) -> None:
        with reporter.track(work, max(0, end - start)) as advance:
            for window in cascade.predict(paths[start:end]):
                unread.met({int(order[start + n]): error for n, error in window.broken.items()})
                numbers = (int(order[start + n]) for n in window.notes)
                unread.noted(numbers, window.notes.values())
                journal.append(np.hstack([window.left[0][:, None], window.probabilities[0]]))
                start += len(window)
                advance(len(window))

    exactly = Cascade.of_exact_labels(ensemble.sessions, job.plan)
    predicted("exact sample", exactly, done, job.sample)
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
    instead_ms = fallback_ms(job.plan, job.photos, job.sample)
    if not certificate.shipped and job.budget_ms and instead_ms > job.budget_ms:
        raise ToolkitError(
            f"--budget-ms {job.budget_ms:g}: {certificate.reason}, and exact labels take "
            f"{instead_ms:.2f} ms a photo, what was tried included. Raise the budget or "
            "--tolerance."
        )
    cascade = exactly
    if certificate.shipped:
        thresholds = job.plan.candidates[certificate.shipped - 1].thresholds
        cascade = Cascade(ensemble.sessions, job.plan, [thresholds], exact=True)
    predicted("predicting", cascade, max(done, job.sample), job.photos)
    seconds = perf_counter() - started
    unread.report_notes()
    table = np.empty_like(journal.rows())
    table[order] = journal.rows()
    probabilities = table[:, 1:]
    broken = np.flatnonzero(table[:, 0] == BROKEN).tolist()
    probabilities[broken] = ensemble.bundle.class_prior
    return FastOutcome(
        probabilities=probabilities,
        broken={request.ids[number]: unread.reason(number) for number in broken},
        resumed=done,
        seconds=seconds,
        plan=job.plan,
        certificate=certificate,
        left=table[:, 0].astype(np.int64),
        sampled=int((table[order[: job.sample], 0] != BROKEN).sum()),
        providers=tuple(ensemble.sessions.providers),
    )


def _certificate(
    ensemble: Ensemble,
    job: FastJob,
    journal: Journal,
    paths: Sequence[Path],
    reporter: Reporter,
) -> Certificate:
    plan = job.plan
    certain = exact_from_the_start(plan, job.photos, job.certify, job.sample)
    if certain:
        return certain
    if job.certify == "off":
        return uncertified(plan, job.photos)
    exact = journal.rows()[: job.sample, 1:]
    thresholds = [each.thresholds for each in plan.candidates]
    cascade = Cascade(ensemble.sessions, plan, thresholds, exact=False)
    labels: list[NDArray[np.int64]] = []
    with reporter.track("plans on the sample", job.sample) as advance:
        for window in cascade.predict(paths[: job.sample]):
            _refuse_lost(window, exact[sum(each.shape[1] for each in labels) :])
            labels.append(_labels(window.probabilities))
            advance(len(window))
    expected = _labels(exact)
    found = np.concatenate(labels, axis=1)
    # Where a candidate leaves the answer to the exact ensemble, it gives that one's label.
    return certify_by_sample(plan, job.photos, expected, np.where(found < 0, expected, found))


def _refuse_lost(window: Window, exact: NDArray[np.float64]) -> None:
    """Refuse to certify on photos that got their exact label and can no longer be read.

    Raises:
        ToolkitError: There is one.
    """
    for number, error in window.broken.items():
        if not np.isnan(exact[number, 0]):
            raise ToolkitError(
                f"{error}, and it could be read when it got its exact label. See that it can be "
                "read again, and run the same command, which goes on where it stopped."
            )


def _labels(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the labels of rows of any leading shape; -1 where a row is NaN."""
    labels: NDArray[np.int64] = np.nan_to_num(probabilities, nan=-1.0).argmax(axis=-1)
    return np.where(np.isnan(probabilities[..., 0]), -1, labels)
