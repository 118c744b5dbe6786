"""Where the photos of a data folder are: the parts for training, validation and test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from toolkit.data.tree import Folder

Role = Literal["train", "validation", "test", "predict", ""]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
    **dict.fromkeys(("pred", "predict", "prediction", "unlabeled", "unlabelled"), "predict"),
}
_FILLERS = {
    *("images", "image", "imgs", "img", "photos", "photo", "pictures", "picture", "pics", "pic"),
    *("set", "data", "dataset", "seg", "upload", "jpg", "jpeg", "png", "tif", "tiff", "webp"),
    *(
        "px",
        "stg",
        "stage",
        "pixels",
        "small",
        "resized",
        "cropped",
        "rev",
        "v",
        "full",
        "all",
        "private",
        "public",
    ),
    *(
        "input",
        "inputs",
        "features",
        "original",
        "raw",
        "additional",
        "files",
        "folder",
        "samples",
        "split",
        "final",
        "new",
    ),
}
GENERIC = {
    *("images", "image", "imgs", "img", "photos", "photo", "pictures", "pics", "data", "dataset"),
    *("jpg", "jpeg", "png", "input", "files", "raw", "all", "all_images", "unknown", "0", "jpegs"),
}
"""Names of folders that say nothing of what is in them."""


@dataclass(frozen=True)
class Layout:
    """The parts of a data folder, as their names tell.

    Attributes:
        top: The folder that holds the parts, or all photos; often the data folder.
        train: Folders of training photos; empty where there is no part for training.
        validation: Likewise, of photos that the data itself holds out.
        test: Likewise, of photos to predict; the likeliest first.
    """

    top: Folder
    train: tuple[Folder, ...] = ()
    validation: tuple[Folder, ...] = ()
    test: tuple[Folder, ...] = ()

    @property
    def outside_test(self) -> Folder:
        """All but the test photos."""
        return self.top.without(*self.test)


def find_layout(root: Folder) -> Layout:
    """Find the parts of a data folder by the names of its folders."""
    top = root
    while True:
        layout = _parts(top)
        if layout.train or layout.validation or layout.test:
            return layout
        filled = _filled(top)
        generic = [folder for folder in filled if folder.name.lower() in GENERIC]
        inner = next((folder for folder in generic if _has_parts(folder)), None)
        if inner is None and len(filled) == 1 and not top.photos:
            # A folder of folders that hold photos; a folder of photos alone would be a class.
            inner = filled[0] if _filled(filled[0]) else None
        if inner is None:
            return layout
        top = inner


def unwrapped(folder: Folder) -> Folder:
    """Return where the content of a part begins: of `train/train/<class>`, the inner folder."""
    while not folder.photos:
        filled = _filled(folder)
        if len(filled) != 1:
            return folder
        inner = filled[0]
        alike = inner.name.lower() == folder.name.lower() or role_of(inner.name)
        if not (alike or inner.name.lower() in GENERIC):
            return folder
        folder = inner
    return folder


def class_folders(parent: Folder) -> tuple[Folder, ...]:
    """Return the folders directly below that hold photos, at any depth."""
    return _filled(parent)


def role_of(name: str) -> Role:
    """Return which part of the data a folder's name says that it holds; empty for none."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    role: Role = ""
    for word in filter(None, words):
        found, rest = _leading_role(word)
        if found and not role and (not rest or rest in _FILLERS):
            role = found
        elif word not in _FILLERS:
            return ""
    return role


def _leading_role(word: str) -> tuple[Role, str]:
    for known in sorted(_ROLES, key=len, reverse=True):
        if word.startswith(known):
            return _ROLES[known], word[len(known) :]
    return "", word


def _parts(top: Folder) -> Layout:
    by_role: dict[Role, list[Folder]] = {}
    filled = _filled(top)
    for folder, role in zip(filled, _roles([folder.name for folder in filled]), strict=True):
        by_role.setdefault(role, []).append(folder)
    # What is for prediction alone comes before test photos, which may have labels.
    test = [*by_role.get("predict", []), *_test_first(by_role.get("test", []))]
    return Layout(
        top, tuple(by_role.get("train", ())), tuple(by_role.get("validation", ())), tuple(test)
    )


def _roles(names: Sequence[str]) -> list[Role]:
    """Return the role of each folder, of `set1_train` and `set1_test` too, which begin alike."""
    roles = [role_of(name) for name in names]
    if any(roles) or len(names) < 2:
        return roles
    words = [re.split(r"[^A-Za-z0-9]+", name) for name in names]
    alike = (len(set(column)) == 1 for column in zip(*words, strict=False))
    common = sum(takewhile(bool, alike))
    rest = [role_of("_".join(each[common:])) for each in words]
    return rest if common and all(rest) else roles


def _test_first(folders: list[Folder]) -> list[Folder]:
    # `test_upload` is what some competitions call the photos to answer, beside a `test`.
    return sorted(folders, key=lambda folder: "upload" not in folder.name.lower())


def _filled(folder: Folder) -> tuple[Folder, ...]:
    return tuple(each for each in folder.folders.values() if each.count)


def _has_parts(folder: Folder) -> bool:
    layout = _parts(folder)
    return bool(layout.train or layout.test)
