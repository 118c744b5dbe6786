"""A data folder on its way to be read: its files, its tables, and how ids lead to photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.catalogue import Catalogue
from toolkit.data.layout import Layout, class_folders, find_layout, unwrapped
from toolkit.data.reading import Reading
from toolkit.data.resolver import Resolver
from toolkit.data.tree import Folder, check_folder, scan
from toolkit.data.unpacking import Unpacked


@dataclass(frozen=True)
class Source:
    """A data folder on its way to be read.

    Attributes:
        root: The data folder.
        here: Its files.
        layout: Where its parts are.
        tree: Where labelled photos may be.
        folders: Where they are looked for first.
        resolver: How ids lead to them.
        catalogue: The tables.
    """

    root: Path
    here: Unpacked
    layout: Layout
    tree: Folder
    folders: tuple[Folder, ...]
    resolver: Resolver
    catalogue: Catalogue

    @classmethod
    def of(cls, root: Path, here: Unpacked, reading: Reading) -> Source:
        catalogue, layout = Catalogue.of(here), find_layout(here.tree)
        if reading.photos is not None:
            check_folder(reading.photos)
            tree = scan(reading.photos)
            layout = Layout(tree)
            return cls(root, here, layout, tree, (tree,), Resolver(tree), catalogue)
        tree = here.tree.without(*layout.test)
        parts = (*layout.train, *layout.validation)
        folders = tuple(unwrapped(folder) for folder in parts) or (unwrapped(layout.outside_test),)
        resolver = Resolver(tree, folders, layout.test)
        return cls(root, here, layout, tree, folders, resolver, catalogue)

    @property
    def said(self) -> str:
        """The folders of photos, in words."""
        return ", ".join(f"{folder.place or folder.path}/" for folder in self.folders)

    @property
    def has_class_folders(self) -> bool:
        """Whether photos lie in folders that may be classes."""
        return any(class_folders(folder) for folder in self.folders)

    def elsewhere(self, folders: Sequence[Folder]) -> str:
        """Say how many photos lie outside folders that are looked into; empty for none."""
        outside = self.tree.without(*folders)
        is_all = any(folder.place == self.tree.place for folder in folders)
        if is_all or not outside.count:
            return ""
        first = next(outside.all_photos())[0]
        return f"{outside.count:,} photos in other folders, such as '{first}'"

    @property
    def left(self) -> list[str]:
        """Archives that were not extracted, a line each."""
        return [f"{path.name}: not extracted" for path in self.here.left]
