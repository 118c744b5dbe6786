"""The functions of the package do what the commands do."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit import UsageError, plan, predict, reproduce


def test_a_prediction_is_that_of_the_command(toolkit, home: Path) -> None:
    assert toolkit("ensemble", "--tta", 2, "--device", "cpu").code == 0
    written = predict("bundle", "data", out="mine.csv", tta=2, device="cpu")

    assert (home / "mine.csv").read_bytes() == (home / "submission.csv").read_bytes()
    assert (written.rows, written.method) == (9, "label-exact")
    assert written.latency.inference.ms_a_photo > 0
    assert reproduce("mine.json").equal


@pytest.mark.parametrize(
    "arguments", [{"tta": 9}, {"tolerance": 2.0}, {"full": True, "tolerance": 0.1}]
)
def test_a_prediction_that_cannot_be_made_is_refused(
    home: Path, arguments: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        predict(**arguments)
    assert not (home / "submission.csv").exists()


def test_a_plan_is_for_at_least_one_photo(home: Path) -> None:
    with pytest.raises(UsageError) as refused:
        plan(photos=0)
    assert refused.value.argument == "photos"
