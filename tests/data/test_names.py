"""Ids of two tables that write the same photos differently."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.data.names import AmbiguousIdError, match_ids

TRUTH = Path("truth.csv")


@pytest.mark.parametrize(
    ("ids", "others", "remark"),
    [
        (["a.jpg", "b.jpg"], ["b.jpg", "a.jpg"], ""),
        (["a", "b"], ["b.jpg", "a.jpg"], "ids matched: 2 with a suffix added"),
        (["a.jpg", "b.jpg"], ["b", "a"], "ids matched: 2 with a suffix added"),
        (["A.JPG", "b.jpg"], ["b.jpg", "a.jpg"], "1 as named, 1 in other case or Unicode form"),
        (["A", "b"], ["b", "a"], "1 as named, 1 in other case or Unicode form"),
        (["/home/me/test/a.jpg", "b.jpg"], ["b.jpg", "a.jpg"], "1 by the end of the path"),
        (["a.jpg", "b.jpg"], ["x/b.jpg", "x/a.jpg"], "2 by name in a deeper folder"),
        (["x\\a.jpg", "x\\b.jpg"], ["x/b.jpg", "x/a.jpg"], "2 with '\\' read as '/'"),
    ],
)
def test_other_spellings_of_an_id_are_found_and_named(
    ids: list[str], others: list[str], remark: str
) -> None:
    found = match_ids(ids, others, TRUTH)
    assert dict(found.names) == {ids[0]: others[1], ids[1]: others[0]}
    assert found.remark.endswith(remark)
    assert bool(found.remark) == bool(remark)


def test_an_id_that_the_other_table_lacks_is_left_out() -> None:
    assert dict(match_ids(["a", "c"], ["a", "b"], TRUTH).names) == {"a": "a"}


@pytest.mark.parametrize(
    ("ids", "others", "said"),
    [
        (["a"], ["a.jpg", "a.png"], "the id 'a' fits 2 ids"),
        (["a.jpg", "a.png"], ["a"], "the id 'a' fits 2 ids"),
        (["A.jpg", "a.JPG"], ["a.jpg"], "several ids fit one"),
    ],
)
def test_an_id_that_fits_several_is_refused(ids: list[str], others: list[str], said: str) -> None:
    with pytest.raises(AmbiguousIdError, match=said):
        match_ids(ids, others, TRUTH)
