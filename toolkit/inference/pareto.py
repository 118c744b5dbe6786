"""Cost against agreement and accuracy of all ways to predict, on the held-out photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.inference.evidence import Evidence
from toolkit.inference.plan import EXACT, Candidate, Mixture, Run, exact_runs, run_cost


def pareto_table(evidence: Evidence, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return cost against agreement and accuracy for the ways to predict."""
    views = range(evidence.views)
    names = list(evidence.weights)
    ways: dict[str, tuple[list[Run], Mapping[str, float]]] = {}
    for name in names:
        ways[f"{name}, 1 view"] = ([Run(name, EXACT, 0)], evidence.weights)
        if len(views) > 1:
            all_views = [Run(name, EXACT, view) for view in views]
            ways[f"{name}, {len(views)} views"] = (all_views, evidence.weights)
    if len(views) > 1:
        ways["all members, 1 view"] = ([Run(name, EXACT, 0) for name in names], evidence.weights)
    ways["uniform ensemble"] = (
        exact_runs(evidence.weights, evidence.views),
        dict.fromkeys(names, 1.0),
    )
    accuracy = float((evidence.exact.argmax(axis=1) == evidence.labels).mean())
    rows = [
        {
            "way": "exact",
            "ms": evidence.exact_ms,
            "runs": len(names) * len(views),
            "agreement": 1.0,
            "accuracy": accuracy,
        },
        {
            "way": "exact labels alone",
            "ms": evidence.settled_ms,
            "runs": float(evidence.settling(()).runs.mean()),
            "agreement": 1.0,
            "accuracy": accuracy,
        },
    ]
    for way, (runs, weights) in ways.items():
        mixture = Mixture(weights, *evidence.exact.shape)
        for run in runs:
            mixture.add(run, evidence.answers[run])
        labels = mixture.mean().argmax(axis=1)
        rows.append(
            {
                "way": way,
                "ms": run_cost(runs, evidence.costs),
                "runs": len(runs),
                "agreement": float((labels == evidence.exact.argmax(axis=1)).mean()),
                "accuracy": float((labels == evidence.labels).mean()),
            }
        )
    for number, candidate in enumerate(candidates, start=1):
        figures = {key: value for key, value in candidate.figures.items() if key != "left"}
        rows.append({"way": f"fast {number}", **figures})
    return rows
