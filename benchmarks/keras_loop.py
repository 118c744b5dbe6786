"""The ensemble end to end against a plain loop over `keras_model.predict` on the same views.

    python benchmarks/keras_loop.py --runs runs --bundle bundle --data data --out keras_loop.json

Three sides, alternated in one run over the same photos and views:
  keras loop         for each member, for each view: decode every photo, make the view, predict
  keras, in memory   the same predictions on arrays prepared beforehand: inference alone
  toolkit            `Ensemble.predict`, from file to vote
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
@click.option("--runs", type=click.Path(path_type=Path, exists=True), default="runs")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), default="bundle")
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="data")
@click.option("--tta", default=4, show_default=True)
@click.option("--photos", "count", default=96, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(
    runs: Path,
    bundle: Path,
    data: Path,
    tta: int,
    count: int,
    rounds: int,
    batch: int,
    out: Path | None,
) -> None:
    """Measure photos a second, and check that both give the same labels."""
    import_quietly("keras")
    import keras
    import numpy as np

    from toolkit import Ensemble
    from toolkit.data.dataset import load_request
    from toolkit.data.pixels import load
    from toolkit.inference.views import VIEWS

    ensemble = Ensemble.load(bundle, tta=tta, batch=batch, voting="uniform", device="cpu")
    members = ensemble.bundle.members
    models = [keras.models.load_model(runs / m.run / "model.keras", compile=False) for m in members]
    paths = list(load_request(data).paths[:count])

    def seen(size: int, view: int) -> np.ndarray:
        return np.stack([VIEWS[view](load(path, size)) for path in paths])

    prepared = {
        (member.image_size, view): seen(member.image_size, view)
        for member in members
        for view in range(tta)
    }

    def looped(in_memory: bool) -> np.ndarray:
        mixed = 0
        for member, model in zip(members, models, strict=True):
            for view in range(tta):
                size = member.image_size
                images = prepared[size, view] if in_memory else seen(size, view)
                mixed = mixed + model.predict(images, batch_size=batch, verbose=0)
        return np.asarray(mixed) / (len(models) * tta)

    sides = {
        "keras loop": lambda: looped(in_memory=False),
        "keras, in memory": lambda: looped(in_memory=True),
        "toolkit": lambda: ensemble.predict(paths),
    }
    answers = {name: side() for name, side in sides.items()}  # warm-up and tracing
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            started = perf_counter()
            side()
            samples[name].append(len(paths) / (perf_counter() - started))
    ours = answers["toolkit"].argmax(axis=1)
    same = float((ours == answers["keras loop"].argmax(axis=1)).mean())
    print(f"{len(members)} members x {tta} views, {len(paths)} photos, batch {batch}")
    for name, rates in samples.items():
        print(f"{name:<18} {statistics.median(rates):7.2f} photos/s (median of {rounds})")
    ratio = statistics.median(samples["toolkit"]) / statistics.median(samples["keras loop"])
    print(
        f"toolkit is {ratio:.2f} times the keras loop; same label on {100 * same:.2f} % of photos"
    )
    if out:
        content = {
            "machine": f"{processor_name()}, {usable_cores()} cores",
            "provider": ensemble.provider,
            "members": {m.name: m.image_size for m in members},
            "views": tta,
            "photos": len(paths),
            "batch": batch,
            "photos_per_second": samples,
            "same_label": same,
        }
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
