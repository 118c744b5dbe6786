"""What an export takes in memory and time: tf2onnx's own way, and ours.

python benchmarks/export_memory.py --out export_memory.json
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import numpy as np

from toolkit.machine import package_versions, peak_memory_bytes, processor_name, usable_cores
from toolkit.processes import import_quietly, in_own_process
from toolkit.training.recipe_files import load_set

CLASSES, PHOTOS = 10, 64
SETTINGS = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
WAYS = {
    "before": "tf2onnx.convert.from_keras(model)",
    "after": "toolkit: the conversion",
    "export": "toolkit: the conversion, and the comparison with Keras on photos",
}


@dataclass(frozen=True)
class Sample:
    """One process.

    Attributes:
        backbone: The network.
        image_size: Side in pixels.
        way: A key of `WAYS`.
        peak_bytes: `VmHWM` of the process at its end.
        seconds: From the loaded libraries to the written file.
        nodes: Of the ONNX graph.
    """

    backbone: str
    image_size: int
    way: str
    peak_bytes: int
    seconds: float
    nodes: int


@click.command()
@click.option("--recipes", default="improved", show_default=True)
@click.option("--size", "sizes", type=int, multiple=True, default=(150, 240), show_default=True)
@click.option("--only", multiple=True, help="Only this backbone; may be repeated.")
@click.option("--way", "ways", type=click.Choice(list(WAYS)), multiple=True, default=list(WAYS))
@click.option("--out", type=click.Path(path_type=Path))
def main(
    recipes: str,
    sizes: tuple[int, ...],
    only: tuple[str, ...],
    ways: tuple[str, ...],
    out: Path | None,
) -> None:
    """Convert each backbone, with random weights, in a process for each way."""
    samples = []
    print(f"{'backbone':<16}{'px':>4}  {'way':<8}{'peak GiB':>9}{'seconds':>9}{'nodes':>7}")
    for backbone in only or load_set(recipes).recipes:
        for size in sizes:
            with TemporaryDirectory() as folder:
                model = Path(folder) / "model.keras"
                in_own_process(_build, recipes, backbone, size, model, environment=SETTINGS)
                for way in ways:
                    sample = in_own_process(
                        _convert, backbone, size, way, model, environment=SETTINGS
                    )
                    samples.append(sample)
                    print(
                        f"{backbone:<16}{size:>4}  {way:<8}{sample.peak_bytes / 2**30:9.2f}"
                        f"{sample.seconds:9.1f}{sample.nodes:7}",
                        flush=True,
                    )
    if out:
        content = {
            "machine": f"{processor_name()}, {usable_cores()} cores",
            "versions": package_versions(("tensorflow", "keras", "tf2onnx", "onnx", "numpy")),
            "ways": WAYS,
            "samples": [asdict(sample) for sample in samples],
        }
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _build(recipes: str, backbone: str, size: int, target: Path) -> None:
    import_quietly("keras")
    from toolkit.training.model import build_model

    recipe = load_set(recipes).recipe(backbone).model_copy(update={"image_size": size})
    build_model(recipe, CLASSES, pretrained=False).save(target)


def _convert(backbone: str, size: int, way: str, model: Path) -> Sample:
    import_quietly("keras")
    import keras
    import onnx
    import tensorflow as tf
    import tf2onnx

    from toolkit.exporting import convert

    target = model.with_name(f"{way}.onnx")
    started = perf_counter()
    if way == "before":
        network = keras.models.load_model(model, compile=False)
        signature = [tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")]
        exported, _ = tf2onnx.convert.from_keras(
            network, input_signature=signature, opset=convert.OPSET
        )
        onnx.checker.check_model(exported, full_check=True)
        onnx.save(exported, target)
    elif way == "after":
        network = keras.models.load_model(model, compile=False)
        onnx.save(convert.to_onnx(network, {}), target)
    else:
        photos = model.with_name("photos.npy")
        coarse = np.random.default_rng(0).integers(0, 256, (PHOTOS, 5, 5, 3), dtype=np.uint8)
        np.save(photos, np.kron(coarse, np.ones((1, size // 5, size // 5, 1), dtype=np.uint8)))
        names = [f"photo {number}" for number in range(PHOTOS)]
        convert.convert(model, target, {}, photos, list(range(PHOTOS)), names)
    seconds = perf_counter() - started
    peak = peak_memory_bytes() or 0
    return Sample(backbone, size, way, peak, seconds, len(onnx.load(target).graph.node))


if __name__ == "__main__":
    main()
