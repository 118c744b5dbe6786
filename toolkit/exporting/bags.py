"""Runs of folds: which of them form a bag, and what they say of photos that they did not learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import RunError
from toolkit.inference.manifest import Voter, voters_of
from toolkit.metrics import Answers, Metric, have_order, measure
from toolkit.progress import SILENT, Reporter
from toolkit.training.recipe_files import shipped_twin
from toolkit.training.run import Fold, Run, Validation

FoldPolicy = Literal["all", "best"]
FOLD_POLICIES: tuple[FoldPolicy, ...] = ("all", "best")


def bag_name(run: Run) -> str:
    """Return the name of the bag that a run of a fold belongs to."""
    return f"{run.recipe.backbone}-{run.name}" if run.name else run.recipe.backbone


def bags_of(names: Sequence[str], runs: Sequence[Run]) -> tuple[str, ...]:
    """Return each network's bag; empty for all where none has more than one network.

    Args:
        names: Of the networks.
        runs: That they are exported from, bags side by side.
    """
    if not all(run.data.fold for run in runs):
        return ("",) * len(runs)
    keys = [(run.folder.parent.name, bag_name(run)) for run in runs]
    if all(count == 1 for count in Counter(keys).values()):
        return ("",) * len(runs)
    sets_by_name: dict[str, set[str]] = {}
    for set_name, bag in keys:
        sets_by_name.setdefault(bag, set()).add(set_name)
    bags = [bag if len(sets_by_name[bag]) == 1 else f"{set_name}-{bag}" for set_name, bag in keys]
    # A network votes as its bag, so no bag may be named like a network.
    return tuple(f"{bag}-bag" if bag in names else bag for bag in bags)


def has_bags(runs: Sequence[Run]) -> bool:
    """Return whether several of the runs are folds of one backbone."""
    return any(bags_of([run.folder.name for run in runs], runs))


def whole_bags(runs: Sequence[Run]) -> list[Run]:
    """Return runs of folds with those of a bag side by side, in the order of their folds.

    Args:
        runs: Those of each bag, in any order.

    Raises:
        RunError: A fold is missing or there twice, or the runs are not of the same folds of the
            same photos.
    """
    first = runs[0]
    for run in runs:
        if run.data.deal != first.data.deal:
            raise RunError(
                f"{run.folder} and {first.folder} were trained on different folds, photos or "
                "classes: one would vote on photos that the other had learnt. Choose others with "
                "`runs=[DIR, DIR]`.",
                path=run.folder,
            )
    keys = [(run.folder.parent.name, bag_name(run)) for run in runs]
    ordered: list[Run] = []
    for key in dict.fromkeys(keys):
        bag = [run for run, each in zip(runs, keys, strict=True) if each == key]
        _check_bag(bag)
        ordered += sorted(bag, key=lambda run: _fold(run).number)
    return ordered


def best_fold(runs: Sequence[Run], metric: Metric, reporter: Reporter = SILENT) -> list[Run]:
    """Return the runs of one fold: the one that is best in the mean over the backbones.

    One fold for all backbones, so that its held-out photos tell how much each should count.

    Args:
        runs: From `whole_bags`.
        metric: What is compared, on what each network's own fold held out.
        reporter: Receives the figures of all folds.

    Raises:
        RunError: The metric has no value on the photos of a fold.
    """
    by_fold: dict[int, list[float]] = {}
    for run in runs:
        by_fold.setdefault(_fold(run).number, []).append(_value(run, metric))
    means = {number: float(np.mean(values)) for number, values in sorted(by_fold.items())}
    choose = max if metric.larger_is_better else min
    best = choose(means, key=lambda number: means[number])
    figures = ", ".join(f"fold {number} {mean:.4f}" for number, mean in means.items())
    reporter.say(
        f"{metric.title} by fold: {figures}; fold {best} is exported, and its own figures flatter "
        "it, as it was chosen by them"
    )
    return [run for run in runs if _fold(run).number == best]


def held_out_by(runs: Sequence[Run]) -> Validation | None:
    """Return the photos that weights are found on, with what the first network or bag says of them.

    Returns:
        The held-out photos of all folds, one fold after another; without bags those of the runs.
        None where they trained on all photos.

    Raises:
        RunError: A bag held out other photos than another.
    """
    if not has_bags(runs):
        return runs[0].validation
    bags = voters(runs)
    first = _together([_validation(runs[index]) for index in bags[0].members])
    for bag in bags[1:]:
        other = _together([_validation(runs[index]) for index in bag.members])
        same = np.array_equal(first.ids, other.ids) and np.array_equal(first.labels, other.labels)
        if not same:
            folders = [runs[each.members[0]].folder for each in (bags[0], bag)]
            raise RunError(
                f"{folders[1]} and {folders[0]} did not hold out the same photos. Train one of "
                "them again with `fresh=True`.",
                path=folders[1],
            )
    return first


def out_of_fold(answers: Sequence[NDArray[np.float32]], runs: Sequence[Run]) -> NDArray[np.float32]:
    """Return what each voter says of the held-out photos, in the order of `held_out_by`.

    Args:
        answers: By network, shape (photos, views, classes): of the photos that it held out, and
            then of those outside all folds.
        runs: That the networks are of.

    Returns:
        Shape (voters, photos, views, classes).
    """
    own = [each[: run.data.validation_photos] for each, run in zip(answers, runs, strict=True)]
    return np.stack([np.concatenate([own[i] for i in each.members]) for each in voters(runs)])


def voters(runs: Sequence[Run]) -> tuple[Voter, ...]:
    """Return what has a vote: bags, or each run."""
    names = [str(number) for number in range(len(runs))]
    return voters_of(list(zip(names, bags_of(names, runs), strict=True)))


def _check_bag(bag: Sequence[Run]) -> None:
    first, count = bag[0], _fold(bag[0]).count
    folders: dict[int, Path] = {}
    for run in bag:
        number = _fold(run).number
        if number in folders:
            raise RunError(
                f"{run.folder} and {folders[number]} both hold out fold {number}. Name one of them "
                "with `runs=[DIR, DIR]`.",
                path=run.folder,
            )
        folders[number] = run.folder
        if run.recipe.settings != first.recipe.settings:
            raise RunError(
                f"{run.folder} and {first.folder} are folds of one backbone by different recipes. "
                "Train one of them again with `fresh=True`.",
                path=run.folder,
            )
    missing = [number for number in range(count) if number not in folders]
    if missing:
        words = ", ".join(str(number) for number in missing)
        raise RunError(
            f"{first.folder.parent / bag_name(first)}: missing of {count} folds: {words}. Train "
            f"with `{_training(first, missing)}`, copy the run folders here, or export one fold "
            f"with `name='{first.folder.name.removeprefix(first.recipe.backbone + '-')}'`.",
            path=first.folder.parent,
        )


def _training(run: Run, missing: Sequence[int]) -> str:
    """Return the call that trains what is missing."""
    recipe, fold = run.recipe, _fold(run)
    seed = run.identity.get("seed", recipe.seed)
    arguments: dict[str, object] = {
        "backbones": [recipe.backbone],
        "recipes": recipe.set if shipped_twin(recipe) else f"./{recipe.set}",
        "data": run.data.folder,
        "runs": str(run.folder.parent.parent),
        **({"name": run.name} if run.name else {}),
        **({"seed": seed} if seed != recipe.seed else {}),
        "split_seed": run.data.split_seed,
        "folds": fold.count,
        **({"holdout": fold.holdout} if fold.holdout else {}),
        "only_folds": tuple(missing),
    }
    return f"train({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _value(run: Run, metric: Metric) -> float:
    validation = _validation(run)
    ordered = have_order(run.data.classes)
    value = measure(
        metric, Answers.of(validation.probabilities, validation.labels, ordered=ordered)
    )
    if value is None:
        raise RunError(
            f"{run.folder}: its held-out photos give no {metric.title}. Choose another metric.",
            path=run.folder,
        )
    return value


def _together(parts: Sequence[Validation]) -> Validation:
    return Validation(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )


def _validation(run: Run) -> Validation:
    validation = run.validation
    assert validation is not None  # Each fold holds photos out.
    return validation


def _fold(run: Run) -> Fold:
    assert run.data.fold is not None
    return run.data.fold
