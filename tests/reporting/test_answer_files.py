"""Probabilities as text, clipped ones, and columns that are named as classes are."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.data.request import Request
from toolkit.reporting.answer_files import clip, write_answers
from toolkit.reporting.class_columns import match_classes
from toolkit.reporting.format_choice import choose_format
from toolkit.reporting.formats import FormatOptions

rows = st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(lambda row: sum(row) > 1e-6)


@given(st.lists(rows, min_size=1, max_size=4), st.floats(1e-15, 0.2))
@settings(deadline=None)
def test_a_clipped_row_sums_to_one_and_keeps_its_order(
    table: list[list[float]], smallest: float
) -> None:
    probabilities = np.array(table)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = clip(probabilities, smallest)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    assert found.min() >= smallest * (1 - 1e-12)
    order = np.argsort(probabilities, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(found, order, axis=1), axis=1) >= -1e-15).all()
    # What is not raised keeps its proportions.
    for before, after in zip(probabilities, found, strict=True):
        kept = after > smallest * (1 + 1e-9)
        if kept.sum() > 1:
            np.testing.assert_allclose(
                after[kept] / after[kept].sum(), before[kept] / before[kept].sum(), rtol=1e-6
            )


@given(st.lists(rows, min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_rows_sum_to_one_as_they_are_written(table: list[list[float]]) -> None:
    import tempfile

    probabilities = np.array(table)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classes = tuple("abcde")
    request = Request(tuple(f"{n}.jpg" for n in range(len(table))), (Path(),) * len(table))
    wanted = choose_format(request, classes, wanted=FormatOptions("probabilities"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.csv"
        write_answers(path, wanted, request, probabilities, classes)
        with path.open(encoding="utf-8", newline="") as file:
            _, *written = csv.reader(file)
    for (_, *texts), exact in zip(written, probabilities, strict=True):
        assert sum(map(Decimal, texts)) == 1
        assert all("e" not in text.lower() for text in texts)
        np.testing.assert_allclose([float(text) for text in texts], exact, atol=5e-15)
        assert exact[np.argmax([float(text) for text in texts])] >= exact.max() - 1e-15


@pytest.mark.parametrize(
    ("columns", "classes", "names", "found"),
    [
        (["dog", "cat"], ["cat", "dog"], {}, {"dog": "dog", "cat": "cat"}),
        (["Dog", "CAT "], ["cat", "dog"], {}, {"Dog": "dog", "CAT ": "cat"}),
        (["Great-Dane", "pug"], ["great_dane", "pug"], {}, None),
        (["class_0", "class_1"], ["0", "1"], {}, {"class_0": "0", "class_1": "1"}),
        (["class0", "class1", "class10"], ["0", "1", "10"], {}, None),
        (["p_healthy", "p_rust"], ["healthy", "rust"], {}, None),
        (["audi", "bmw"], ["1", "2"], {"1": "Audi", "2": "BMW"}, {"audi": "1", "bmw": "2"}),
        (["cat", "wolf"], ["cat", "dog"], {}, {"cat": "cat"}),
        (["x", "y"], ["cat", "dog"], {}, {}),
        # Equal names win over alike ones.
        (["a", "A"], ["A", "a"], {}, {"a": "a", "A": "A"}),
    ],
)
def test_columns_are_matched_by_name(
    columns: list[str], classes: list[str], names: dict[str, str], found: dict[str, str] | None
) -> None:
    matched = match_classes(columns, classes, names)
    if found is None:
        found = dict(zip(columns, classes, strict=True))
    assert matched == found
