"""What a training takes in memory: a bare Keras fit of a network, and a run of it.

python benchmarks/training_memory.py --out training_memory.json
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import numpy as np
from PIL import Image

from toolkit.machine import package_versions, peak_memory_bytes, processor_name, usable_cores
from toolkit.processes import import_quietly, in_own_process
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import RecipeSet, load_set
from toolkit.training.train import TrainingOptions, train

EPOCHS, CLASSES, PHOTOS_A_CLASS = 2, 10, 10
SETTINGS = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True)
class Sample:
    """One process.

    Attributes:
        backbone: The network.
        image_size: Side in pixels.
        batch_size: Photos a batch.
        way: "bare" or "toolkit".
        peak_bytes: `VmHWM` of the process at its end.
        seconds: Of the whole process.
    """

    backbone: str
    image_size: int
    batch_size: int
    way: str
    peak_bytes: int
    seconds: float


@click.command()
@click.option("--recipes", default="improved", show_default=True)
@click.option("--size", default=150, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--only", multiple=True, help="Only this backbone; may be repeated.")
@click.option(
    "--way",
    "ways",
    type=click.Choice(["bare", "toolkit"]),
    multiple=True,
    default=["bare", "toolkit"],
)
@click.option("--out", type=click.Path(path_type=Path))
def main(
    recipes: str,
    size: int,
    batch: int,
    only: tuple[str, ...],
    ways: tuple[str, ...],
    out: Path | None,
) -> None:
    """Train each backbone for two short epochs in both ways, on equally many photos."""
    samples: list[Sample] = []
    print(f"{'backbone':<16}{'px':>4}{'batch':>6}  {'way':<8}{'peak GiB':>9}{'seconds':>9}")
    for backbone in only or load_set(recipes).recipes:
        recipe = load_set(recipes).recipe(backbone)
        stages = tuple(stage.model_copy(update={"epochs": EPOCHS}) for stage in recipe.stages[:1])
        changes = {"image_size": size, "batch_size": batch, "stages": stages}
        changed = recipe.model_copy(update=changes)
        for way in ways:
            started = perf_counter()
            with TemporaryDirectory() as folder:
                peak = _bare(changed) if way == "bare" else _ours(changed, Path(folder))
            sample = Sample(backbone, size, batch, way, peak, perf_counter() - started)
            samples.append(sample)
            print(
                f"{backbone:<16}{size:>4}{batch:>6}  {way:<8}{peak / 2**30:9.2f}"
                f"{sample.seconds:9.1f}",
                flush=True,
            )
    if out:
        content = {
            "machine": f"{processor_name()}, {usable_cores()} cores",
            "versions": package_versions(("tensorflow", "keras", "numpy")),
            "samples": [asdict(sample) for sample in samples],
        }
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _bare(recipe: Recipe) -> int:
    return in_own_process(_fit_bare, recipe, environment=SETTINGS)


def _fit_bare(recipe: Recipe) -> int:
    import_quietly("keras")
    import keras

    from toolkit.training.backend import jit_compile
    from toolkit.training.model import build_model

    count, size = PHOTOS_A_CLASS * CLASSES, recipe.image_size
    photos = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(count) % CLASSES]
    held_out = count // 5
    model = build_model(recipe, CLASSES, pretrained=False)
    model.compile(
        keras.optimizers.Adamax(1e-3), recipe.loss, metrics=["accuracy"], jit_compile=jit_compile()
    )
    model.fit(
        photos[held_out:],
        targets[held_out:],
        batch_size=recipe.batch_size,
        epochs=EPOCHS,
        validation_data=(photos[:held_out], targets[:held_out]),
        verbose=0,
    )
    return peak_memory_bytes() or 0


def _ours(recipe: Recipe, folder: Path) -> int:
    _draw(folder / "data")
    recipes = RecipeSet("memory", "", {recipe.backbone: recipe})
    options = TrainingOptions(data=folder / "data", runs=folder / "runs", pretrained="none")
    [run] = train(recipes, [recipe.backbone], options)
    return run.peak_memory_bytes or 0


def _draw(data: Path) -> None:
    generator = np.random.default_rng(0)
    for category in range(CLASSES):
        (data / str(category)).mkdir(parents=True)
        for number in range(PHOTOS_A_CLASS):
            coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            photo = Image.fromarray(coarse).resize((200, 150), Image.Resampling.BICUBIC)
            photo.save(data / str(category) / f"{number}.jpg")


if __name__ == "__main__":
    main()
