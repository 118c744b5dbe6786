"""The index of a data folder, in every layout people have."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from toolkit.data.dataset import class_order
from toolkit.data.labelled import load_labelled, load_labels
from toolkit.data.request import NothingToPredictError, load_request
from toolkit.errors import ToolkitError


def put(root: Path, *names: str) -> None:
    """Make files; no photo is opened while the index is made, so they hold nothing."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


def rows(root: Path) -> list[tuple[str, str, str]]:
    """Each labelled photo as id, category and path below the root."""
    data = load_labelled(root)
    return [
        (photo.id, data.classes[photo.label], photo.path.relative_to(root).as_posix())
        for photo in data.photos
    ]


def test_train_csv_names_photos_below_class_folders(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "Id,Category", "b.jpg,2", "a.jpg,10", "c.jpg,2")
    put(tmp_path, "train/2/b.jpg", "train/10/a.jpg", "train/2/c.jpg")
    assert rows(tmp_path) == [
        ("b.jpg", "2", "train/2/b.jpg"),
        ("a.jpg", "10", "train/10/a.jpg"),
        ("c.jpg", "2", "train/2/c.jpg"),
    ]


def test_train_csv_names_photos_of_a_flat_folder(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "Id,Category", "b.jpg,2", "a.jpg,10")
    put(tmp_path, "train/b.jpg", "train/a.jpg")
    assert [path for _, _, path in rows(tmp_path)] == ["train/b.jpg", "train/a.jpg"]


@pytest.mark.parametrize("wrapper", [""])
def test_train_zip_is_extracted_once(tmp_path: Path, wrapper: str) -> None:
    write(tmp_path / "train.csv", "Id,Category", "b.jpg,2", "a.jpg,10")
    zipped(tmp_path / "train.zip", f"{wrapper}2/b.jpg", f"{wrapper}10/a.jpg")
    assert [path for _, _, path in rows(tmp_path)] == ["train/2/b.jpg", "train/10/a.jpg"]
    assert all(photo.path.is_file() for photo in load_labelled(tmp_path).photos)

    (tmp_path / "train" / "2" / "b.jpg").write_bytes(b"mended by hand")
    assert len(rows(tmp_path)) == 2
    assert (tmp_path / "train" / "2" / "b.jpg").read_bytes() == b"mended by hand"


@pytest.mark.parametrize("parent", ["", "train/"])
def test_class_folders_need_no_csv(tmp_path: Path, parent: str) -> None:
    put(tmp_path, f"{parent}sedan/b.JPG", f"{parent}sedan/a.png", f"{parent}coupe/a.webp")
    put(tmp_path, "test/1.jpg", f"{parent}sedan/notes.txt", f"{parent}sedan/.hidden.jpg")
    put(tmp_path, f"{parent}.git/x.jpg", f"{parent}empty/notes.txt")
    assert rows(tmp_path) == [
        ("coupe/a.webp", "coupe", f"{parent}coupe/a.webp"),
        ("sedan/a.png", "sedan", f"{parent}sedan/a.png"),
        ("sedan/b.JPG", "sedan", f"{parent}sedan/b.JPG"),
    ]


@pytest.mark.parametrize(("parent", "classes"), [("", ("bus",)), ("train/", ("bus", "test"))])
def test_a_folder_test_is_a_class_only_among_those_of_training(
    tmp_path: Path, parent: str, classes: tuple[str, ...]
) -> None:
    put(tmp_path, f"{parent}bus/a.jpg", f"{parent}test/a.jpg")
    assert load_labelled(tmp_path).classes == classes


@pytest.mark.parametrize("suffix", [".jfif", ".HEIC", ".avif", ".jp2", ".ppm", ".tga"])
def test_photos_of_all_formats_count(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, f"bus/a{suffix}", f"test/b{suffix}")
    assert rows(tmp_path) == [(f"bus/a{suffix}", "bus", f"bus/a{suffix}")]
    assert load_request(tmp_path).ids == (f"b{suffix}",)


def test_numbers_are_ordered_as_numbers_and_names_as_names() -> None:
    assert class_order(["10", "9", "2", "10"]) == ("2", "9", "10")
    assert class_order(["1.5", "-1", "+1", "10"]) == ("-1", "+1", "1.5", "10")
    assert class_order(["10", "9", "b", "a"]) == ("10", "9", "a", "b")


