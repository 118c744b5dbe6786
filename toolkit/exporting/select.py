"""Which runs become the members of a bundle."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import RunError, UsageError, argument, nearest
from toolkit.exporting.bags import (
    FOLD_POLICIES,
    FoldPolicy,
    bag_name,
    best_fold,
    has_bags,
    whole_bags,
)
from toolkit.metrics import METRICS, Metric
from toolkit.progress import SILENT, Reporter
from toolkit.training.registry import BACKBONES
from toolkit.training.run import Run, finished_runs, load_run

TRAIN_FIRST = "Train with 'toolkit train-all'."


def choose_runs(
    runs: Path | str | Sequence[Run | Path | str],
    *,
    set_name: str | None = None,
    name: str | None = None,
    fold_policy: FoldPolicy = "all",
    metric: Metric = METRICS["log-loss"],
    reporter: Reporter = SILENT,
) -> list[Run]:
    """Choose the runs of a bundle.

    Args:
        runs: The folder of run folders, or the runs themselves: loaded, or their folders.
        set_name: Recipe set; None takes that of the run finished last.
        name: The runs trained with this `name`; None takes those with held-out photos.
        fold_policy: Of runs that were trained in folds: `all` folds, or the `best` fold alone.
        metric: What the best fold is chosen by.
        reporter: Where it is told which earlier runs are left out.

    Returns:
        The latest run of each backbone of the set, in the order of the registry, or all folds of
        the latest; or the given ones.

    Raises:
        UsageError: A folder is given twice, or a best fold is wanted where there are no folds.
        ToolkitError: There is none, a fold is missing, or they were trained on different data,
            splits or folds.
    """
    if not isinstance(runs, str | Path):
        if not runs:
            raise UsageError.of("runs", [], "Expected at least one run.")
        chosen = [run if isinstance(run, Run) else _given(Path(run)) for run in runs]
        _refuse_repeated([run.folder for run in chosen])
    else:
        finished = finished_runs(Path(runs))
        found = [run for run in finished if _is_wanted(run, set_name, name)]
        if not found:
            wanted = (f" of set '{set_name}'" if set_name else "") + (f" '{name}'" if name else "")
            meant = nearest(set_name or "", {run.recipe.set for run in finished} - {set_name})
            meant = meant or nearest(name or "", {_name(run) for run in finished} - {name, ""})
            raise RunError(f"{runs}: no finished run{wanted}. {meant or TRAIN_FIRST}")
        last_set = set_name or found[-1].recipe.set
        of_set = [run for run in found if run.recipe.set == last_set]
        latest = {run.recipe.backbone: run for run in of_set}
        # Runs that are trained at the same time finish in any order.
        chosen = [
            run
            for backbone in BACKBONES
            if backbone in latest
            for run in _with_its_folds(latest[backbone], of_set, name)
        ]
        for run in of_set:
            if run not in chosen:
                reporter.say(
                    f"left out: {run.folder}, because a later run has the same backbone (name all "
                    "that are to vote with `runs=[DIR, DIR]`)"
                )
    return _of_folds(
        chosen,
        fold_policy,
        metric,
        may_be_one=name is not None or not isinstance(runs, str | Path),
        reporter=reporter,
    )


def _with_its_folds(latest: Run, runs: Sequence[Run], name: str | None) -> list[Run]:
    """Return the runs of the same bag; the run alone where it is no fold or named for itself."""
    if latest.data.fold is None or (name is not None and _name(latest) == name):
        return [latest]
    return [run for run in runs if run.data.fold is not None and bag_name(run) == bag_name(latest)]


def _of_folds(
    runs: list[Run],
    policy: FoldPolicy,
    metric: Metric,
    *,
    may_be_one: bool,
    reporter: Reporter,
) -> list[Run]:
    """Apply the policy on folds; refuse runs that cannot be members of one bundle."""
    if policy not in FOLD_POLICIES:
        raise UsageError.of("fold_policy", policy, f"Expected {' or '.join(FOLD_POLICIES)}.")
    if not any(run.data.fold for run in runs):
        if policy == "best":
            raise UsageError.of("fold_policy", policy, "Expected with runs trained in folds.")
        _refuse_other_splits(runs)
        return runs
    all_of_folds = all(run.data.fold for run in runs)
    if policy == "all" and may_be_one and all_of_folds and not has_bags(runs):
        _refuse_other_splits(runs)
        return runs
    whole = whole_bags(runs)
    return best_fold(whole, metric, reporter) if policy == "best" else whole


def member_names(runs: Sequence[Run]) -> list[str]:
    """Name members after their run folders; where those are alike with the set, then numbered."""
    folders = Counter(run.folder.name for run in runs)
    names: list[str] = []
    for run in runs:
        alone = folders[run.folder.name] == 1
        name = run.folder.name if alone else run.label.replace("/", "-")
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        names.append(next(each for each in itertools.chain([name], numbered) if each not in names))
    return names


def _refuse_repeated(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise UsageError.of("runs", [str(folder)], "is named twice. Name each run folder once.")
        seen.add(folder.resolve())


def _given(folder: Path) -> Run:
    """Read a run that was named; a folder beside it may have been meant."""
    if not folder.exists():
        beside = {path.name for path in folder.parent.glob("[!.]*") if path.is_dir()}
        raise RunError(
            f"{argument('runs', [str(folder)])}: no such run folder. "
            f"{nearest(folder.name, beside)}".rstrip()
        )
    # What is typed as "." is called as the folder that it is.
    return load_run(folder if folder.name.strip(".") else folder.resolve())


def _name(run: Run) -> str:
    """Return the name that a run was trained with; empty without one."""
    return run.folder.name.removeprefix(run.recipe.backbone).removeprefix("-")


def _is_wanted(run: Run, set_name: str | None, name: str | None) -> bool:
    if set_name and run.recipe.set != set_name:
        return False
    if name:
        return name in (_name(run), run.name)
    return run.data.validation_photos > 0


def _refuse_other_splits(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        if run.data.split != first.data.split:
            raise RunError(
                f"{run.folder} and {first.folder} were trained on different data or splits: one "
                "would vote on photos that the other had learnt. Choose others with "
                "`runs=[DIR, DIR]`."
            )
