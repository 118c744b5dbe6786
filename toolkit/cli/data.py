"""`toolkit data`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.terminal import print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.data.overview import Overview
    from toolkit.data.reading import Reading
    from toolkit.progress import Reporter

SHOWN = 10


@click.command("data")
@options.data
@options.reading("labels", "id_column", "label_column", "photos", "sample", "group_column")
@click.option("--pictures", type=options.FOLDER, help="Draw class histogram and samples there.")
@options.as_json
@options.reporter
def command(
    data: Path, reading: Reading, pictures: Path | None, as_json: bool, reporter: Reporter
) -> None:
    """Show what was found, classes, sizes, broken photos, duplicates and train/test overlap."""
    from toolkit.data.overview import overview

    found = overview(data, reading, reporter)
    for warning in found.found.warnings:
        reporter.warn(warning)
    if pictures:
        from toolkit.reporting.sheets import draw_overview

        draw_overview(found, pictures, reporter)
    if as_json:
        print_json(_as_json(found))
        return
    print_table(f"{data}: what was found", ["<what", "<where and how"], found.found.rows)
    _print_list("passed over", found.found.passed_over)
    print_line("")
    names = found.dataset.names
    print_table(
        f"{data}: {len(found.dataset.photos)} labelled photos, "
        f"{len(found.request.ids) if found.request else 0} to predict",
        ["<class", "<name", "photos", "share"],
        [
            (name, names.get(name, ""), count, f"{100 * count / len(found.dataset.photos):.1f} %")
            for name, count in found.counts.items()
        ],
    )
    sizes = _sizes(found)
    if sizes:
        print_line(
            f"sizes: {sizes['smallest']} to {sizes['largest']} pixels, median {sizes['median']}"
        )
    for kind, scale in found.ranges.items():
        count = sum(fact.kind == kind for fact in found.facts)
        print_line(f"{kind}: {count}, values from {scale.low:g} to {scale.high:g} become 0 to 255")
    _print_list("broken photos", [f"{path}: {reason}" for path, reason in found.broken])
    if found.notes:
        _print_list("warnings of the decoder", [f"{path}: {note}" for path, note in found.notes])
    _print_list("groups of near-duplicates", [_joined(group) for group in found.duplicates])
    _print_list("of them with different labels", [_joined(group) for group in found.conflicts])
    _print_list("near-duplicates between train and test", [_joined(pair) for pair in found.overlap])


def _print_list(title: str, lines: Sequence[object]) -> None:
    print_line(f"{title}: {len(lines)}")
    for line in lines[:SHOWN]:
        print_line(f"  {line}")
    if len(lines) > SHOWN:
        print_line(f"  ... and {len(lines) - SHOWN} more (--json lists all)")


def _joined(paths: Any) -> str:
    return "  ~  ".join(str(path) for path in paths)


def _sizes(found: Overview) -> dict[str, str]:
    sizes = sorted((f.width * f.height, f.width, f.height) for f in found.facts if not f.broken)
    if not sizes:
        return {}
    chosen = {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]}
    return {name: f"{width} x {height}" for name, (_, width, height) in chosen.items()}


def _as_json(found: Overview) -> dict[str, Any]:
    return {
        "photos": len(found.dataset.photos),
        "to_predict": len(found.request.ids) if found.request else 0,
        "classes": found.counts,
        "names": found.dataset.names,
        "sizes": _sizes(found),
        "ranges": {kind: [scale.low, scale.high] for kind, scale in found.ranges.items()},
        "broken": {str(path): reason for path, reason in found.broken},
        "notes": [{"photo": str(path), "note": note} for path, note in found.notes],
        "duplicates": [[str(path) for path in group] for group in found.duplicates],
        "conflicts": [[str(path) for path in group] for group in found.conflicts],
        "overlap": [[str(path) for path in pair] for pair in found.overlap],
        "found": dict(found.found.rows),
        "passed_over": list(found.found.passed_over),
        "warnings": list(found.found.warnings),
    }
