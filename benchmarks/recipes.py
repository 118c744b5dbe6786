"""What each ingredient of a recipe is worth: variants of `improved` at equal photo passes.

    python benchmarks/recipes.py --data data --weights WEIGHTS --out recipes.json
    python benchmarks/recipes.py --report --out recipes.json      # from the runs that are finished

The split is one and the same, the training seed varies. All variants of a seed come before the next
seed, so that a stop leaves even evidence; what is finished is not trained again. An epoch of the
head alone counts as a pass like any other. Nobody stops early.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from toolkit.machine import processor_name, usable_cores
from toolkit.metrics import Score, log_losses
from toolkit.progress import Reporter
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import RecipeSet, load_set
from toolkit.training.run import MANIFEST, Run, load_run
from toolkit.training.train import TrainingOptions, run_folder, train

COSINE = {"exponential_decay": None, "warmup_cosine": {"warmup_fraction": 0.1, "floor": 0.01}}
MIXING = {"label_smoothing": 0.1, "mixup": {"alpha": 0.2}}
EMA = {"ema": {"momentum": 0.98, "stages": ["all"]}}

OWN = {"pixels": "own"}

VARIANTS: dict[str, dict[str, Any]] = {
    "improved": {},
    "base": OWN,
    "base+cosine": {**OWN, **COSINE},
    "base+mixing": {**OWN, **MIXING},
    "base+ema": {**OWN, **EMA},
    "base+smoothing": {**OWN, "label_smoothing": 0.1},
    "base+cutmix": {**OWN, "label_smoothing": 0.1, "cutmix": {"alpha": 1.0}},
    "base+cosine+mixing": {**OWN, **COSINE, **MIXING},
    "base+cosine+ema": {**OWN, **COSINE, **EMA},
    "base+mixing+ema": {**OWN, **MIXING, **EMA},
    "base+all": {**OWN, **COSINE, **MIXING, **EMA},
    "own": OWN,
    "own+rate": {**OWN, "optimizer": {"name": "Adamax", "learning_rate": 2e-3}},
    "own+ema": {**OWN, **EMA},
    "own+average": {**OWN, "pooling": "average"},
    "own+average+ema": {**OWN, "pooling": "average", **EMA},
    "average+ema": {"pooling": "average", **EMA},
}
"""What each changes in `improved`. `own` is the network's own pixel scaling; `base` trains the head
first too, in one of the passes."""

HELD_TO = ("improved", "base", "own")

DRAWS = 10_000


def variant(name: str, backbone: str, size: int, passes: int) -> Recipe:
    """Return the recipe of a variant: `improved` with its changes, at a size and passes."""
    recipe = load_set("improved").recipe(backbone).model_dump(mode="json")
    changes = dict(VARIANTS[name])
    recipe["head"]["pooling"] = changes.pop("pooling", recipe["head"]["pooling"])
    head = {"name": "head", "epochs": 1, "frozen_fraction": 1}
    rest = {"name": "all", "epochs": passes - 1, "frozen_fraction": 0}
    alone = {"name": "all", "epochs": passes, "frozen_fraction": 0}
    return Recipe.model_validate(
        {
            **recipe,
            **changes,
            "set": name,
            "image_size": size,
            "early_stopping": None,
            "published_accuracy": None,
            "stages": [head, rest] if name.startswith("base") else [alone],
        }
    )


def compared(
    ours: Sequence[Run], theirs: Sequence[Run], figure: str
) -> dict[str, float | list[float]]:
    """Return the mean difference of a figure over photos and seeds, with its 95 % interval.

    Groups of near-duplicate photos and pairs of runs of one seed are drawn with replacement
    (bootstrap, percentiles): the interval holds the luck of the photos and, as far as so few seeds
    tell, of training.

    Args:
        ours: Runs of a variant, one a seed.
        theirs: Runs of another, of the same seeds on the same split.
        figure: "accuracy" or "log_loss".
    """
    differences = np.stack(
        [_by_photo(one, figure) - _by_photo(other, figure) for one, other in zip(ours, theirs)]  # noqa: B905
    )
    groups = np.unique(_validation(ours[0]).groups, return_inverse=True)[1]
    weights = np.bincount(groups)
    sums = np.stack([np.bincount(groups, weights=row) for row in differences])
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        seeds = generator.integers(0, len(sums), len(sums))
        chosen = generator.integers(0, len(weights), len(weights))
        drawn.append(sums[seeds][:, chosen].sum() / (weights[chosen].sum() * len(sums)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"difference": float(differences.mean()), "interval": [float(low), float(high)]}


def _by_photo(run: Run, figure: str) -> NDArray[np.float64]:
    seen = _validation(run)
    if figure == "log_loss":
        losses: NDArray[np.float64] = log_losses(seen.probabilities, seen.labels)
        return losses
    right: NDArray[np.float64] = (seen.probabilities.argmax(axis=1) == seen.labels).astype(float)
    return right


def _validation(run: Run) -> Any:
    if run.validation is None:
        raise click.ClickException(f"{run.folder}: has no validation photos.")
    return run.validation


def score_of(run: Run) -> Score:
    """Return a run's figures on its held-out photos, which it must have."""
    if run.score is None:
        raise click.ClickException(f"{run.folder}: has no validation photos.")
    return run.score


