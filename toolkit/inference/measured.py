"""What was measured on this machine: kept in the user's cache folder.

It depends on processor, libraries and bundle alike, so it is no part of a bundle; its file's name
is made of all that it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.files import cache_folder, read_json, sha256_json, write_json
from toolkit.inference.devices import Device
from toolkit.machine import RUNTIMES, package_versions, processor_name, usable_cores

SCHEMA_VERSION = 2

ROUNDS = 5
"""Times that each of several things is measured, in turns."""


def machine_key(device: Device) -> dict[str, Any]:
    """Return what all that is measured depends on."""
    return {
        "schema_version": SCHEMA_VERSION,
        "processor": processor_name(),
        "cores": usable_cores(),
        "device": device.kind,
        "versions": package_versions(RUNTIMES),
    }


def kept_file(what: str, key: Mapping[str, Any]) -> Path:
    """Return where it is kept."""
    return cache_folder() / "tuning" / f"{what}-{sha256_json(key)[:32]}.json"


def keep(what: str, key: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Write what was measured."""
    write_json(kept_file(what, key), {"key": key, **content})


def kept(what: str, key: Mapping[str, Any]) -> dict[str, Any]:
    """Read what was kept.

    Raises:
        ToolkitError: There is nothing, or it is spoilt or of something else.
    """
    path = kept_file(what, key)
    content = read_json(path)
    if content.get("key") != key:
        raise ToolkitError(f"{path}: was measured on something else.")
    return content


def turns(rounds: int, count: int) -> list[tuple[int, int]]:
    """Give (round, number) such that none is always measured after the same other one."""
    return [
        (turn, (turn + place) % count if turn % 2 else (turn - place) % count)
        for turn in range(rounds)
        for place in range(count)
    ]
