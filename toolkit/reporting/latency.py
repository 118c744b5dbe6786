"""The latency report of a submission: its schema, and how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from toolkit.artifacts import Count, Sha256, Share, artifact, dump_artifact, read_artifact
from toolkit.files import read_json, write_json
from toolkit.inference.calls import ModelKey
from toolkit.inference.certificate import Certificate
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.executor import BROKEN
from toolkit.inference.predict import Predictions
from toolkit.inference.timing import percentiles
from toolkit.inference.views import VIEWS
from toolkit.machine import peak_memory_bytes

Amount = Annotated[float, Field(ge=0)]


@artifact
class EndToEnd:
    """From file to vote.

    Attributes:
        seconds: From the first photo of the last call to its last.
        photos_per_second: None where nothing was left to do.
    """

    seconds: Amount
    photos_per_second: Amount | None


@artifact
class InferenceCost:
    """Time in the networks alone.

    Attributes:
        seconds: Altogether.
        ms_a_photo: None where nothing was left to do, as what follows.
        calls_a_photo: Model calls that were made.
        full_calls_a_photo: Those of the full ensemble.
    """

    seconds: Amount
    ms_a_photo: Amount | None
    calls_a_photo: Amount | None
    full_calls_a_photo: Count


@artifact
class Stage:
    """Percentiles of one stage; None where the samples are too few to carry one.

    Attributes:
        unit: Of the figures.
        n: Samples.
        p50: Median.
        p90: 90th percentile.
        p99: 99th percentile.
        short_run: Whether the samples are too few for all of them.
    """

    unit: str
    n: Count
    p50: Amount | None
    p90: Amount | None
    p99: Amount | None
    short_run: bool


@artifact
class Step:
    """What one step of a cascade did.

    Attributes:
        calls: Its model calls, in words.
        photos: That exited after it.
        share: Of all photos.
    """

    calls: tuple[str, ...]
    photos: Count
    share: Share


@artifact
class Rest:
    """Photos that no step settled: they got the full ensemble's label.

    Attributes:
        photos: How many.
        share: Of all photos.
    """

    photos: Count
    share: Share


@artifact
class CascadeReport:
    """What a cascade did: how many photos exited where, and what is guaranteed.

    Attributes:
        plan_sha256: Of the plan that was followed.
        expected_ms_a_photo: Inference, as the plan expects it after the certificate.
        full_ms_a_photo: Of the full ensemble, as measured for the plan.
        certificate: What the guarantee rests on.
        sampled: Photos that got the full ensemble for the certificate.
        steps: Empty where no threshold set was accepted.
        full: The photos that are left.
    """

    plan_sha256: Sha256
    expected_ms_a_photo: Amount
    full_ms_a_photo: Amount
    certificate: Certificate
    sampled: Count
    steps: tuple[Step, ...]
    full: Rest


@artifact
class LatencyReport:
    """What `latency.json` holds: what a prediction cost, with every raw sample.

    Attributes:
        provider: What the sessions ran on.
        device: Its name.
        notes: Why `auto` took no GPU.
        threads: Of a session on the CPU.
        batch: Photos a batch.
        views: Views a photo.
        precision: Precisions that were run.
        photos: Predicted by the last call.
        resumed_photos: That interrupted earlier calls had predicted.
        end_to_end: See `EndToEnd`.
        inference: See `InferenceCost`.
        method: `full`, `label-exact` or `cascade`.
        guarantee: How the labels stand to the full ensemble's, in words.
        cascade: None where no plan was searched.
        load_ms: Loading, by member and precision.
        first_run_ms: The first run, likewise; it is not part of the samples.
        stages: Percentiles in milliseconds, by stage.
        peak_memory_bytes: Of this process; None where the system does not say.
        samples_ms: All samples in milliseconds, by stage.
        schema_version: Of this file.
    """

    provider: str
    device: str
    notes: tuple[str, ...]
    threads: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    views: Annotated[int, Field(ge=1, le=len(VIEWS))]
    precision: tuple[str, ...]
    photos: Count
    resumed_photos: Count
    end_to_end: EndToEnd
    inference: InferenceCost
    method: str
    guarantee: str
    cascade: CascadeReport | None
    load_ms: dict[str, Amount]
    first_run_ms: dict[str, Amount]
    stages: dict[str, Stage]
    peak_memory_bytes: Count | None
    samples_ms: dict[str, tuple[Amount, ...]]
    schema_version: Literal[1] = 1

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, dump_artifact(self))

    @classmethod
    def load(cls, path: Path) -> LatencyReport:
        """Read what `save` wrote.

        Raises:
            ToolkitError: The file is missing or is something else; names file and key.
        """
        remedy = "Make the submission again with 'toolkit ensemble'."
        return read_artifact(cls, read_json(path), path, remedy)


def latency_report(ensemble: Ensemble, predictions: Predictions) -> LatencyReport:
    """Return what prediction cost.

    Args:
        ensemble: With its timings.
        predictions: Of the job.
    """
    timings = ensemble.timings
    done = len(predictions.probabilities) - predictions.resumed
    rate = predictions.photos_per_second
    return LatencyReport(
        provider=providers(ensemble, predictions),
        device=ensemble.device.name,
        notes=tuple(ensemble.notes),
        threads=ensemble.threads,
        batch=ensemble.sessions.batch,
        views=ensemble.views,
        precision=tuple(predictions.precisions),
        photos=done,
        resumed_photos=predictions.resumed,
        end_to_end=EndToEnd(round(predictions.seconds, 3), round(rate, 3) if rate else None),
        inference=InferenceCost(
            seconds=round(timings.inference_ms / 1e3, 3),
            ms_a_photo=round(timings.inference_ms / done, 3) if done else None,
            calls_a_photo=round(timings.calls / done, 3) if done else None,
            full_calls_a_photo=len(predictions.plan.weights) * ensemble.views,
        ),
        method=predictions.plan.method,
        guarantee=predictions.guarantee,
        cascade=_cascade(predictions),
        load_ms=_rounded(timings.load),
        first_run_ms=_rounded(timings.first),
        stages={
            work: Stage(unit=_unit(work), **percentiles(samples))
            for work, samples in timings.samples.items()
        },
        peak_memory_bytes=peak_memory_bytes(),
        samples_ms={
            work: tuple(np.round(samples, 3).tolist()) for work, samples in timings.samples.items()
        },
    )


def providers(ensemble: Ensemble, predictions: Predictions) -> str:
    """Return what all sessions of a job ran on, in words."""
    return ", ".join(dict.fromkeys([ensemble.provider, *predictions.providers]))


def _cascade(predictions: Predictions) -> CascadeReport | None:
    plan, certificate = predictions.plan, predictions.certificate
    if plan.search is None:
        return None
    photos = len(predictions.exit_step)
    steps = []
    for number, calls in enumerate(plan.steps if certificate.accepted else ()):
        exited = int((predictions.exit_step == number).sum())
        words = tuple(f"{call.key}, {VIEWS[call.view].name}" for call in calls)
        steps.append(Step(words, exited, exited / photos))
    unread = int((predictions.exit_step == BROKEN).sum())
    full = photos - sum(step.photos for step in steps) - predictions.sampled - unread
    accepted = plan.threshold_sets[certificate.accepted - 1] if certificate.accepted else None
    return CascadeReport(
        plan_sha256=plan.sha256,
        expected_ms_a_photo=accepted.ms if accepted else plan.search.settled_ms,
        full_ms_a_photo=plan.search.full_ms,
        certificate=certificate,
        sampled=predictions.sampled,
        steps=tuple(steps),
        full=Rest(full, full / photos),
    )


def _unit(work: str) -> str:
    return {
        "decode": "ms a photo",
        "views": "ms a photo and step",
        "voting": "ms a window of photos",
    }.get(work, "ms an image, by runs")


def _rounded(values: Mapping[ModelKey, float]) -> dict[str, float]:
    return {str(key): round(value, 2) for key, value in values.items()}
