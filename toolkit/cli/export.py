"""`toolkit export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from toolkit.cli import complete, options
from toolkit.cli.terminal import (
    doubts,
    figure,
    measured,
    percent,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from toolkit.inference.bundle import Alternative, BestSingle, Bundle
    from toolkit.metrics import Metric
    from toolkit.progress import Reporter


@click.command("export")
@options.runs
@options.bundle
@click.option("--set", "set_name", metavar="NAME", help="Recipe set.  [default: trained last]")
@click.option(
    "--name",
    help="Take runs that were trained with this --name.  [default: the latest of each backbone]",
)
@click.option(
    "--member",
    "run_folders",
    type=options.FOLDER,
    multiple=True,
    help="A run folder to take instead; may be repeated.",
)
@click.option("--data", type=options.FOLDER, help="Data folder.  [default: the runs']")
@click.option(
    "--voting",
    default="auto",
    show_default=True,
    metavar="auto|uniform|accuracy|fitted|selected|NAME=W,...",
    shell_complete=complete.votings,
    help="Voting weights; auto lets the held-out photos decide.",
)
@options.metric(
    "log-loss",
    "What auto decides by: choose what your answers will be scored by. 'selected' "
    "weights are found for a metric of labels itself, 'fitted' ones for log-loss.",
)
@click.option(
    "--precision",
    "precisions",
    callback=options.listed,
    default="fp32",
    show_default=True,
    metavar="fp32,int8,bf16,fp16",
    shell_complete=complete.precisions,
    help="Lower precisions to try beside fp32, with commas between; those are kept that are "
    "faster here and keep the labels of the held-out photos.",
)
@click.option(
    "--fold-policy",
    type=click.Choice(["all", "best"]),
    default="all",
    show_default=True,
    help="Of runs that were trained with --folds: export all networks of a backbone, which vote "
    "together, or those of the best fold by --metric.",
)
@click.option(
    "--fused",
    type=options.FILE,
    metavar="FILE.onnx",
    help="Write the whole ensemble into one ONNX file as well.",
)
@click.option(
    "--fused-tta",
    type=click.IntRange(1, 8),
    default=4,
    show_default=True,
    help="Number of test-time-augmentation views in that file.",
)
@click.option("--fresh", is_flag=True, help="Replace a bundle that was made from something else.")
@options.as_json
@options.reporter
def command(
    runs: Path,
    bundle: Path,
    set_name: str | None,
    name: str | None,
    run_folders: tuple[Path, ...],
    data: Path | None,
    voting: str,
    metric: str,
    precisions: tuple[str, ...],
    fold_policy: Literal["all", "best"],
    fused: Path | None,
    fused_tta: int,
    fresh: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Export finished runs to ONNX files that were compared with Keras, and find voting weights."""
    from toolkit import export, fuse
    from toolkit.progress import counted

    if fused:
        from toolkit.exporting.fused import check_target

        check_target(fused, bundle)
    chosen = run_folders or runs
    made = export(
        chosen,
        bundle,
        set_name=set_name,
        name=name,
        data=data,
        voting=voting,
        metric=metric,
        precisions=precisions,
        fold_policy=fold_policy,
        fresh=fresh,
        reporter=reporter,
    )
    whole = None
    if fused:
        whole = fuse(made, fused, runs=chosen, data=data, tta=fused_tta, reporter=reporter)
    if as_json:
        figures = {"bundle": str(made.folder), "sha256": made.sha256, **_figures(made)}
        print_json(figures | ({"fused": {**asdict(whole), "file": str(fused)}} if whole else {}))
        return
    print_table(
        f"Members of {made.folder}",
        ["<member", "px", "accuracy", "log-loss", "logit error", "noise floor", "photos"],
        [
            (
                member.name,
                member.image_size,
                percent(member.score.accuracy if member.score else None),
                figure(member.score.log_loss if member.score else None),
                f"{member.parity.logit_error:.1e}" if member.parity else "-",
                f"{member.parity.noise_floor:.1e}" if member.parity else "-",
                member.parity.photos if member.parity else "-",
            )
            for member in made.members
        ],
        note="\n".join(
            [
                "logit error: the file's largest difference from Keras in float64, as a share of "
                "the largest logit; noise floor: that of Keras in float32.",
                *own_folds(made),
                *doubts(
                    {member.name: member.score.doubt for member in made.members if member.score}
                ),
            ]
        ),
    )
    if made.precisions:
        _print_precisions(made)
    print_voting(made, (1, 2, 4, 8))
    print_line(f"sha256 of the bundle: {made.sha256}")
    if whole:
        print_line(
            f"{whole.file}: {', '.join(whole.inputs)} -> probabilities; "
            f"{counted(len(whole.members), 'member')}, {counted(whole.views, 'view')}, voting "
            f"{whole.voting}; {whole.bytes / 1e6:.1f} MB; largest difference from the bundle on "
            f"{counted(whole.photos, 'photo')}: "
            f"{whole.largest_difference:.1e}"
        )


