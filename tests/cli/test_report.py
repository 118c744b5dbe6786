"""`toolkit report`: one file, one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def job(here: Path, finished_job: Path) -> Path:
    shutil.copytree(finished_job, here, dirs_exist_ok=True)
    return here


def test_it_needs_no_option_and_prints_the_page_and_its_size(toolkit, job: Path) -> None:
    told = toolkit("report", "--quiet")
    assert (told.code, told.err) == (0, "")
    size = (job / "report.html").stat().st_size
    assert told.out == f"report.html: {size / 1e6:.1f} MB, open it in a browser\n"
    text = (job / "report.html").read_text(encoding="utf-8")
    assert "Ensemble of 3 networks" in text
    assert "data:image/jpeg" in text
    assert "pass --labels FILE" in text


def test_photos_may_be_left_out_and_the_truth_named(toolkit, job: Path) -> None:
    arguments = ("--no-photos", "--labels", "labels.csv", "--out", "sent/page.html")
    assert toolkit("report", *arguments, "--quiet").code == 0
    text = (job / "sent" / "page.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" not in text
    assert "Confusion matrix on the test photos" in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "nothing to report on"),
        (("--bundle", "elsewhere"), "--bundle elsewhere: no such file or folder."),
    ],
)
def test_a_mistake_is_one_line(
    toolkit, here: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    told = toolkit("report", *arguments)
    assert (told.code, told.out) == (1, "")
    assert complaint in told.err
    assert told.err.count("\n") == 1
    assert not (here / "report.html").exists()
