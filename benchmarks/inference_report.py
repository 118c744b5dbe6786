"""Figures and tables of `inference.py`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

from toolkit.artifacts import dump_artifact
from toolkit.machine import usable_cores

if TYPE_CHECKING:
    from sides import Sample

LABEL_EXACT_SIDE = "label-exact"
QUOTED = 0.01
"""The tolerance of the quoted ratios."""

Labels = Mapping[str, str]


def cascade_name(tolerance: float) -> str:
    """Return the name of a cascade."""
    return f"cascade {tolerance:g}"


def spread(samples: Sequence[float]) -> dict[str, float | int]:
    """Summarise samples."""
    return {
        "median": statistics.median(samples),
        "min": min(samples),
        "max": max(samples),
        "n": len(samples),
    }


def compare(exact: Labels, other: Labels, truth: Labels) -> dict[str, float | int]:
    """Compare labels on the ids that both have, and with the truth where it is known."""
    ids = [id for id in exact if id in other]
    found: dict[str, float | int] = {
        "photos": len(ids),
        "agreement": float(np.mean([exact[id] == other[id] for id in ids])),
    }
    known = [id for id in ids if id in truth]
    if known:
        right = np.array([[side[id] == truth[id] for id in known] for side in (exact, other)])
        lost, won = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
        found |= {
            "labelled": len(known),
            "accuracy_exact": float(right[0].mean()),
            "accuracy_other": float(right[1].mean()),
            "right_only_by_exact": lost,
            "right_only_by_other": won,
            "mcnemar_p": float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
        }
    return found


def described(sample: Sample) -> dict[str, Any]:
    """Return a raw sample without its labels."""
    latency = sample.latency
    return {
        "photos": sample.photos,
        "seconds": sample.seconds,
        "inference_seconds": sample.inference_seconds,
        "photos_per_second": sample.rate,
        "inference_photos_per_second": sample.inference_rate,
        **(
            {
                "call_seconds": sample.call_seconds,
                "calls_a_photo": latency.inference.calls_a_photo,
                "load_ms": latency.load_ms,
                "threads": latency.threads,
                "provider": latency.provider,
                "cascade": dump_artifact(latency.cascade) if latency.cascade else None,
            }
            if latency
            else {}
        ),
    }


def side_report(
    samples: Sequence[Sample], whole: int, exact: Labels, truth: Labels
) -> dict[str, Any]:
    """Summarise one side.

    Args:
        samples: One a round.
        whole: Rows of the whole job.
        exact: The full ensemble's labels, to compare with on the photos that both answered.
        truth: The true labels by row id.
    """
    last = samples[-1]
    found: dict[str, Any] = {
        "slice": last.photos if last.photos < whole else None,
        "extrapolated": last.photos < whole,
        "end_to_end": spread([each.rate for each in samples]),
        "inference": spread([each.inference_rate for each in samples]),
        "against_full": compare(exact, last.labels, truth),
        "samples": [described(each) for each in samples],
    }
    if last.latency and last.latency.cascade:
        found["guarantee"] = last.latency.guarantee
    return found


def ratios(sides: Mapping[str, Any], own: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the quoted ratios of medians of photos a second."""
    quoted = sides[cascade_name(QUOTED)]

    def ratio(over: str, under: str, what: str) -> float:
        return float(sides[over][what]["median"] / sides[under][what]["median"])

    name = cascade_name(QUOTED)
    return {
        "full_over_keras_end_to_end": ratio("full", "keras", "end_to_end"),
        "full_over_plain_ort_end_to_end": ratio("full", "onnxruntime", "end_to_end"),
        "cascade_over_keras_end_to_end": ratio(name, "keras", "end_to_end"),
        "cascade_over_full_inference": ratio(name, "full", "inference"),
        "label_exact_over_full_inference": ratio(LABEL_EXACT_SIDE, "full", "inference"),
        "agreement_cascade_full": (own or quoted["against_full"])["agreement"],
    }


def print_table(sides: Mapping[str, Any]) -> None:
    """Print medians, their spread and ratios."""
    print(
        f"{'':<14} {'photos':>7}  {'end to end /s':>28} {'x keras':>8} {'x full':>8}  "
        f"{'inference alone /s':>28} {'x keras':>8} {'x full':>8}   n"
    )
    for name, side in sides.items():
        cells = [f"{name:<14} {side['samples'][0]['photos']:>7}"]
        for what in ("end_to_end", "inference"):
            own = side[what]
            figure = f"{own['median']:.3f} ({own['min']:.3f}..{own['max']:.3f})"
            against = [own["median"] / sides[other][what]["median"] for other in ("keras", "full")]
            cells.append(f" {figure:>28} {against[0]:>8.2f} {against[1]:>8.2f}")
        print(*cells, f"{side['end_to_end']['n']:>3}")


def print_rest(report: Mapping[str, Any]) -> None:
    """Print what stands in no table."""
    for name, reason in report["skipped"].items():
        print(f"{name}: left out, {reason}")
    for name, side in report["sides"].items():
        if side["extrapolated"]:
            print(f"{name}: rate on {side['slice']} photos, taken for {report['rows']}")
        if "guarantee" in side:
            print(f"{name}: {side['guarantee']}")
    for name, planned in report["planning"].items():
        costs = ", costs measured anew" if planned["costs_measured"] else ""
        print(f"{name}: plan found in {planned['seconds']:.1f} s{costs}, not in the figures above")
    peak = report["peak"]
    print(
        f"full: {peak['share_reached_by']['exact']:.1%} of the "
        f"{peak['multiply_adds_per_second'] / 1e9:.1f} G multiply-adds/s of a float32 matrix "
        f"product on {peak['threads']} threads"
    )
    if report["own_size"]:
        own = {key: value for key, value in report["own_size"].items() if key != "sides"}
        print("own size, cascade against full:", json.dumps(own))
    print(json.dumps(report["ratios"], indent=1))


def peak_report(
    counted: Mapping[str, int], views: int, sides: Mapping[str, Any], samples: Sequence[float]
) -> dict[str, Any]:
    """Tell which share of the measured peak those sides reach that run every member and view.

    Args:
        counted: Multiply-adds of one image by member.
        views: Views a photo.
        sides: From `side_report`.
        samples: Multiply-adds a second of a matrix product.
    """
    photo, peak = views * sum(counted.values()), max(samples)
    return {
        "multiply_adds_an_image": dict(counted),
        "multiply_adds_per_second": peak,
        "threads": usable_cores(),
        "share_reached_by": {
            name: photo * side["inference"]["median"] / peak
            for name, side in sides.items()
            if name != LABEL_EXACT_SIDE and not name.startswith("cascade")
        },
        "samples": list(samples),
    }