def print_voting(bundle: Bundle, views: tuple[int, ...]) -> None:
    """Print how the ways to vote compare, for some numbers of views, and why one was chosen."""
    from toolkit.metrics import METRICS
    from toolkit.progress import counted

    metric = METRICS[bundle.voting[views[0]].metric]
    judge = None if metric.name in ("accuracy", "log-loss") else metric
    rows: list[tuple[object, ...]] = []
    reasons: dict[str, list[str]] = {}
    alone = len(bundle.voters) == 1  # However its vote is weighed, it is the same.
    for count in views:
        table = bundle.voting[count]
        if table.best_single and not alone:
            best = table.best_single
            rows.append(_row(count, f"best alone: {best.name}", best, "", judge))
        for name, alternative in table.alternatives.items():
            if alone and name != table.choice:
                continue
            weights = described_weights(bundle, alternative.weights)
            chosen = f"{name} *" if name == table.choice and not alone else name
            rows.append(_row(count, chosen, alternative, weights, judge))
        reasons.setdefault(table.reason, []).append(counted(count, "view"))
    lines = [f"  {' and '.join(counts)}: {reason}" for reason, counts in reasons.items()]
    print_table(
        f"Voting on {judged_on(bundle)}, cross-fitted",
        [
            *("views", "<voting", "accuracy", "log-loss"),
            *([judge.title] if judge else []),
            "<weights",
        ],
        rows,
        note="\n".join(
            [
                "Log-losses are after the fitted temperature; a member's own above is before it.",
                *fold_notes(bundle),
                *([] if alone else ["* chosen:", *lines]),
            ]
        ),
    )
    print_line("")


def described_weights(bundle: Bundle, weights: Sequence[float]) -> str:
    """Return the members or bags that have a vote, each with its weight."""
    return ", ".join(
        f"{voter.name} {weight:.2f}"
        + (f" ({len(voter.members)} networks)" if len(voter.members) > 1 else "")
        for voter, weight in zip(bundle.voters, bundle.by_voter(weights), strict=True)
        if weight
    )


def judged_on(bundle: Bundle) -> str:
    """Return which photos the voting was judged on, and by whom."""
    return "out-of-fold predictions" if bundle.has_bags else "the held-out photos"


def own_folds(bundle: Bundle) -> list[str]:
    """Return what the figures of single networks of bags are of."""
    if not bundle.has_bags:
        return []
    return ["Accuracy and log-loss of each network are of the photos that its own fold held out."]


def fold_notes(bundle: Bundle) -> list[str]:
    """Return what figures of networks that were trained in folds do not tell."""
    from toolkit.inference.manifest import OUT_OF_FOLD

    if bundle.has_bags:
        return [OUT_OF_FOLD]
    folds = sorted({member.fold for member in bundle.members if member.fold is not None})
    if not folds:
        return []
    note = f"Figures are of the photos that fold {folds[0]} held out"
    if bundle.fold_policy == "best":
        note += ", which was chosen because they are the best of all folds: others will be lower"
    return [f"{note}."]


def _print_precisions(bundle: Bundle) -> None:
    print_table(
        "Lower precisions, on the held-out photos",
        [
            "<member",
            "<precision",
            "<runtime",
            "<how",
            "agreement",
            "difference",
            "ms",
            "fp32 ms",
            "<accepted",
        ],
        [
            (
                trial.member,
                trial.precision,
                trial.runtime,
                trial.figures.how,
                percent(trial.figures.agreement),
                figure(trial.figures.largest_difference),
                figure(trial.figures.ms, 2),
                figure(trial.figures.fp32_ms, 2),
                "yes" if trial.accepted else f"no: {trial.reason}",
            )
            for trial in bundle.precisions
        ],
        note="agreement: labels that fp32 gives too; difference: the largest of a probability; "
        "ms: an image on this machine in full runs, as a plan has them, in turn with fp32.",
    )


def _row(
    views: int, name: str, figures: Alternative | BestSingle, weights: str, judge: Metric | None
) -> tuple[object, ...]:
    means = percent(figures.accuracy), figure(figures.log_loss)
    return views, name, *means, *([measured(judge, figures.value)] if judge else []), weights


def _figures(bundle: Bundle) -> dict[str, Any]:
    content = asdict(bundle)
    return {key: content[key] for key in ("members", "precisions", "voting")}
