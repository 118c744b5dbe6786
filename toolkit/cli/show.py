"""`toolkit show`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.export import described_weights, fold_notes, judged_on, own_folds
from toolkit.cli.terminal import doubts, figure, percent, print_json, print_line, print_table
from toolkit.cli.train import figures, print_runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolkit.inference.bundle import Bundle, Member
    from toolkit.training.run import Run

SHORT_HASH = 12


@click.command("show")
@click.argument("folder", type=options.FOLDER, default="bundle")
@options.as_json
def command(folder: Path, as_json: bool) -> None:
    """Show what FOLDER holds: a bundle, a folder of runs, or one run.

    Of a bundle: members with their sizes, precisions and evidence, voting weights, classes, hashes.
    No network is loaded or hashed; 'toolkit ensemble' refuses a file that was changed.
    """
    from toolkit.errors import ToolkitError
    from toolkit.inference.bundle import MANIFEST as BUNDLE
    from toolkit.inference.bundle import load_bundle
    from toolkit.training.run import MANIFEST as RUN
    from toolkit.training.run import finished_runs, load_run, unfinished_runs

    if (folder / BUNDLE).is_file():
        _show_bundle(load_bundle(folder), as_json)
        return
    if (folder / RUN).is_file():
        _show_runs(folder, [load_run(folder)], {}, as_json)
        return
    finished, unfinished = finished_runs(folder), unfinished_runs(folder)
    if not finished and not unfinished:
        raise ToolkitError(
            f"{folder}: Expected a bundle, a folder of runs or a run. 'toolkit train-all' makes "
            "runs, 'toolkit export' a bundle."
        )
    _show_runs(folder, finished, unfinished, as_json)


def _show_runs(
    folder: Path, finished: list[Run], unfinished: dict[Path, int], as_json: bool
) -> None:
    from toolkit.progress import counted

    if as_json:
        print_json(
            {
                "folder": str(folder),
                "runs": [{"run": str(run.folder), **figures(run)} for run in finished],
                "unfinished": {str(path): epochs for path, epochs in unfinished.items()},
            }
        )
        return
    if finished:
        print_runs(f"Runs of {folder}", finished)
    for path, epochs in unfinished.items():
        print_line(f"not finished: {path}, after {counted(epochs, 'epoch')}")


def _show_bundle(bundle: Bundle, as_json: bool) -> None:
    from toolkit.progress import counted

    if as_json:
        print_json(_figures(bundle))
        return
    print_table(
        f"{bundle.folder}: {counted(len(bundle.members), 'member')}, exported {bundle.created}",
        [
            "<member",
            "<from",
            "px",
            "MB",
            "accuracy",
            "log-loss",
            "logit error",
            "noise floor",
            "<sha256",
        ],
        [
            (
                member.name,
                member.run,
                member.image_size,
                figure(_bytes(bundle, [member.file]) / 1e6, 1),
                percent(member.score.accuracy if member.score else None),
                figure(member.score.log_loss if member.score else None),
                f"{member.parity.logit_error:.1e}" if member.parity else "-",
                f"{member.parity.noise_floor:.1e}" if member.parity else "-",
                member.sha256[:SHORT_HASH],
            )
            for member in bundle.members
        ],
        note="\n".join(
            [
                "Accuracy on held-out photos; logit error: the file's largest difference from "
                "Keras in float64, as a share of the largest logit; noise floor: that of Keras in "
                "float32.",
                *own_folds(bundle),
                *doubts(
                    {member.name: member.score.doubt for member in bundle.members if member.score}
                ),
            ]
        ),
    )
    _print_variants(bundle)
    print_table(
        f"Voting that was chosen by {bundle.voting[1].metric}, cross-fitted on {judged_on(bundle)}",
        ["views", "<voting", "accuracy", "log-loss", "<weights"],
        [
            (
                views,
                table.choice,
                percent(chosen.accuracy),
                figure(chosen.log_loss),
                described_weights(bundle, chosen.weights),
            )
            for views, table in bundle.voting.items()
            for chosen in [table.alternatives[table.choice]]
        ],
        note="\n".join(fold_notes(bundle)),
    )
    named = [f"{key} {bundle.names[key]}" if key in bundle.names else key for key in bundle.classes]
    print_line(f"{len(named)} classes: {', '.join(named)}")
    print_line(f"made with {', '.join(f'{name} {v}' for name, v in bundle.versions.items())}")
    print_line(f"sha256 of the bundle: {bundle.sha256}")


def _print_variants(bundle: Bundle) -> None:
    rows = [
        (
            member.name,
            variant.precision,
            variant.runtime,
            figure(_bytes(bundle, variant.files) / 1e6, 1) if variant.files else "-",
            percent(variant.figures.agreement),
            figure(variant.figures.ms, 2),
            figure(variant.figures.fp32_ms, 2),
        )
        for member in bundle.members
        for variant in member.variants
    ]
    if rows:
        print_table(
            "Lower precisions that were accepted",
            ["<member", "<precision", "<runtime", "MB", "agreement", "ms", "fp32 ms"],
            rows,
            note="agreement: labels that fp32 gives too, on held-out photos; ms: an image on the "
            "machine of the export.",
        )


def _figures(bundle: Bundle) -> dict[str, Any]:
    content = asdict(bundle)
    del content["precisions"]  # Those that were accepted stand with their members.
    del content["data"]["trained_on"]  # For the toolkit only, and long.
    return {
        **content,
        "folder": str(bundle.folder),
        "sha256": bundle.sha256,
        "members": [_member(bundle, member) for member in bundle.members],
    }


def _member(bundle: Bundle, member: Member) -> dict[str, Any]:
    content = asdict(member)
    content["bytes"] = _bytes(bundle, [member.file])
    for variant in content["variants"]:
        variant["bytes"] = _bytes(bundle, variant["files"])
    return content


def _bytes(bundle: Bundle, files: Iterable[str]) -> int:
    paths = [bundle.folder / name for name in files]
    return sum(path.stat().st_size for path in paths if path.is_file())
