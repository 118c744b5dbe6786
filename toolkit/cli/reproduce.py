"""`toolkit reproduce`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.terminal import print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.progress import Reporter
    from toolkit.reporting.reproduction import Reproduction

MOST_LABELS = 20
"""Differing answers that are listed."""

LONGEST = 60
"""Characters of an answer that are shown: one may be a row of probabilities."""


@click.command("reproduce")
@click.argument("manifest", type=options.FILE, default="submission.json")
@click.option("--bundle", type=options.FOLDER, help="Where the bundle is now.")
@click.option("--data", type=options.FOLDER, help="Where the photos are now.")
@click.option(
    "--device",
    type=options.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    help="Where to compute.  [default: as it was chosen then]",
)
@click.option(
    "--keep",
    type=options.FOLDER,
    metavar="DIR",
    help="Keep what is made again in this folder; nothing in it is overwritten.",
)
@options.as_json
@options.reporter
def command(
    manifest: Path,
    bundle: Path | None,
    data: Path | None,
    device: str | None,
    keep: Path | None,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Make a submission again from its MANIFEST, submission.json, and say whether it is the same.

    The bundle and every photo have to be those it was made of. Paths in the manifest are found
    from any folder, also after all of it moved together. The submission is only read. The exit code
    is 0 where all of it came out again, and 1 where not.
    """
    from toolkit.reporting.reproduction import Moved, reproduce

    moved = Moved(bundle, data, device)
    found = reproduce(manifest, moved, keep=keep, reporter=reporter)
    if as_json:
        content = asdict(found)
        for key in ("submission", "probabilities", "kept"):
            content[key] = None if content[key] is None else str(content[key])
        print_json({"equal": found.equal, **content})
    else:
        _print_found(found)
    if not found.equal:
        sys.exit(1)


def _print_found(found: Reproduction) -> None:
    name = found.submission.name
    print_line(f"{found.submission}: made {found.created}, made again in {found.seconds:.0f} s")
    print_line("")
    for line in (_said_of_labels(found), _said_of_probabilities(found)):
        print_line(line)
    if found.labels:
        print_table(
            f"{len(found.labels)} of {found.rows} answers differ",
            ["<id", f"<{name}", "<made again"],
            [
                (each.id, _short(each.submitted), _short(each.again))
                for each in found.labels[:MOST_LABELS]
            ],
            note=f"... and {len(found.labels) - MOST_LABELS} more"
            if len(found.labels) > MOST_LABELS
            else "",
        )
    if found.differs:
        may = "" if found.same and found.probabilities_same else ", which may be the reason"
        print_line(f"Other than when it was made{may}:")
        for line in found.differs:
            print_line(f"  {line}")
    elif not (found.same and found.probabilities_same):
        print_line(
            "Versions, device and threads are those it was made with: the difference is a fault, "
            "of the machine or of the toolkit."
        )
    if found.kept:
        print_line(f"kept in {found.kept}")
    print_line("equal" if found.equal else "not equal")


def _short(answer: str | None) -> str:
    if answer is None:
        return "no row"
    return answer if len(answer) <= LONGEST else f"{answer[:LONGEST]}..."


def _said_of_labels(found: Reproduction) -> str:
    name = found.submission.name
    again = (
        "what was made again is, byte for byte, the file that the manifest describes"
        if found.same
        else "what was made again is not the file that the manifest describes"
    )
    if found.state == "missing":
        return f"{name}: the file is missing; {again}."
    if found.state == "changed":
        return f"{name}: THE FILE WAS CHANGED since it was made; {again}."
    if found.same:
        return f"{name}: the same, byte for byte ({found.rows} rows)."
    return f"{name}: differs from what was made again."


def _said_of_probabilities(found: Reproduction) -> str:
    bits = (
        "the same to the last bit"
        if found.probabilities_same
        else "not the same to the last bit as when it was made"
    )
    if found.probabilities is None:
        return f"probabilities: {bits}, by their hash; no file of them was written."
    name, largest = found.probabilities.name, found.largest_difference
    if found.probabilities_state == "missing":
        return f"{name}: the file is missing; by their hash the probabilities are {bits}."
    far = "" if largest is None else f"; the largest difference from the file is {largest:.2g}"
    if found.probabilities_state == "changed":
        return f"{name}: THE FILE WAS CHANGED since it was made; made again, they are {bits}{far}."
    return f"{name}: {bits}{far if not found.probabilities_same else ''}."