def summary(name: str, runs: dict[int, Run], others: dict[str, dict[int, Run]]) -> dict[str, Any]:
    """Return a variant's figures: every run, mean and spread, and against those it is held to."""
    last = [run.history[-1] for run in runs.values()]
    content: dict[str, Any] = {
        "runs": {
            str(seed): {
                "accuracy": score_of(run).accuracy,
                "log_loss": score_of(run).log_loss,
                "best_epoch": run.best_epoch,
                "seconds": run.seconds,
                "history": run.history,
            }
            for seed, run in runs.items()
        },
        "accuracy": _mean_and_spread([score_of(run).accuracy for run in runs.values()]),
        "log_loss": _mean_and_spread([score_of(run).log_loss or 0.0 for run in runs.values()]),
        "last_accuracy": _mean_and_spread([row["val_accuracy"] for row in last]),
        "last_log_loss": _mean_and_spread([row["val_loss"] for row in last]),
        "recipe": next(iter(runs.values())).recipe.model_dump(mode="json", exclude={"augmentor"}),
        "against": {},
    }
    for other in HELD_TO:
        seeds = sorted(runs.keys() & others.get(other, {}).keys())
        if other != name and seeds:
            pairs = [runs[seed] for seed in seeds], [others[other][seed] for seed in seeds]
            content["against"][other] = {
                "seeds": seeds,
                **{figure: compared(*pairs, figure) for figure in ("accuracy", "log_loss")},
            }
    return content


def _mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "deviation": deviation}


def print_report(summaries: dict[str, dict[str, Any]]) -> None:
    """Print two tables: what each variant reached, and what it is worth."""
    print(
        f"{'variant':<20}{'n':>3}  {'accuracy, %, by seed':<24}{'mean':>6}{'sd':>6}"
        f"{'last epoch':>12}{'log-loss':>10}{'sd':>7}{'last':>8}{'s':>6}"
    )
    for name, one in summaries.items():
        runs = one["runs"]
        seeds = " ".join(f"{100 * runs[seed]['accuracy']:6.2f}" for seed in runs)
        seconds = np.mean([runs[seed]["seconds"] for seed in runs])
        print(
            f"{name:<20}{len(runs):>3}  {seeds:<24}{_figure(one['accuracy'], 100, 2, 6)}"
            f"{100 * one['last_accuracy']['mean']:>12.2f}{_figure(one['log_loss'], 1, 3, 10)}"
            f"{one['last_log_loss']['mean']:>8.3f}{seconds:>6.0f}"
        )
    for other in HELD_TO:
        print(f"\nless {other:<17}{'accuracy, points':>18}{'95 %':>18}{'log-loss':>11}{'95 %':>20}")
        for name, one in summaries.items():
            if other in one["against"]:
                accuracy, loss = (one["against"][other][key] for key in ("accuracy", "log_loss"))
                print(
                    f"{name:<22}{100 * accuracy['difference']:>+18.2f}"
                    f"{100 * accuracy['interval'][0]:>+10.2f} .. "
                    f"{100 * accuracy['interval'][1]:>+5.2f}{loss['difference']:>+11.3f}"
                    f"{loss['interval'][0]:>+11.3f} .. {loss['interval'][1]:>+6.3f}"
                )


def _figure(one: dict[str, float | None], factor: int, digits: int, width: int) -> str:
    mean, deviation = one["mean"], one["deviation"]
    assert mean is not None
    spread = "-" if deviation is None else f"{factor * deviation:.{digits}f}"
    return f"{factor * mean:>{width}.{digits}f}{spread:>{6 if factor > 1 else 7}}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default="data")
@click.option("--weights", default="imagenet", show_default=True, help="As --pretrained.")
@click.option("--runs", type=click.Path(path_type=Path), default="runs-of-recipes")
@click.option("--backbone", default="xception", show_default=True)
@click.option("--variants", default="improved,base,base+cosine,base+mixing,base+ema")
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--size", default=80, show_default=True)
@click.option("--passes", default=6, show_default=True)
@click.option("--report", is_flag=True, help="Train nothing.")
@click.option("--out", type=click.Path(path_type=Path))
def main(
    data: Path,
    weights: str,
    runs: Path,
    backbone: str,
    variants: str,
    seeds: str,
    size: int,
    passes: int,
    report: bool,
    out: Path | None,
) -> None:
    """Train the variants that are not finished, then report all that are."""
    if not report:
        options = TrainingOptions(data=data, runs=runs, pretrained=weights)
        for seed in seeds.split(","):
            for name in variants.split(","):
                recipes = {backbone: variant(name, backbone, size, passes)}
                train(
                    RecipeSet(name, "", recipes),
                    [backbone],
                    replace(options, seed=int(seed), name=seed),
                    Reporter(quiet=False),
                )
    found = _finished(runs, backbone, size, passes)
    summaries = {name: summary(name, one, found) for name, one in found.items()}
    print_report(summaries)
    if out and found:
        seen = asdict(next(iter(found["improved"].values())).data)
        content = {
            "machine": f"{processor_name()}, {usable_cores()} cores, shared with other work",
            "backbone": backbone,
            "image_size": size,
            "passes": passes,
            "data": {key: value for key, value in seen.items() if key != "folder"},
            "bootstrap_draws": DRAWS,
            "variants": summaries,
        }
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _finished(runs: Path, backbone: str, size: int, passes: int) -> dict[str, dict[int, Run]]:
    found: dict[str, dict[int, Run]] = {}
    for name in VARIANTS:
        if not (runs / name).is_dir():
            continue
        recipe = variant(name, backbone, size, passes)
        folders = runs.glob(f"{run_folder(Path(), recipe, None)}-*")
        for folder in sorted(one for one in folders if (one / MANIFEST).is_file()):
            run = load_run(folder)
            if (run.recipe.image_size, run.recipe.epochs) == (size, passes):
                found.setdefault(name, {})[int(folder.name.rpartition("-")[2])] = run
    return found


if __name__ == "__main__":
    main()
