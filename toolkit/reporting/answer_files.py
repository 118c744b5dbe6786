"""Writes answers in the format that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.data.request import Request
from toolkit.files import written_whole
from toolkit.reporting.formats import AnswerFormat

DIGITS = 15
"""Decimals of a probability: as many as scorers tell from zero (they clip at 1e-15)."""


def write_answers(
    path: Path,
    wanted: AnswerFormat,
    request: Request,
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
) -> None:
    """Write the answers to a request: the sample's rows and columns, answered.

    Args:
        path: The file.
        wanted: Its format.
        request: What was predicted, in the order of `probabilities`.
        probabilities: Shape (photos, classes), rows summing to 1.
        classes: Labels in class order.
    """
    answers = _texts(wanted, probabilities, classes)
    if request.sample is None:
        table = pd.DataFrame({wanted.id_column: list(request.ids), **answers}, dtype=object)
    else:
        place = {id: number for number, id in enumerate(request.ids)}
        rows = [place[id] for id in request.sample.ids]
        table = request.sample.values.copy()
        table[wanted.id_column] = list(request.sample.ids)
        for column, texts in answers.items():
            table[column] = [texts[row] for row in rows]
    with written_whole(path) as temporary:
        table[list(wanted.columns)].to_csv(
            temporary, index=False, lineterminator="\n", sep=wanted.separator
        )


def _texts(
    wanted: AnswerFormat, probabilities: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, list[str]]:
    """Return the text of each answer by column."""
    if wanted.kind in ("labels", "top"):
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : wanted.top]
        written = wanted.written or classes
        texts = [" ".join(written[index] for index in row) for row in best.tolist()]
        return {wanted.answers[0]: texts}
    clipped = probabilities if wanted.clip is None else clip(probabilities, wanted.clip)
    units = _units(clipped)
    places = [list(classes).index(name) for name in wanted.classes]
    return {
        column: [_decimal(unit) for unit in units[:, place].tolist()]
        for column, place in zip(wanted.answers, places, strict=True)
    }


def clip(probabilities: NDArray[np.float64], smallest: float) -> NDArray[np.float64]:
    """Keep probabilities from being too sure, as competitions do before a log-loss.

    What is smaller is raised to `smallest`, and the rest of the row shrinks alike, so that rows go
    on to sum to 1 (a plain clip would change the sum, and scorers would divide by it).

    Args:
        probabilities: Shape (photos, classes), rows summing to 1.
        smallest: Above 0, at most 1 / classes.

    Returns:
        The same shape; no value is below `smallest`, and so none above 1 less it.
    """
    clipped = probabilities.astype(np.float64)
    raised = np.zeros(clipped.shape, dtype=np.bool_)
    while (new := (clipped < smallest) & ~raised).any():
        raised |= new
        left = 1 - smallest * raised.sum(axis=1, keepdims=True)
        rest = np.where(raised, 0, probabilities)
        total = np.maximum(rest.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        clipped = np.where(raised, smallest, rest * (left / total))
    return clipped


def _units(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return probabilities in units of the last decimal, each row summing to 1 exactly."""
    whole = 10**DIGITS
    units: NDArray[np.int64] = np.floor(probabilities * whole + 0.5).astype(np.int64)
    # The largest value of a row takes what rounding left over: no label changes.
    units[np.arange(len(units)), units.argmax(axis=1)] += whole - units.sum(axis=1)
    return units


def _decimal(units: int) -> str:
    if units >= 10**DIGITS:
        return "1.0"
    return f"0.{units:0{DIGITS}d}".rstrip("0").ljust(3, "0")
