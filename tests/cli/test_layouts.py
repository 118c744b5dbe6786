"""Data folders as people have them: what `toolkit data` finds, prints, and refuses."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

PHOTO = None
"""In place of a file's content: a drawn photo."""

Content = str | bytes | None
Files = Mapping[str, Content]


def drawn(seed: int) -> bytes:
    """A small soft picture, in a format that any suffix is content with."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((20, 16), Image.Resampling.BICUBIC).save(stream, "png")
    return stream.getvalue()


def content_of(content: Content, seed: int) -> bytes:
    if content is PHOTO:
        return drawn(seed)
    return content.encode() if isinstance(content, str) else content


def build(root: Path, files: Files) -> None:
    for seed, (name, content) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(content, seed))


def photos(*names: str) -> dict[str, Content]:
    return dict.fromkeys(names, PHOTO)


def numbered(pattern: str, *numbers: int) -> dict[str, Content]:
    return photos(*(pattern.format(number) for number in numbers))


def table(*rows: str, encoding: str = "utf-8", end: str = "\n") -> bytes:
    return (end.join(rows) + end).encode(encoding)


def zipped(files: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for seed, (name, content) in enumerate(files.items()):
            archive.writestr(name, content_of(content, seed))
    return stream.getvalue()


def tarred(files: Files) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for seed, (name, content) in enumerate(files.items()):
            member = tarfile.TarInfo(name)
            data = content_of(content, seed)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def seven_zipped(files: Files) -> bytes:
    py7zr = pytest.importorskip("py7zr")
    stream = io.BytesIO()
    with py7zr.SevenZipFile(stream, "w") as archive:
        for seed, (name, content) in enumerate(files.items()):
            archive.writestr(content_of(content, seed), name)
    return stream.getvalue()


def without_utf8_flag(content: bytes, name: str, encoded: bytes) -> bytes:
    """A zip whose entry `name` has other bytes for a name, and does not say in what encoding."""
    assert len(name.encode()) == len(encoded)
    changed = bytearray(content.replace(name.encode(), encoded))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := changed.find(signature, start)) >= 0:
            changed[start + flags + 1] &= ~0x08
            start += 4
    return bytes(changed)


def parquet(**columns: list[object]) -> bytes:
    stream = io.BytesIO()
    pd.DataFrame(columns).to_parquet(stream)
    return stream.getvalue()


@dataclass(frozen=True)
class Layout:
    """A data folder and what shall be found in it.

    Attributes:
        files: Content by path.
        classes: Photos a class.
        said: Parts of what is said to have been found.
        to_predict: How many photos.
        options: Of the command.
        names: Readable names of classes.
        passed_over: Parts of what is said to be passed over.
        warned: Parts of warnings.
    """

    files: Callable[[], Files]
    classes: Mapping[str, int]
    said: tuple[str, ...] = ()
    to_predict: int = 0
    options: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()


AB = {"a": 2, "b": 2}
FOUR = (1, 2, 3, 4)
TWO = ("1,r,p", "2,r,q", "3,g,p", "4,g,q")
ROWS = ("1.png,a", "2.png,a", "3.png,b", "4.png,b")
HOTS = ("1,1,0", "2,1,0", "3,0,1", "4,0,1")
HOT = ("2.png, 1, 0", "3.png, 0, 1", "4.png, 0, 1")
BARE = ("1,a", "2,a", "3,b", "4,b")
TRAIN = numbered("train/{}.png", 1, 2, 3, 4)

LAYOUTS = {
    "original": Layout(
        lambda: {
            **photos("train/a/1.png", "train/a/2.png", "train/b/3.png", "train/b/4.png"),
            **photos("test_upload/8.png", "test_upload/9.png"),
            "train.csv": table("Id,Category", *ROWS),
            "sample-submission.csv": table("Id,Category", "9.png,a", "8.png,a"),
            "classes.csv": table("Category,Name", "a,Ape", "b,Bee"),
        },
        AB,
        ("id 'Id', label 'Category'", "4 in the folder of the class", "2 rows", "classes.csv"),
        2,
        names={"a": "Ape", "b": "Bee"},
    ),
    "dog breeds": Layout(
        lambda: {
            **TRAIN,
            **numbered("test/{}.png", 8, 9),
            "labels.csv": table("id,breed", *BARE),
            "sample_submission.csv": table("id,a,b", "8,.5,.5", "9,.5,.5"),
        },
        AB,
        (
            "labels.csv (id 'id', label 'breed')",
            "4 with a suffix added",
            "test/ (2 with a suffix added)",
        ),
        2,
    ),
    "cassava": Layout(
        lambda: {
            **numbered("train_images/{}.png", 1, 2, 3, 4),
            **photos("test_images/9.png"),
            "train.csv": table("image_id,label", "1.png,0", "2.png,0", "3.png,1", "4.png,1"),
            "sample_submission.csv": table("image_id,label", "9.png,4"),
            "label_num_to_disease_map.json": json.dumps({"0": "CBB", "1": "CBSD", "2": "CGM"}),
        },
        {"0": 2, "1": 2},
        ("train_images/", "4 as named", "label_num_to_disease_map.json"),
        1,
        names={"0": "CBB", "1": "CBSD"},
    ),
    "plant pathology": Layout(
        lambda: {
            **numbered("images/Train_{}.jpg", 1, 2, 3, 4),
            **numbered("images/Test_{}.jpg", 1, 2, 3),
            "train.csv": table(
                "image_id,a,b", *(f"Train_{n},{n % 2},{1 - n % 2}" for n in (1, 2, 3, 4))
            ),
            "test.csv": table("image_id", "Test_1", "Test_2", "Test_3"),
            "sample_submission.csv": table("image_id,a,b", *(f"Test_{n},.5,.5" for n in (1, 2, 3))),
        },
        AB,
        ("one column a class (2)", "images/", "4 with a suffix added", "3 rows"),
        3,
        passed_over=("3 of 7 photos in images/: without a label",),
    ),
    "a skin archive, in two folders": Layout(
        lambda: {
            **photos("HAM_images_part_1/i1.jpg", "HAM_images_part_1/i2.jpg"),
            **photos("HAM_images_part_2/i3.jpg", "HAM_images_part_2/i4.jpg"),
            "HAM_metadata.csv": table(
                "lesion_id,image_id,dx,dx_type,age",
                *(
                    "L1,i1,a,histo,80",
                    "L1,i2,a,histo,80",
                    "L2,i3,b,histo,60",
                    "L3,i4,b,confocal,70",
                ),
            ),
        },
        AB,
        ("id 'image_id', label 'dx'", "4 by name in a deeper folder", "groups: 3"),
        options=("--label-column", "dx", "--group-column", "lesion_id"),
    ),
    "drivers, by classes in folders and in a table": Layout(
        lambda: {
            **photos("imgs/train/c0/1.jpg", "imgs/train/c0/2.jpg"),
            **photos("imgs/train/c1/3.jpg", "imgs/train/c1/4.jpg", "imgs/test/7.jpg"),
            "driver_imgs_list.csv": table(
                "subject,classname,img", "p1,c0,1.jpg", "p1,c0,2.jpg", "p2,c1,3.jpg", "p2,c1,4.jpg"
            ),
            "sample_submission.csv": table("img,c0,c1", "7.jpg,.5,.5"),
        },
        {"c0": 2, "c1": 2},
        ("id 'img', label 'classname'", "4 in the folder of the class"),
        1,
    ),
    "train, valid and test with a folder a class": Layout(
        lambda: {
            **photos("train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"),
            **photos("valid/a/1.png", "valid/b/1.png", "test/a/1.png", "test/b/1.png"),
        },
        {"a": 3, "b": 3},
        ("a folder a class in train/", "validation: 2 photos, as the data says", "test/ (all 2"),
        2,
    ),
    "train and val, no test": Layout(
        lambda: photos("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"),
        AB,
        ("validation: 2 photos, as the data says",),
    ),
    "a table over train, valid and test": Layout(
        lambda: {
            **photos("train/A B/1.png", "train/C/1.png", "valid/A B/1.png", "valid/C/1.png"),
            **photos("test/A B/1.png", "test/C/1.png"),
            "birds.csv": table(
                "class id,filepaths,labels,data set",
                *("0,train/A B/1.png,A B,train", "1,train/C/1.png,C,train"),
                *("0,valid/A B/1.png,A B,valid", "1,valid/C/1.png,C,valid"),
                *("0,test/A B/1.png,A B,test", "1,test/C/1.png,C,test"),
            ),
        },
        {"A B": 2, "C": 2},
        ("id 'filepaths', label 'labels'", "validation: 2 photos, as the data says"),
        2,
        passed_over=("2 rows that 'data set' says are for test",),
    ),
    "a column is_valid": Layout(
        lambda: {
            **TRAIN,
            "labels.csv": table(
                "name,label,is_valid",
                *(
                    f"{row},{n}"
                    for row, n in zip(ROWS, ("False", "True", "False", "True"), strict=True)
                ),
            ),
        },
        AB,
        ("validation: 2 photos, as the data says",),
    ),
    **{
        f"a column {column} that keeps photos from training": Layout(
            lambda column=column, values=values: {
                **numbered("images/{}.png", 1, 2, 3, 4, 5),
                "labels.csv": table(
                    f"name,label,{column}",
                    *(f"{r},{n}" for r, n in zip((*ROWS, "5.png,b"), values, strict=True)),
                ),
            },
            AB,
            to_predict=1,
            passed_over=(f"1 rows that '{column}' says are for test",),
        )
        for column, values in {
            "is_test": "00001",
            "is_train": ("True", "True", "True", "True", "False"),
            "split": ("train", "train", "train", "train", "unlabeled"),
            "subset": ("train", "train", "dev", "train", "holdout"),
            "Usage": ("Training", "Training", "Training", "Training", "Private"),
        }.items()
    },
    "a table in each part, photos of the same names": Layout(
        lambda: {
            **numbered("train/{}.png", 1, 2, 3, 4),
            **numbered("valid/{}.png", 1, 3),
            **numbered("test/{}.png", 1, 2),
            "train/_classes.csv": table("filename, a, b", "1.png, 1, 0", *HOT),
            "valid/_classes.csv": table("filename, a, b", "1.png, 1, 0", "3.png, 0, 1"),
            "test/_classes.csv": table("filename, a, b", "1.png, 1, 0", "2.png, 0, 1"),
        },
        {"a": 3, "b": 3},
        ("train/_classes.csv", "valid/_classes.csv", "validation: 2 photos, as the data says"),
        2,
    ),
    "features beside labels": Layout(
        lambda: {
            **numbered("train_features/{}.png", 1, 2, 3, 4),
            "train_features.csv": table("id,path,site", *(f"{n},x/{n}.png,{n % 2}" for n in FOUR)),
            "train_labels.csv": table("id,a,b", *HOTS),
        },
        AB,
        ("train_labels.csv", "photos: train_features/"),
        passed_over=("train_features.csv: has labels too, not used",),
    ),
    "two tables, of which the sample's columns are those of one": Layout(
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train_a.csv": table("id,site", "1,x", "2,y", "3,x", "4,y"),
            "train_b.csv": table("id,kind", "1,a", "2,a", "3,b", "4,b"),
            "sample_submission.csv": table("id,a,b", "9,0.5,0.5"),
        },
        AB,
        ("train_b.csv",),
        1,
        passed_over=("train_a.csv: has labels too, not used",),
    ),
    "metadata with two readings, folders that begin alike": Layout(
        lambda: {
            **numbered("ISIC_9_Training_Input/{}.png", 1, 2, 3, 4),
            **photos("ISIC_9_Test_Input/9.png"),
            "ISIC_9_Training_GroundTruth.csv": table("image,a,b,UNK", *(f"{r},0" for r in HOTS)),
            "ISIC_9_Training_Metadata.csv": table("image,sex,site", *TWO),
        },
        AB,
        ("ISIC_9_Training_GroundTruth.csv", "ISIC_9_Test_Input/"),
        1,
        passed_over=("Metadata.csv: has labels too, not used", "classes without any photo: UNK"),
    ),
    "text beside photos that is no table": Layout(
        lambda: {
            **photos("images/a/1.png", "images/a/2.png", "images/b/3.png", "images/b/4.png"),
            "train_test_split.txt": table("1 1", "2 0"),
            "train_list.txt": "",
        },
        AB,
        passed_over=("train_test_split.txt: has no labels of photos here",),
        warned=("train_list.txt: has no labels of photos here",),
    ),
    "one class": Layout(
        lambda: photos("a/1.png", "a/2.png"),
        {"a": 2},
        warned=("cannot be trained on as it is: data: Expected photos of at least 2 classes",),
    ),
    "a class with photos for validation alone": Layout(
        lambda: photos("train/a/1.png", "train/b/2.png", "val/a/3.png", "val/c/4.png"),
        {"a": 2, "b": 1, "c": 1},
        warned=("the data holds out all photos of 1 classes", "  c"),
    ),
    "a sample whose ids are no photos": Layout(
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train.csv": table("id,label", *BARE),
            "sample_submission.csv": table("id,p", "9_a,0.5", "9_b,0.5"),
        },
        AB,
        warned=("cannot be predicted as it is: ", "names 2 photos, such as '9_a'"),
    ),
    "a first line for Excel": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table("\ufeffsep=;", "id;label", *(f"{n};{n % 2}, x" for n in FOUR)),
        },
        {"0, x": 2, "1, x": 2},
        ("id 'id', label 'label'",),
    ),
    "whole numbers in two spellings": Layout(
        lambda: {**TRAIN, "train.csv": table("id,label", "1,1.0", "2,1", "3,0.0", "4,0")},
        {"0": 2, "1": 2},
        passed_over=("train.csv: labels such as '1.0' read as integers",),
    ),
    "columns is_valid and is_test": Layout(
        lambda: {
            **numbered("images/{}.png", 1, 2, 3, 4, 5),
            "labels.csv": table(
                "name,label,is_valid,is_test",
                *("1.png,a,0,0", "2.png,a,1,0", "3.png,b,0,0", "4.png,b,1,0", "5.png,b,0,1"),
            ),
        },
        AB,
        ("validation: 2 photos, as the data says",),
        to_predict=1,
        passed_over=("1 rows that 'is_valid' and 'is_test' say are for test",),
    ),
    "a table for training and one for validation": Layout(
        lambda: {
            **numbered("images/{}.png", 1, 2, 3, 4),
            "train.csv": table("file,label", *ROWS[::2]),
            "val.csv": table("file,label", *ROWS[1::2]),
        },
        AB,
        ("train.csv", "val.csv", "validation: 2 photos, as the data says"),
    ),
    "scenes": Layout(
        lambda: {
            **photos("seg_train/seg_train/sea/1.jpg", "seg_train/seg_train/street/2.jpg"),
            **photos(
                "seg_test/seg_test/sea/3.jpg", "seg_pred/seg_pred/4.jpg", "seg_pred/seg_pred/5.jpg"
            ),
        },
        {"sea": 1, "street": 1},
        ("a folder a class in seg_train/seg_train/", "seg_pred/seg_pred/ (all 2"),
        2,
        passed_over=("seg_test/: 1 photos",),
    ),
    "tissue, ids without .tif": Layout(
        lambda: {
            **numbered("train/{}.tif", 1, 2, 3, 4),
            **numbered("test/{}.tif", 8, 9),
            "train_labels.csv": table("id,label", "1,0", "2,0", "3,1", "4,1"),
            "sample_submission.csv": table("id,label", "8,0", "9,0"),
        },
        {"0": 2, "1": 2},
        ("train_labels.csv (id 'id', label 'label')", "4 with a suffix added"),
        2,
    ),
    "eyes": Layout(
        lambda: {
            **numbered("train_images/{}.png", 1, 2, 3, 4),
            **numbered("test_images/{}.png", 8, 9),
            "train.csv": table("id_code,diagnosis", "1,0", "2,0", "3,4", "4,4"),
            "test.csv": table("id_code", "9", "8"),
        },
        {"0": 2, "4": 2},
        ("label 'diagnosis'", "test.csv: id 'id_code', 2 photos"),
        2,
    ),
    "whales, whose label is called Id": Layout(
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train.csv": table("Image,Id", *ROWS),
            "sample_submission.csv": table("Image,Id", "9.png,new_whale w_1 w_2"),
        },
        AB,
        ("id 'Image', label 'Id'",),
        1,
    ),
    "Training_set.csv and Testing_set.csv": Layout(
        lambda: {
            **TRAIN,
            **numbered("test/{}.png", 8, 9),
            "Training_set.csv": table("filename,label", *ROWS),
            "Testing_set.csv": table("filename", "9.png", "8.png"),
        },
        AB,
        ("Training_set.csv", "Testing_set.csv: id 'filename', 2 photos"),
        2,
    ),
    "semicolons, label first, spaces around values": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table(
                "Label ; File", *(f" {r.split(',')[1]} ; {r.split(',')[0]} " for r in ROWS)
            ),
        },
        AB,
        ("id 'File', label 'Label'",),
    ),
    "tabs and UTF-16": Layout(
        lambda: {
            **TRAIN,
            "train.tsv": table(
                "image\tclass", *(r.replace(",", "\t") for r in ROWS), encoding="utf-16"
            ),
        },
        AB,
        ("train.tsv (id 'image', label 'class')",),
    ),
    "a byte order mark, CRLF, an index column and further columns": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table(
                ",image_id,width,label,height",
                *(f"{n},{n}.png,{n}.5,{'ab'[n > 2]},20" for n in (1, 2, 3, 4)),
                encoding="utf-8-sig",
                end="\r\n",
            ),
        },
        AB,
        ("id 'image_id', label 'label'",),
        passed_over=("columns not used: width, height",),
    ),
    "columns of no usual name": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table("foto,Art,seed", *(f"{r},{n}" for n, r in enumerate(ROWS))),
        },
        AB,
        ("id 'foto', label 'Art'",),
    ),
    "Parquet": Layout(
        lambda: {
            **TRAIN,
            "train.parquet": parquet(
                image=["1.png", "2.png", "3.png", "4.png"], label=[0, 0, 7, 7]
            ),
        },
        {"0": 2, "7": 2},
        ("train.parquet (id 'image', label 'label')",),
    ),
    "a packed table": Layout(
        lambda: {**TRAIN, "train.csv.gz": gzip.compress(table("id,label", *ROWS))},
        AB,
        ("train.csv.gz",),
    ),
    "label numbers that are names of files too": Layout(
        lambda: {**TRAIN, "train.csv": table("y,x", "1,1", "1,2", "2,3", "2,4")},
        {"1": 2, "2": 2},
        options=("--id-column", "x", "--label-column", "y"),
    ),
    "a number and a name for each class": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table(
                "file,class_id,class_name",
                *(f"{n}.png,{n > 2:d},{'AB'[n > 2]}" for n in (1, 2, 3, 4)),
            ),
        },
        {"0": 2, "1": 2},
        ("label 'class_id'",),
        names={"0": "A", "1": "B"},
    ),
    "the sample decides between two columns of labels": Layout(
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train.csv": table("id,species,category", "1,x,p", "2,x,p", "3,y,p", "4,z,q"),
            "sample_submission.csv": table("id,category", "9,p"),
        },
        {"p": 3, "q": 1},
        ("label 'category'",),
        1,
    ),
    "the sample's columns are the labels of one of two columns": Layout(
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train.csv": table("id,colour,shape", *TWO),
            "sample_submission.csv": table("id,p,q,s", "9,0,0,0"),
        },
        {"p": 2, "q": 2},
        ("label 'shape'",),
        1,
    ),
    "a column chosen by its option": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table("id,colour,shape", "1,r,p", "2,r,q", "3,g,p", "4,g,q"),
        },
        {"g": 2, "r": 2},
        options=("--label-column", "Colour"),
    ),
    "a table of another name among several, and photos elsewhere": Layout(
        lambda: {
            **numbered("frames/{}.png", 1, 2, 3, 4),
            "one.csv": table("id,label", *BARE),
            "two.csv": table("id,label", "1,x", "2,x", "3,y", "4,y"),
        },
        {"x": 2, "y": 2},
        ("two.csv",),
        options=("--labels", "two.csv", "--photos", "frames"),
    ),
    "two tables that say the same": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table("id,label", *BARE),
            "train_folds.csv": table("id,label,kfold", *(f"{row},1" for row in BARE)),
        },
        AB,
        ("train.csv",),
        passed_over=("train_folds.csv: has labels too, not used",),
    ),
    "other case": Layout(
        lambda: {
            **numbered("Train/IMG_{}.JPG", 1, 2, 3, 4),
            "train.csv": table("id,label", *(f"img_{r}".replace("png", "jpg") for r in ROWS)),
        },
        AB,
        ("4 in other case or Unicode form",),
    ),
    "decomposed letters": Layout(
        lambda: {
            **photos(*(f"train/{unicodedata.normalize('NFD', 'é')}{n}.png" for n in (1, 2, 3, 4))),
            "train.csv": table("id,label", *(f"é{row}" for row in ROWS)),
        },
        AB,
        ("4 in other case or Unicode form",),
    ),
    "backslashes": Layout(
        lambda: {
            **photos("train/p/1.png", "train/p/2.png", "train/q/1.png", "train/q/2.png"),
            "train.csv": table(
                "path,label", r"p\1.png,a", r"p\2.png,a", r"q\1.png,b", r"q\2.png,b"
            ),
        },
        AB,
        ("4 with '\\' read as '/'",),
    ),
    "paths of another machine": Layout(
        lambda: {
            **photos("train/p/1.png", "train/p/2.png", "train/q/1.png", "train/q/2.png"),
            "train.csv": table(
                "path,label",
                *("/home/me/data/train/p/1.png,a", "./data/train/p/2.png,a"),
                *(r"C:\data\train\q\1.png,b", "../train/q/2.png,b"),
            ),
        },
        AB,
        ("4 by the end of the path",),
    ),
    "names deeper in the tree": Layout(
        lambda: {
            **photos("train/x/y/1.png", "train/x/2.png", "train/z/3.png", "train/z/w/4.png"),
            "train.csv": table("id,label", *ROWS),
        },
        AB,
        ("4 by name in a deeper folder",),
    ),
    "files without a suffix": Layout(
        lambda: {**numbered("train/{}", 1, 2, 3, 4), "train.csv": table("id,label", *BARE)},
        AB,
        ("4 by name in a deeper folder",),
    ),
    "class folders with folders in them": Layout(
        lambda: photos("a/1.png", "a/x/2.png", "b/y/z/3.png", "b/4.png"),
        AB,
        ("2 of them in folders below",),
    ),
    "a class called train": Layout(
        lambda: photos("bus/1.png", "bus/2.png", "train/3.png", "train/4.png", "plane/5.png"),
        {"bus": 2, "plane": 1, "train": 2},
        ("a folder a class",),
    ),
    "photos in no folder of a class": Layout(
        lambda: photos("a/1.png", "b/2.png", "3.png", "4.png"),
        {"a": 1, "b": 1},
        to_predict=2,
        passed_over=("2 photos directly in",),
        warned=("2 photos directly in",),
    ),
    "a folder around all": Layout(
        lambda: {
            **{
                f"archive/dataset/{name}": None
                for name in ("train/a/1.png", "train/b/2.png", "test/9.png")
            },
        },
        {"a": 1, "b": 1},
        ("archive/dataset/train/",),
        1,
    ),
    "test photos in a folder unknown": Layout(
        lambda: photos(
            "train/a/1.png", "train/b/2.png", "test/unknown/8.png", "test/unknown/9.png"
        ),
        {"a": 1, "b": 1},
        ("test/unknown/ (all 2",),
        2,
    ),
    "labels as folders cannot be called": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table("id,label", "1,on/off", "2,on/off", f"3,{'x' * 300}", "4,.."),
        },
        {"on/off": 2, "x" * 300: 1, "..": 1},
    ),
    "rows that repeat": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table(
                "image,label,x", *(f"{r},{n}" for n, r in enumerate((*ROWS, *ROWS[:3])))
            ),
        },
        AB,
        passed_over=("3 rows that repeat an id with its label",),
    ),
    "archives for parts, tables packed, a folder inside": Layout(
        lambda: {
            "train.zip": zipped(numbered("train/{}.png", 1, 2, 3, 4)),
            "test.zip": zipped(numbered("{}.png", 8, 9)),
            "labels.csv.zip": zipped({"labels.csv": table("id,breed", *BARE)}),
            "sample_submission.csv.zip": zipped(
                {"sample_submission.csv": table("id,a,b", "9,0,0")}
            ),
        },
        AB,
        ("labels.csv.zip", "train/train/", "sample_submission.csv.zip"),
        1,
    ),
    "a zip in a zip": Layout(
        lambda: {
            "all.zip": zipped(
                {
                    "in/train.zip": zipped(numbered("{}.png", 1, 2, 3, 4)),
                    "in/train.csv": table("id,label", *ROWS),
                }
            )
        },
        AB,
        ("train.csv", "all/in/train/"),
    ),
    "tar.gz": Layout(
        lambda: {
            "train.tar.gz": tarred(numbered("./{}.png", 1, 2, 3, 4)),
            "train.csv": table("id,label", *ROWS),
        },
        AB,
        ("train/",),
    ),
    "7z": Layout(
        lambda: {
            "train.7z": seven_zipped(numbered("{}.png", 1, 2, 3, 4)),
            "train.csv": table("id,label", *ROWS),
        },
        AB,
        ("train/",),
    ),
    "an archive a class": Layout(
        lambda: {
            "cats.zip": zipped(numbered("{}.png", 1, 2)),
            "dogs.zip": zipped(numbered("{}.png", 3, 4)),
        },
        {"cats": 2, "dogs": 2},
    ),
    "an archive of what is extracted": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table("id,label", *ROWS),
            "everything.zip": zipped(TRAIN),
            "more.rar": b"",
        },
        AB,
        passed_over=("everything.zip: not extracted", "more.rar: not extracted"),
    ),
    "zip names in UTF-8 that do not say so": Layout(
        lambda: {
            "train.zip": without_utf8_flag(
                zipped(photos("é1.png", "é2.png", "é3.png", "é4.png")), "é", "é".encode()
            ),
            "train.csv": table("id,label", *(f"é{row}" for row in ROWS)),
        },
        AB,
        ("4 as named",),
    ),
    "what looks like a sample": Layout(
        lambda: {
            **photos("train/a/1.png", "train/b/2.png", "test/8.png", "test/9.png"),
            "submission.csv": table("id,label", "9.png,a"),
        },
        {"a": 1, "b": 1},
        ("no sample submission",),
        2,
        warned=("submission.csv: looks like a sample submission, not used",),
    ),
    "X-rays, with a copy of all in a folder": Layout(
        lambda: {
            **photos("cx/train/A/1.png", "cx/train/B/2.png", "cx/val/A/3.png", "cx/test/A/4.png"),
            **photos("cx/cx/train/A/1.png", "cx/cx/train/B/2.png", "cx/__MACOSX/._1.png"),
        },
        {"A": 2, "B": 1},
        ("validation: 1 photos",),
        1,
        warned=("2 photos in other folders, such as 'cx/cx/train/A/1.png': not used",),
    ),
    "food, with lists of photos": Layout(
        lambda: {
            **photos("images/pie/1.jpg", "images/pie/2.jpg", "images/rice/3.jpg"),
            "meta/train.txt": table("pie/1", "rice/3"),
            "meta/classes.txt": table("pie", "rice"),
        },
        {"pie": 2, "rice": 1},
        passed_over=("train.txt",),
        warned=("train.txt: has no labels of photos here",),
    ),
    "paddies, in folders of classes and a table": Layout(
        lambda: {
            **photos("train_images/a/1.png", "train_images/a/2.png"),
            **photos("train_images/b/3.png", "train_images/b/4.png", "test_images/9.png"),
            "train.csv": table(
                "image_id,label,variety,age",
                *(f"{row},{'vw'[n % 2]},{45 + n}" for n, row in enumerate(ROWS)),
            ),
            "sample_submission.csv": table("image_id,label", "9.png,"),
        },
        AB,
        ("label 'label'", "4 in the folder of the class"),
        1,
    ),
    "small pictures in 7z": Layout(
        lambda: {
            "train.7z": seven_zipped(numbered("train/{}.png", 1, 2, 3, 4)),
            "test.7z": seven_zipped(numbered("test/{}.png", 8, 9)),
            "trainLabels.csv": table("id,label", *BARE),
            "sampleSubmission.csv": table("id,label", "8,a", "9,a"),
        },
        AB,
        ("trainLabels.csv", "train/train/", "test/test/"),
        2,
    ),
    "flowers, by number, with their names": Layout(
        lambda: {
            **photos("train/1/1.jpg", "train/10/2.jpg", "valid/1/3.jpg", "test/4.jpg"),
            "cat_to_name.json": json.dumps({"1": "primrose", "10": "globe thistle", "2": "x"}),
        },
        {"1": 2, "10": 1},
        ("cat_to_name.json",),
        1,
        names={"1": "primrose", "10": "globe thistle"},
    ),
    "leaves, with features and images for both": Layout(
        lambda: {
            **numbered("images/{}.jpg", 1, 2, 3, 4, 8, 9),
            "train.csv": table("id,species,margin1", *(f"{row},0.{row[0]}3" for row in BARE)),
            "test.csv": table("id,margin1", "8,0.1", "9,0.2"),
            "sample_submission.csv.zip": zipped({"sample.csv": table("id,a,b", "8,0,1", "9,0,1")}),
        },
        AB,
        ("label 'species'",),
        2,
    ),
    "a folder that contradicts the table": Layout(
        lambda: {
            **photos("train/a/1.png", "train/a/2.png", "train/b/3.png", "train/a/4.png"),
            "train.csv": table("id,label", *ROWS),
        },
        AB,
        ("3 in the folder of the class, 1 by name in a deeper folder",),
        warned=("1 photos lie in the folder of another class than the table says",),
    ),
    "few photos are not there": Layout(
        lambda: {**TRAIN, "train.csv": table("id,label", *BARE, "5,b")},
        {"a": 2, "b": 3},
        ("1 not found",),
    ),
    "photos that a table does not name": Layout(
        lambda: {**TRAIN, **photos("train/5.png"), "train.csv": table("id,label", *BARE)},
        AB,
        warned=("1 of 5 photos in train/: without a label",),
    ),
    "remarks above the header": Layout(
        lambda: {**TRAIN, "train.csv": table("# made by us", "# in 2020", "id,label", *BARE)},
        AB,
        ("id 'id', label 'label'",),
    ),
    "a header that begins as a remark does": Layout(
        lambda: {**TRAIN, "train.csv": table("#id,label", *BARE)},
        AB,
        ("id '#id', label 'label'",),
    ),
    "labels with zeros before": Layout(
        lambda: {**TRAIN, "train.csv": table("id,label", "1,01", "2,1", "3,x", "4,x")},
        {"01": 1, "1": 1, "x": 2},
        warned=("in case, spaces or zeros alone are taken as different: '01' and '1'",),
    ),
    "a column split of numbers": Layout(
        lambda: {**TRAIN, "train.csv": table("id,label,split", "1,a,0", "2,a,1", "3,b,0", "4,b,2")},
        AB,
        warned=("'split' is named as if it says what to train on, but its values (0, 1, 2) do",),
    ),
    "traffic signs, a table in the folder of each class": Layout(
        lambda: {
            **photos("train/00000/1.ppm", "train/00000/2.ppm", "train/00001/1.ppm"),
            "train/00000/GT-00000.csv": table("Filename;Width;ClassId", "1.ppm;5;0", "2.ppm;6;0"),
            "train/00001/GT-00001.csv": table("Filename;Width;ClassId", "1.ppm;5;1"),
        },
        {"0": 2, "1": 1},
        ("train/00000/GT-00000.csv", "train/00001/GT-00001.csv", "3 as named"),
    ),
    **{
        f"photos to predict in {name}": Layout(
            lambda name=name: photos("train/a/1.png", "train/b/2.png", f"{name}/3.png"),
            {"a": 1, "b": 1},
            (f"{name}/ (all 1",),
            1,
        )
        for name in ("test_stg1", "holdout", "test1")
    },
    "photos held out in eval": Layout(
        lambda: photos("train/a/1.png", "train/b/2.png", "eval/a/3.png", "eval/b/4.png"),
        AB,
        ("validation: 2 photos, as the data says",),
    ),
    "labels for an empty value": Layout(
        lambda: {**TRAIN, "train.csv": table("id,label", "1,a", "2,a", "3,NaN", "4,NaN")},
        {"NaN": 2, "a": 2},
        warned=("'NaN' is taken as a class; remove its photos",),
    ),
    "labels in other case": Layout(
        lambda: {**TRAIN, "train.csv": table("id,label", "1,Cat", "2,cat", "3,dog", "4,Dog")},
        {"Cat": 1, "Dog": 1, "cat": 1, "dog": 1},
        warned=("taken as different: 'Cat' and 'cat' and 1 more",),
    ),
    "folders of classes in other case": Layout(
        lambda: photos("train/Cat/1.png", "train/cat/2.png", "train/dog/3.png"),
        {"Cat": 1, "cat": 1, "dog": 1},
        warned=("taken as different: 'Cat' and 'cat'",),
    ),
    "a folder of unlabelled photos among classes": Layout(
        lambda: photos("train/a/1.png", "train/b/2.png", "train/unlabeled/3.png"),
        {"a": 1, "b": 1, "unlabeled": 1},
        warned=("'unlabeled' is taken as a class; remove its photos if",),
    ),
    "predictions in place of labels": Layout(
        lambda: {
            **photos("train/a/1.png", "train/a/2.png", "train/b/3.png", "train/b/4.png"),
            "predictions.csv": table("id,label", "1,b", "2,b", "3,a", "4,a"),
        },
        AB,
        warned=("4 photos lie in the folder of another class than the table says",),
    ),
    "parts below classes": Layout(
        lambda: photos("a/train/1.png", "a/test/2.png", "b/train/3.png", "b/test/4.png"),
        AB,
        warned=("2 folders 'test' below those of classes: their photos are trained on too",),
    ),
    "classes as False and True": Layout(
        lambda: {
            **TRAIN,
            "train.csv": table(
                "id,a,b", "1,True,False", "2,True,False", *("3,F,T", "4,F,T")
            ).replace(b"F,T", b"False,TRUE"),
        },
        AB,
        ("one column a class (2)",),
    ),
    "a sample as text": Layout(
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train.csv": table("id,label", *BARE),
            "sample_submission.txt": table("id,label", "9,a"),
        },
        AB,
        ("sample_submission.txt: id 'id', 1 rows",),
        1,
    ),
    "a sample that is not read": Layout(
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train.csv": table("id,label", *BARE),
            "sample_submission.xlsx": "PK",
        },
        AB,
        to_predict=1,
        warned=("sample_submission.xlsx: looks like a sample submission, not used",),
    ),
    "files that Excel keeps open": Layout(
        lambda: {**TRAIN, "train.csv": table("id,label", *BARE), "~$train.csv": b"\0\0"},
        AB,
        ("train.csv",),
    ),
    "unlabelled photos among labelled ones": Layout(
        lambda: {
            **numbered("images/{}.png", 1, 2, 3, 4, 8, 9),
            "labels.csv": table("id,label", *BARE),
        },
        AB,
        ("images/ (the 2 without a label)",),
        2,
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_understood(toolkit, here: Path, name: str) -> None:
    layout = LAYOUTS[name]
    build(here / "data", layout.files())
    told = toolkit("data", "--json", "-q", *layout.options)
    assert told.code == 0, told.err
    found = told.json
    assert found["classes"] == layout.classes
    assert found["to_predict"] == layout.to_predict
    assert found["names"] == layout.names
    rows = "; ".join(f"{what}: {how}" for what, how in found["found"].items())
    for part in layout.said:
        assert part in rows
    for part in layout.passed_over:
        assert part in "; ".join(found["passed_over"])
    for part in layout.warned:
        assert part in told.err
    if not layout.warned:
        assert told.err == ""
    assert not found["broken"] or "few photos" in name
    # What is printed for a person says the same, and the second look finds the same.
    printed = toolkit("data", *layout.options)
    assert printed.code == 0
    assert "data: what was found" in printed.out


REFUSED: dict[str, tuple[Callable[[], Files], tuple[str, ...]]] = {
    "no header": (
        lambda: {**TRAIN, "train.csv": table(*ROWS)},
        ("train.csv: has no header, for its first line is '1.png,a'",),
    ),
    "no header, no suffix": (
        lambda: {**TRAIN, "train.csv": table(*BARE)},
        ("train.csv: has no header, for its first line is '1,a'",),
    ),
    "two columns of labels": (
        lambda: {
            **TRAIN,
            "train.csv": table("id,colour,shape", "1,r,p", "2,r,q", "3,g,p", "4,g,q"),
        },
        (
            "2 readings are possible",
            "label 'colour' (2 values: r, g)",
            "label 'shape'",
            "--label-column B",
        ),
    ),
    "two columns of usual names": (
        lambda: {
            **TRAIN,
            "train.csv": table("id,label,species", "1,r,p", "2,r,q", "3,g,p", "4,g,q"),
        },
        ("2 readings are possible", "label 'label'", "label 'species'"),
    ),
    "two tables": (
        lambda: {
            **TRAIN,
            "one.csv": table("id,label", *BARE),
            "two.csv": table("id,label", "1,x", "2,x", "3,y", "4,y"),
        },
        (
            "2 tables have labels",
            "one.csv: id 'id'",
            "two.csv: id 'id'",
            "--labels FILE",
            "--photos DIR",
        ),
    ),
    "two tables of one name": (
        lambda: {
            **TRAIN,
            "v1/labels.csv": table("id,label", *BARE),
            "v2/labels.csv": table("id,label", "1,x", "2,x", "3,y", "4,y"),
        },
        ("2 tables have labels", "v1/labels.csv: id 'id'", "--labels FILE"),
    ),
    "an id of two files": (
        lambda: {**TRAIN, **photos("train/1.jpg"), "train.csv": table("id,label", *BARE)},
        ("the id '1' fits 2 files", "train/1.jpg", "train/1.png"),
    ),
    "two ids of one file": (
        lambda: {**TRAIN, "train.csv": table("id,label", *BARE, "1.png,a")},
        ("1 files are meant by more than one id", "'1' and '1.png'"),
    ),
    "photos that are elsewhere": (
        lambda: {**TRAIN, "train.csv": table("id,label", "x1.png,a", "x2.png,b")},
        (
            "names 2 photos, such as 'x1.png'",
            "train/ with 4 photos",
            "'train/1.png'",
            "--photos DIR",
        ),
    ),
    "photos that are elsewhere, in a table called labels": (
        lambda: {**TRAIN, "labels.csv": table("id,breed", "x1,a", "x2,b")},
        ("labels.csv: names 2 photos, such as 'x1'", "train/ with 4 photos"),
    ),
    "a list of paths and numbers without a header": (
        lambda: {**TRAIN, "train.txt": table(*(f"train/{n}.png 0" for n in FOUR))},
        ("train.txt: has no header, for its first line is 'train/1.png 0'",),
    ),
    "conflicting rows": (
        lambda: {**TRAIN, "train.csv": table("id,label", *BARE, "1,b", "2,a")},
        (
            "1 ids stand in several rows with different labels",
            "1 further rows repeat",
            "'1': a (line 2), b (line 6)",
        ),
    ),
    "several labels, a row each": (
        lambda: {**TRAIN, "train.csv": table("id,label", *BARE, "1,b", "2,b", "3,a")},
        ("3 of 4 ids have rows with different labels: several labels per photo",),
    ),
    "several labels in a value": (
        lambda: {**TRAIN, "train.csv": table("id,labels", "1,a|b", "2,b", "3,a|c", "4,c|b")},
        ("several labels in one value, such as 'a|b'",),
    ),
    "several labels with spaces": (
        lambda: {
            **TRAIN,
            "train.csv": table("id,tags", "1,clear primary", "2,clear", "3,haze primary", "4,haze"),
        },
        ("several labels in one value, such as 'clear primary'",),
    ),
    "several labels as numbers": (
        lambda: {**TRAIN, "train.csv": table("id,attribute_ids", "1,16 0", "2,16 5", "3,5", "4,0")},
        ("several labels in one value, such as '16 0'",),
    ),
    "several ones in a row": (
        lambda: {
            **TRAIN,
            "train.csv": table("id,x,y,z", "1,1,0,0", "2,1,1,0", "3,0,0,1", "4,1,0,1"),
        },
        ("2 of 4 rows (the first in line 3) have a 1 in several of the columns x, y, z",),
    ),
    "a scale": (
        lambda: {
            **numbered("train/{}.png", *range(12)),
            "train.csv": table("id,target", *(f"{n},{n * 0.37 + 0.1:.2f}" for n in range(12))),
        },
        ("the column 'target' has 12 different numbers", "it classifies"),
    ),
    "classes in names of files": (
        lambda: {**numbered("train/cat.{}.jpg", 1, 2), **numbered("train/dog.{}.jpg", 1, 2)},
        ("names of files seem to carry the class: 'cat' (2), 'dog' (2)", "train.csv"),
    ),
    "one photo a folder cannot be of any class": (
        lambda: photos("train/1.png", "test/2.png"),
        ("no labelled photos (it holds",),
    ),
    "names of zip entries in no known encoding": (
        lambda: {
            "train.zip": without_utf8_flag(zipped(photos("é1.png")), "é", b"\xe9\xff"),
            "train.csv": table("id,label", "é1.png,a"),
        },
        ("train.zip: the name of the entry '\\xe9\\xff1.png' is not UTF-8; nothing was extracted",),
    ),
    "whole numbers on a scale": (
        lambda: {
            **numbered("train/{}.png", *range(12)),
            "train.csv": table("id,age", *(f"{n},{20 + n}" for n in range(12))),
        },
        ("the column 'age' has 12 different numbers (20, 21, 22, ...): a scale",),
    ),
    "few numbers with fractions on a scale": (
        lambda: {**TRAIN, "train.csv": table("id,price", "1,0.5", "2,1.5", "3,2.5", "4,0.5")},
        ("the column 'price' has 3 different numbers",),
    ),
    "whole numbers for which the sample wants fractions": (
        lambda: {
            **TRAIN,
            **photos("test/9.png"),
            "train.csv": table("id,charm", "1,1", "2,5", "3,9", "4,5"),
            "sample_submission.csv": table("id,charm", "9,38.4"),
        },
        ("3 different numbers (1, 5, 9, ...), and the sample submission asks for numbers such as",),
    ),
    **{
        f"a format that is not read, {name}": (
            lambda name=name, content=content: {**TRAIN, name: content},
            ("no labelled photos (it holds ", f"'{name}' is not read: {said}"),
        )
        for name, content, said in (
            ("annotations/coco.json", "{}", "JSON, as of COCO; write"),
            ("train/metadata.jsonl", "{}", "JSON, as of COCO; write"),
            ("train.xlsx", "PK", "a spreadsheet; save it as CSV"),
            ("train.rar", "Rar!", "a RAR archive"),
            ("train.zip.001", "PK", "a RAR archive, or a part of a split one; extract it"),
            ("x.npz", "PK", "a file of arrays"),
            ("train-labels-idx1-ubyte.gz", "", "a file of arrays"),
            ("train.tar.zst", "", "an archive of a kind that is not extracted; extract it"),
            ("train.csv.xz", "", "a table that is packed otherwise; unpack it"),
            ("train.feather", "ARROW1", "a table in a format of its own; save it as CSV"),
            ("labels.sqlite", "SQLite", "a database; save its table as CSV"),
            ("clips/a/1.mp4", "", "a video; save frames of it"),
            ("a/1.svg", "<svg/>", "a drawing or a document; save it as PNG"),
            ("a/1.cr2", "", "a camera's raw photo; convert it to JPEG"),
            ("mnist.csv", table("label,pixel0,pixel1", "1,0,9"), "holds the pixels of photos"),
            ("fer.csv", table("emotion,pixels,Usage", "0,70 80,Train"), "holds the pixels of"),
            ("train.csv", table("url,label", "https://x.org/7?a=b,a"), "none of its columns (url"),
            ("labels.csv", table("id,a,b", "1,.9,.1", "2,.3,.7"), "none of its columns (a, b)"),
            ("a.xml", "<a/>", "XML, as of Pascal VOC"),
            (
                "train-0.parquet",
                parquet(image=[{"bytes": b"x", "path": "1.png"}], label=[0]),
                "holds the photos themselves",
            ),
        )
    },
    "photos in a medical format": (
        lambda: {"train/1.dcm": "DICM", "train.csv": table("id,label", "1,a", "2,b")},
        ("none of them is in", "'train/1.dcm' is not read: a medical image; convert it to PNG"),
    ),
    "boxes of YOLO": (
        lambda: {
            **photos("train/images/1.png", "train/images/2.png"),
            "train/labels/1.txt": "0 .5 .5 .1 .1",
            "data.yaml": "names: [a, b]",
        },
        ("no labelled photos", "'data.yaml' is not read: YOLO"),
    ),
    "a table of folders": (
        lambda: {
            **photos(*(f"train/{n}/{k}.png" for n in range(4) for k in "xy")),
            "train.csv": table("patient,label", "0,a", "1,b", "2,a", "3,b"),
        },
        ("the column 'patient' names folders of photos, such as '0'", "--group-column"),
    ),
    "a table of folders, the only column of ids": (
        lambda: {
            **photos(*(f"train/{n}/image.png" for n in range(4))),
            "train.csv": table("id,label", "0,a", "1,b", "2,a", "3,b"),
        },
        ("the column 'id' names folders of photos, such as '0'",),
    ),
    "masks beside photos": (
        lambda: {
            **numbered("images/{}.png", 1, 2, 3, 4),
            **numbered("masks/{}.png", 1, 2, 3, 4),
            "train.csv": table("id,label", *BARE),
        },
        ("the id '1' fits 2 files", "masks/1.png", "--photos DIR"),
    ),
    "names of files in several folders": (
        lambda: {
            **numbered("train/x/{}.png", 1, 2),
            **numbered("train/y/{}.png", 1, 2),
            "train.csv": table("folder,file,label", *("x,1.png,a", "x,2.png,a"), "y,1.png,b"),
        },
        ("1 ids stand in several rows", "or write the paths of different photos"),
    ),
    "a web page in place of a table": (
        lambda: {**TRAIN, "train.csv": "<!DOCTYPE html>\n<html><title>Log in, please</title>"},
        ("train.csv: is a web page or XML, not a table. Download",),
    ),
    "a zero byte": (
        lambda: {**TRAIN, "train.csv": table("id,label", "1,a", "2,a\0", "3,b")},
        ("train.csv: line 3: holds a zero byte. The file is damaged",),
    ),
    "a quote without end": (
        lambda: {**TRAIN, "train.csv": table("id,label", '1,"a', "2,a", "3,b")},
        ('train.csv: cannot be read as CSV (a quote " is opened and never closed)',),
    ),
    "boxes in photos": (
        lambda: {
            **TRAIN,
            "train.csv": table(
                "id,PredictionString", "1,n1 5 5 9 9", "2,n1 5 6 9 9 n1 1 1 2 2", "3,n2 1 2 3 4"
            ),
        },
        ("the column 'PredictionString' has boxes in photos, such as 'n1 5 5 9 9'",),
    ),
    "a pointer of Git LFS": (
        lambda: {**TRAIN, "train.csv": "version https://git-lfs.github.com/spec/v1\noid x\n"},
        ("train.csv: is a pointer of Git LFS", "'git lfs pull'"),
    ),
    "an empty label": (
        lambda: {**TRAIN, "train.csv": table("id,label", "1,a", "2,", "3,b", "4,")},
        ("train.csv: line 3: the label is empty, as in 1 further line. Fill it in, or",),
    ),
    "lists of labels": (
        lambda: {
            **TRAIN,
            "train.csv": table("id,labels", """1,"['r', 'p']\"""", "2,['r']", "3,[]", "4,['p']"),
        },
        ("lists of labels, such as '['r', 'p']'",),
    ),
    "a part of the data that is unknown": (
        lambda: {
            **TRAIN,
            "train.csv": table(
                "id,label,split", "1,a,train", "2,a,later", "3,b,train", "4,b,later"
            ),
        },
        ("the column 'split' says which part", "'later' (2 rows)", "rename the column"),
    ),
    "no row to train on": (
        lambda: {**TRAIN, "train.csv": table("id,label,split", *(f"{r},test" for r in BARE))},
        ("all 4 rows are such as 'split' says are for test",),
    ),
    "an archive that leads outside": (
        lambda: {"train.zip": zipped(photos("../1.png")), "train.csv": table("id,label", "1,a")},
        ("the entry '../1.png' leads outside the data folder",),
    ),
    "a tar archive that leads outside": (
        lambda: {
            "train.tar.gz": tarred(photos("/etc/1.png")),
            "train.csv": table("id,label", "1,a"),
        },
        ("the entry '/etc/1.png' leads outside the data folder",),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_in_one_way_is_refused(toolkit, here: Path, name: str) -> None:
    files, parts = REFUSED[name]
    build(here / "data", files())
    told = toolkit("data")
    assert told.code == 1
    assert told.out == ""
    assert told.err.startswith("error: ")
    for part in parts:
        assert part in told.err
    assert "--skip-broken" not in told.err
    assert "=" not in told.err.partition("\n")[0]


def test_a_wrong_option_names_what_there_is(toolkit, here: Path) -> None:
    build(here / "data", {**TRAIN, "train.csv": table("id,label", *BARE)})
    told = toolkit("data", "--label-column", "lable")
    assert (told.code, told.out) == (1, "")
    assert "no column 'lable' (--label-column B). Did you mean 'label'?" in told.err
    told = toolkit("data", "--id-column", "id", "--label-column", "id")
    assert "the column 'id' cannot hold both the labels and the ids" in told.err
    told = toolkit("data", "--labels", "train/1.png")
    assert "1.png: is a photo, not a table" in told.err
    told = toolkit("data", "--labels", "nowhere.csv")
    assert told.err.startswith("error: nowhere.csv: no such file or folder (--labels FILE)")


def test_links_are_followed_and_loops_are_not(toolkit, here: Path) -> None:
    build(here / "elsewhere", photos("1.png", "2.png"))
    build(here / "data", photos("train/b/3.png", "train/b/4.png"))
    (here / "data" / "train" / "a").symlink_to(here / "elsewhere", target_is_directory=True)
    (here / "elsewhere" / "round").symlink_to(here / "elsewhere", target_is_directory=True)
    (here / "data" / "train" / "b" / "up").symlink_to(here / "data", target_is_directory=True)
    told = toolkit("data", "--json")
    assert told.json["classes"] == AB


def test_names_that_are_not_utf8_are_listed(toolkit, here: Path) -> None:
    build(here / "data", photos("train/a/1.png", "train/b/2.png"))
    try:
        Path(os.fsdecode(bytes(here / "data" / "train" / "a") + b"/caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    told = toolkit("data")
    assert told.code == 1
    assert "1 file names are not UTF-8" in told.err
    assert "caf\\xe9.png" in told.err


def test_on_media_that_cannot_be_written_archives_go_below_the_cache(here: Path) -> None:
    from toolkit.data.unpacking import unpacked
    from toolkit.files import cache_folder

    build(here / "data", {"train.zip": zipped(photos("a/1.png", "b/2.png"))})
    for _ in range(2):
        found = unpacked(here / "data", can_write=lambda folder: False)
        assert [place for place, _ in found.tree.all_photos()] == ["train/a/1.png", "train/b/2.png"]
        assert all(path.is_relative_to(cache_folder()) for _, path in found.tree.all_photos())
    assert [path.name for path in (here / "data").iterdir()] == ["train.zip"]


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    toolkit, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(here / "data", photos("a/1.png", "b/2.png"))
    (here / "file").write_bytes(b"")
    monkeypatch.setenv("TOOLKIT_CACHE", str(here / "file" / "cache"))
    told = toolkit("data")
    assert told.code == 1
    assert "file/cache: the cache cannot be written (Not a directory). Set TOOLKIT" in told.err


def test_a_home_folder_may_be_written_as_a_tilde(
    toolkit, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(here / "data", photos("a/1.png", "b/2.png"))
    monkeypatch.setenv("HOME", str(here / "me"))
    monkeypatch.setenv("TOOLKIT_CACHE", "~/photos")
    assert toolkit("data").code == 0
    assert (here / "me" / "photos" / "survey").is_dir()
    assert not (here / "~").exists()