def test_class_folders_are_ordered_as_numbers(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{number}/a.jpg" for number in range(12)))
    assert load_labelled(tmp_path).classes == tuple(str(number) for number in range(12))


def test_ids_and_categories_stay_the_text_they_are(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "Id,Category", "007,01", "1e3,NA", "None,1", "nan,1.0")
    put(tmp_path, "train/007.jpg", "train/1e3.jpg", "train/None.jpg", "train/nan.jpg")
    data = load_labelled(tmp_path)
    assert [photo.id for photo in data.photos] == ["007", "1e3", "None", "nan"]
    assert [data.classes[photo.label] for photo in data.photos] == ["01", "NA", "1", "1.0"]
    write(tmp_path / "sample-submission.csv", "Id,Category", "007,0", "NA,0")
    put(tmp_path, "test/007.jpg", "test/NA.jpg")
    assert load_request(tmp_path).ids == ("007", "NA")


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_column_name(tmp_path: Path) -> None:
    text = "Id,Category\na.jpg,1\nb.jpg,2\n"
    (tmp_path / "train.csv").write_text(text, encoding="utf-8-sig")
    put(tmp_path, "train/1/a.jpg", "train/2/b.jpg")
    assert len(rows(tmp_path)) == 2


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "", "Id,Category", "", "a.jpg,1", "  ", "b.jpg,2", "")
    put(tmp_path, "train/1/a.jpg", "train/2/b.jpg")
    assert [id for id, _, _ in rows(tmp_path)] == ["a.jpg", "b.jpg"]


