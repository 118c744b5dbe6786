"""`toolkit report`: one file, and what is in it in plain words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from toolkit.files import sha256_file


@pytest.fixture
def job(here: Path, finished_job: Path) -> Path:
    shutil.copytree(finished_job, here, dirs_exist_ok=True)
    return here


def test_it_needs_no_option_and_prints_the_page_and_its_size(toolkit, job: Path) -> None:
    told = toolkit("report", "--quiet")
    assert (told.code, told.err) == (0, "")
    size = (job / "report.html").stat().st_size
    page = (job / "report.html").resolve()
    *cost, last = told.out.splitlines()
    assert last == f"Open {page} in a browser ({size / 1e6:.1f} MB)."
    assert [line.partition(" ")[0] for line in cost] == ["One"]  # Without the truth, only the cost.
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


def test_it_ends_with_what_came_out_and_what_it_cost(toolkit, job: Path) -> None:
    arguments = ("--labels", "labels.csv", "--quiet")
    # On the photos that were held out: what was found there is not said of others.
    evaluated = toolkit("evaluate", "bundle", "--gain", "gain.json", "--json")
    assert evaluated.code == 0, evaluated.err
    gain = evaluated.json["gain"]
    right, cost, _ = toolkit("report", *arguments).out.splitlines()
    submitted = toolkit("evaluate", "submission.csv", "--labels", "labels.csv", "--json").json
    (score,) = submitted["scores"].values()
    low, high = (100 * bound for bound in score["interval"])
    assert right == (
        f"submission.csv is right on {100 * score['accuracy']:.1f} % of {score['photos']} photos "
        f"(95 % interval {low:.1f} to {high:.1f}; guessing: 33.3 %)."
    )
    latency = json.loads((job / "latency.json").read_text(encoding="utf-8"))
    assert f"{latency['inference']['ms_a_photo']:.0f} ms of model calls" in cost
    assert latency["device"] in cost
    assert f"{latency['end_to_end']['photos_per_second']:.1f} photos a second" in cost
    page = (job / "report.html").read_text(encoding="utf-8")
    assert "gain.json was written with other labels. It is left out." in page

    gain["labels"] = sha256_file(job / "labels.csv")
    (job / "gain.json").write_text(json.dumps(gain), encoding="utf-8")
    told = toolkit("report", *arguments, "--json").json
    assert told["summary"][1].startswith("With 1 view per photo the ensemble of 3 ")
    assert told["summary"][1] in (job / "report.html").read_text(encoding="utf-8")


def test_a_gain_that_is_not_one_is_refused(toolkit, job: Path) -> None:
    (job / "gain.json").write_text('{"bundle": 3}', encoding="utf-8")
    told = toolkit("report")
    assert (told.code, told.out) == (1, "")
    assert "Write it again with 'toolkit evaluate'" in told.err


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
