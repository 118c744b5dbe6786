"""A comparison of runs and bundles, as plain values and as CSV."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from toolkit.files import written_whole
from toolkit.intervals import Interval
from toolkit.reporting.comparison import Row, SideBySide


def as_records(found: SideBySide) -> list[dict[str, Any]]:
    """Return the rows as plain values; what is not known is None."""
    return [asdict(row) for row in found.rows]


def write_csv(found: SideBySide, path: Path) -> None:
    """Write one line a row; what is not known is empty."""
    with written_whole(path) as temporary:
        table = pd.DataFrame([_line(row, found.against, found.metric) for row in found.rows])
        table.to_csv(temporary, index=False, lineterminator="\n")


def _line(row: Row, reference: str, metric: str) -> dict[str, Any]:
    against, cost = row.against, row.cost
    counts = against.paired if against else None
    line: dict[str, Any] = {
        "name": row.name,
        **{key: getattr(row, key) for key in ("kind", "runs", "views", "photos")},
        "accuracy": row.accuracy,
        **_bounds("accuracy", row.accuracy_interval),
        "log_loss": row.log_loss,
        **_bounds("log_loss", row.log_loss_interval),
        "calibration_error": row.calibration_error,
        "metric": metric,
        "metric_value": row.metric.value if row.metric else None,
        **_bounds("metric", row.metric.interval if row.metric else None),
    }
    for key in ("accuracy", "log_loss", "calibration_error"):
        line[f"{key}_deviation"] = row.spread[key].deviation if key in row.spread else None
    line["compared_with"] = reference if against else None
    line["accuracy_difference"] = against.accuracy.mean if against else None
    line |= _bounds("accuracy_difference", against.accuracy.interval if against else None)
    line["better_on"] = counts.only_first if counts else None
    line["worse_on"] = counts.only_second if counts else None
    line["accuracy_p"] = counts.p_value if counts else None
    line["log_loss_difference"] = against.log_loss.mean if against else None
    line |= _bounds("log_loss_difference", against.log_loss.interval if against else None)
    line["log_loss_p"] = against.log_loss.p_value if against else None
    change = against.metric if against else None
    line["metric_difference"] = change.mean if change else None
    line |= _bounds("metric_difference", change.interval if change else None)
    for key in ("training_seconds", "epochs", "parameters", "megabytes"):
        line[key] = getattr(cost, key)
    line["image_sizes"] = " ".join(map(str, cost.image_sizes))
    line["ms_a_photo"] = cost.inference_ms
    return line


def _bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