def test_classes_csv_gives_readable_names(tmp_path: Path) -> None:
    put(tmp_path, "train/0/a.jpg", "train/1/a.jpg")
    write(tmp_path / "classes.csv", "Category,Name", "0,Škoda Octavia", "1,VW Golf")
    assert load_labelled(tmp_path).names == {"0": "Škoda Octavia", "1": "VW Golf"}
    write(tmp_path / "classes.csv", "Title;Class", "Octavia;0", "Golf;1", "Beetle;2")
    assert load_labelled(tmp_path).names == {"0": "Octavia", "1": "Golf"}
    write(tmp_path / "classes.csv", "Colour,Title", "red,Škoda Octavia")
    assert load_labelled(tmp_path).names == {}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Id,Category", "a.jpg,1", "b.jpg,2", "a.jpg,3"], r"'a\.jpg': 1 \(line 2\), 3 \(line 4\)"),
        (["Id,Category", "a.jpg,1", "b.jpg,"], "line 3: the label is empty"),
        (["Id,Category", "a.jpg,1", "b.jpg"], "line 3: the label is empty"),
        (["", "Id,Category", "a.jpg,1", " ", "b.jpg,"], "line 5: the label is empty"),
        (["Id,Category", "a.jpg,1,x", "b.jpg,2,x"], "Expected 2 values in a row"),
        (["Id,Category", "a.jpg,1", "b.jpg,2,x"], "cannot be read as CSV"),
        (["Id,Category"], "no rows"),
        ([""], r"cannot be read as CSV \(the file is empty\)"),
        (["a.jpg,1", "b.jpg,2"], "has no header, for its first line is 'a.jpg,1'"),
        (["1,2", "b.jpg,2"], "has no header, for its first line is '1,2'"),
        (["Id,Category", "x.jpg,1", "y.jpg,2"], r"names 2 photos, such as 'x\.jpg', and none"),
    ],
)
def test_a_wrong_csv_is_named_with_what_is_wrong(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    write(tmp_path / "train.csv", *lines)
    put(tmp_path, "train/1/a.jpg", "train/1/b.jpg")
    with pytest.raises(ToolkitError, match=message) as caught:
        load_labelled(tmp_path)
    assert str(tmp_path) in str(caught.value)


OUTSIDE = ["../a.jpg", "/etc/a.jpg", "//etc/a.jpg", "x/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", "."]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_id_never_leads_outside_the_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    root = tmp_path / "data"
    put(root, "train/1/b.jpg", "test/c.jpg")
    write(root / "train.csv", "Id,Category", "b.jpg,1", f"{name},2")
    write(root / "sample-submission.csv", "Id,Category", f"{name},0", "c.jpg,0")
    for path in (load_labelled(root).photos[1].path, load_request(root).paths[0]):
        assert not path.exists() or path.is_dir()
        assert ".." not in path.parts


def test_a_colon_may_stand_in_a_name(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "Id,Category", "12:30.jpg,1", "a.jpg,10:00")
    put(tmp_path, "train/1/12:30.jpg", "train/10:00/a.jpg")
    assert [id for id, _, _ in rows(tmp_path)] == ["12:30.jpg", "a.jpg"]


@pytest.mark.parametrize("label", [*OUTSIDE, "on/off", "x" * 300])
def test_a_label_is_no_folders_name(tmp_path: Path, label: str) -> None:
    put(tmp_path, "train/a.jpg", "train/b.jpg")
    write(tmp_path / "train.csv", "Id,Category", "a.jpg,1", f"b.jpg,{label}")
    data = load_labelled(tmp_path)
    assert [photo.path.name for photo in data.photos] == ["a.jpg", "b.jpg"]
    assert set(data.classes) == {"1", label}


def test_the_request_keeps_the_samples_order_and_column_names(tmp_path: Path) -> None:
    write(tmp_path / "sample-submission.csv", "ID,category", "9.jpg,0", "10.jpg,0", "1.jpg,0")
    put(tmp_path, "test_upload/1.jpg", "test_upload/9.jpg", "test_upload/unasked.jpg")
    request = load_request(tmp_path)
    assert request.ids == ("9.jpg", "10.jpg", "1.jpg")
    assert request.columns == ("ID", "category")
    assert request.paths == tuple(tmp_path / "test_upload" / id for id in request.ids)


def test_the_samples_placeholder_may_be_empty(tmp_path: Path) -> None:
    write(tmp_path / "sample-submission.csv", "Id,Category", "b.jpg,", "a.jpg,")
    put(tmp_path, "test/a.jpg", "test/b.jpg")
    assert load_request(tmp_path).ids == ("b.jpg", "a.jpg")


@pytest.mark.parametrize("wrapper", ["", "test/", "test_upload/"])
def test_test_zip_is_extracted(tmp_path: Path, wrapper: str) -> None:
    write(tmp_path / "sample-submission.csv", "Id,Category", "b.jpg,0", "a.jpg,0")
    zipped(tmp_path / "test.zip", f"{wrapper}a.jpg", f"{wrapper}b.jpg")
    paths = load_request(tmp_path).paths
    assert [path.name for path in paths] == ["b.jpg", "a.jpg"]
    assert all(path.is_file() for path in paths)


@pytest.mark.parametrize("folder", ["", "test/", "test_upload/"])
def test_a_flat_folder_is_predicted_in_natural_order(tmp_path: Path, folder: str) -> None:
    names = ("1.jpg", "2.jpg", "10.jpg", "a2.png", "a10.png", "x1²3.jpg")
    put(tmp_path, *(folder + name for name in reversed(names)), f"{folder}notes.txt")
    request = load_request(tmp_path)
    assert request.ids == names
    assert request.paths == tuple(tmp_path / folder / name for name in names)


def test_names_of_the_same_number_have_one_order(tmp_path: Path) -> None:
    put(tmp_path, "02.jpg", "1.jpg", "001.jpg", "2.jpg", "01.jpg")
    assert load_request(tmp_path).ids == ("001.jpg", "01.jpg", "1.jpg", "02.jpg", "2.jpg")


def test_nothing_to_predict_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(NothingToPredictError, match=r"no photos to predict \(it is empty\)"):
        load_request(tmp_path)
    write(tmp_path / "sample-submission.csv", "Id,Category", "a.jpg,0")
    with pytest.raises(ToolkitError, match=r"names 1 photos, such as 'a\.jpg', and none of them"):
        load_request(tmp_path)
    with pytest.raises(ToolkitError, match=r"nowhere: no such folder .*data=DIR"):
        load_labelled(tmp_path / "nowhere")


def test_labels_of_another_folder_follow_the_given_class_order(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "photos/b.jpg")
    csv = write(tmp_path / "labels.csv", "Id,Category", "b.jpg,bus", "a.jpg,ant")
    data = load_labels(csv, tmp_path / "photos", ("bus", "cat", "ant"))
    assert [(photo.id, photo.label) for photo in data.photos] == [("b.jpg", 0), ("a.jpg", 2)]
    assert data.photos[0].path == tmp_path / "photos" / "b.jpg"
    assert data.classes == ("bus", "cat", "ant")


def test_labels_find_their_photos_in_class_folders_too(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "photos/bus/b.jpg")
    csv = write(tmp_path / "labels.csv", "Id,Category", "b.jpg,bus", "a.jpg,bus")
    data = load_labels(csv, tmp_path / "photos", ("bus",))
    assert all(photo.path.is_file() for photo in data.photos)


def test_a_label_the_model_does_not_know_is_named(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg")
    csv = write(tmp_path / "labels.csv", "Id,Category", "a.jpg,bike")
    with pytest.raises(ToolkitError, match=r"labels\.csv: .*'bike'. Expected one of: bus, cat"):
        load_labels(csv, tmp_path / "photos", ("bus", "cat"))


def test_the_fingerprint_tells_other_labels_but_not_another_place(tmp_path: Path) -> None:
    for name, label in {"here": 2, "there": 2, "other": 1}.items():
        put(tmp_path / name, "train/1/a.jpg", "train/2/c.jpg")
        write(tmp_path / name / "train.csv", "Id,Category", "a.jpg,1", f"b.jpg,{label}", "c.jpg,2")
    here, there, other = (
        load_labelled(tmp_path / name).fingerprint for name in ("here", "there", "other")
    )
    assert here == there
    assert here != other
    assert load_labelled(tmp_path / "here").without(["c.jpg"]).fingerprint != here


def test_the_real_cars_are_indexed(cars10: Path) -> None:
    data, request = load_labelled(cars10), load_request(cars10)
    assert len(data.photos) == 1519
    assert len(data.classes) == 10
    assert len(request.ids) == 649
    assert all(path.is_file() for path in (*(photo.path for photo in data.photos), *request.paths))
