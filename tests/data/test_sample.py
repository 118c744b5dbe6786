"""The sample submission: of any name, shape and packing."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from toolkit.data.reading import Reading
from toolkit.data.request import load_request
from toolkit.data.sample import Sample, looks_like_sample
from toolkit.errors import ToolkitError

ROWS = "id,cat,dog\nb,0.5,0.5\na,0.5,0.5\nb,0.5,0.5\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "test").mkdir(exist_ok=True)
        (tmp_path / "test" / name).write_bytes(b"")
    return tmp_path


def sample_of(root: Path, reading: Reading | None = None) -> Sample:
    sample = load_request(root, reading or Reading()).sample
    assert sample is not None
    return sample


@pytest.mark.parametrize(
    "name",
    [
        *("sample_submission.csv", "sample-submission.csv", "SampleSubmission.csv"),
        *("sampleSubmission.csv", "submission_sample.csv", "sample_submission_v2.csv"),
        *("submission_format.csv", "sample_solution.csv", "Example Submission.csv"),
    ],
)
def test_a_sample_of_any_usual_name_is_found(root: Path, name: str) -> None:
    (root / name).write_text(ROWS, encoding="utf-8")
    sample = sample_of(root)
    assert sample.path == root / name
    assert sample.id_column == "id"


def test_a_packed_sample_is_read_where_it_is(root: Path) -> None:
    with zipfile.ZipFile(root / "sample_submission.csv.zip", "w") as archive:
        archive.writestr("sample_submission.csv", ROWS)
    assert sample_of(root).ids == ("b", "a", "b")
    (root / "sample_submission.csv.zip").rename(root / "SampleSubmission.zip")
    assert sample_of(root).ids == ("b", "a", "b")
    assert not (root / "SampleSubmission").exists()
    (root / "SampleSubmission.zip").unlink()
    (root / "sample_submission.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    assert sample_of(root).ids == ("b", "a", "b")


def test_rows_and_columns_are_kept_in_their_order(root: Path) -> None:
    (root / "sample_submission.csv").write_text(ROWS, encoding="utf-8")
    request = load_request(root)
    sample = sample_of(root)
    assert sample.columns == ("id", "cat", "dog")
    assert sample.ids == ("b", "a", "b")
    assert sample.values.to_dict("list") == {"cat": ["0.5"] * 3, "dog": ["0.5"] * 3}
    assert request.ids == ("b", "a")
    assert [path.name for path in request.paths] == ["b.jpg", "a.jpg"]


def test_the_column_of_photos_is_the_id_whatever_it_is_called(root: Path) -> None:
    # As in a competition about whales: 'Id' is what is asked for.
    text = "Image,Id\na.jpg,new_whale w_1 w_2\nb.jpg,new_whale w_1 w_2\n"
    (root / "sample_submission.csv").write_text(text, encoding="utf-8")
    sample = sample_of(root)
    assert sample.id_column == "Image"
    assert list(sample.values.columns) == ["Id"]


def test_an_index_column_without_a_name_is_no_column(root: Path) -> None:
    (root / "sample_submission.csv").write_text(",id,label\n0,a,0\n1,b,0\n", encoding="utf-8")
    assert sample_of(root).columns == ("id", "label")


def test_several_samples_stop_and_the_right_one_can_be_named(root: Path) -> None:
    (root / "sample_submission.csv").write_text(ROWS, encoding="utf-8")
    (root / "sample_submission_stage2.csv").write_text("id,y\nc,0\n", encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"2 files look like .* with `sample=FILE`"):
        load_request(root)
    named = Reading(sample=Path("sample_submission_stage2.csv"))
    assert sample_of(root, named).ids == ("c",)


def test_what_looks_like_a_sample_and_is_not_used_is_reported(root: Path) -> None:
    (root / "submission.csv").write_text(ROWS, encoding="utf-8")
    found = load_request(root).found
    assert any("submission.csv" in line for line in found.warnings)


@pytest.mark.parametrize("name", ["train.csv", "resample.csv", "labels.csv"])
def test_other_files_are_no_samples(name: str) -> None:
    assert not looks_like_sample(Path(name))


def test_a_class_that_is_called_as_a_photo_is_no_id(root: Path) -> None:
    """The label column's values are photos, all of them; not all ids are."""
    (root / "test" / "2.png").write_bytes(b"")
    rows = ["Id,Category", *(f"{name}.jpg,2" for name in ("a", "gone", "b"))]
    (root / "sample_submission.csv").write_text("\n".join(rows), encoding="utf-8")
    sample = sample_of(root)
    assert (sample.id_column, sample.ids) == ("Id", ("a.jpg", "gone.jpg", "b.jpg"))
