"""What the training batches cost: a fit on them against a bare fit on arrays in memory.

python benchmarks/training_batches.py --data data --out training_batches.json
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from time import perf_counter

import click

from toolkit.machine import processor_name, usable_cores
from toolkit.processes import import_quietly


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="data")
@click.option("--recipes", default="improved", show_default=True)
@click.option("--backbone", default="xception", show_default=True)
@click.option("--photos", "count", default=256, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(
    data: Path,
    recipes: str,
    backbone: str,
    count: int,
    rounds: int,
    workers: int,
    out: Path | None,
) -> None:
    """Alternate both kinds of epoch on one compiled network and compare photos a second."""
    import_quietly("keras")
    import keras
    import numpy as np

    from toolkit.data.augmentor import Augmentor
    from toolkit.data.labelled import load_labelled
    from toolkit.data.pixels import load
    from toolkit.training.backend import jit_compile
    from toolkit.training.batches import TrainingBatches, one_hot
    from toolkit.training.model import build_model
    from toolkit.training.recipe_files import load_set

    recipe = load_set(recipes).recipe(backbone)
    dataset = load_labelled(data)
    chosen = dataset.photos[:: max(1, len(dataset.photos) // count)][:count]
    photos = np.stack([load(photo.path, recipe.square) for photo in chosen])
    stored = np.stack([load(photo.path, recipe.stored_square) for photo in chosen])
    labels = np.array([photo.label for photo in chosen])
    batches = TrainingBatches(
        stored,
        labels,
        np.arange(len(photos)),
        classes=len(dataset.classes),
        batch_size=recipe.batch_size,
        augmentor=Augmentor(recipe.augmentor, recipe.image_size),
        seed=0,
        epoch=0,
        workers=workers,
    )
    targets = one_hot(labels, len(dataset.classes))
    model = build_model(recipe, len(dataset.classes), pretrained=False)
    model.compile(keras.optimizers.Adamax(1e-3), recipe.loss, jit_compile=jit_compile())

    def rate(work: object) -> float:
        started = perf_counter()
        if work == "alone":
            for index in range(len(batches)):
                batches[index]
            batches.on_epoch_end()
        elif work == "fit on batches":
            model.fit(batches, verbose=0)
        else:
            model.fit(photos, targets, batch_size=recipe.batch_size, verbose=0)
        return len(photos) / (perf_counter() - started)

    sides = ("bare fit on arrays", "fit on batches", "alone")
    rate("bare fit on arrays"), rate("fit on batches")  # tracing
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            samples[side].append(rate(side))
    print(f"{backbone}, {recipe.image_size} px, batch {recipe.batch_size}, {workers} workers")
    for side, rates in samples.items():
        print(f"{side:<20} {statistics.median(rates):8.1f} photos/s (median of {rounds})")
    bare, ours = (statistics.median(samples[side]) for side in sides[:2])
    print(f"the batches leave {100 * ours / bare:.1f} % of the bare rate")
    if out:
        machine = f"{processor_name()}, {usable_cores()} cores"
        content = {
            "machine": machine,
            "recipe": f"{recipes}/{backbone}",
            "image_size": recipe.image_size,
            "photos": len(photos),
            "workers": workers,
            "photos_per_second": samples,
        }
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
