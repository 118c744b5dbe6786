"""Whether parity passes faithful files and refuses wrong ones, as other processors would round.

    python benchmarks/parity.py --work work --out benchmarks/results/parity/parity.json

Four backbones and a small network with eight kinds of weights are converted once. Each file is then
judged under four settings of TensorFlow's processor library, each in a process of its own, with
onnxruntime on one and on two threads; and so are graphs with the faults of `wrong_graphs.py`. What
is in the work folder is not made again.
"""

from __future__ import annotations

import gc
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.machine import package_versions, processor_name, usable_cores
from toolkit.processes import import_quietly, in_own_process

if TYPE_CHECKING:
    import keras

SETTINGS = {
    "default": {},
    "TF_ENABLE_ONEDNN_OPTS=0": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "ONEDNN_MAX_CPU_ISA=SSE41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "ONEDNN_MAX_CPU_ISA=AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
}
"""How the arithmetic of other processors is tried on this one."""

SMALL = "small"
BACKBONES = (SMALL, "efficientnetb3", "xception", "inceptionv3", "resnet101v2")
THREADS = (1, 2)
IMAGES = 24
FAULTY = "settled"
"""Of these weights the wrong graphs are made: each bias and statistic matters."""

DEMANDED = 30
"""Times the noise floor that a fault has to move a logit by to be one that must be refused."""


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--backbone", "backbones", multiple=True, default=BACKBONES, show_default=True)
@click.option("--setting", "settings", multiple=True, default=tuple(SETTINGS))
def main(
    work: Path, out: Path | None, backbones: tuple[str, ...], settings: tuple[str, ...]
) -> None:
    """Convert, judge under each setting, print a table, write every figure."""
    work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for backbone in backbones:
        on_cpu = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
        in_own_process(_prepare, work, backbone, environment=on_cpu)
        for setting in settings:
            kept = work / f"{backbone}-{setting}.json"
            if not kept.is_file():
                environment = {**on_cpu, **SETTINGS[setting]}
                found = in_own_process(_judge, work, backbone, environment=environment)
                kept.write_text(json.dumps(found), encoding="utf-8")
            told = json.loads(kept.read_text(encoding="utf-8"))
            rows += [{"backbone": backbone, "setting": setting, **row} for row in told]
    _print_passes([row for row in rows if "fault" not in row])
    _print_faults([row for row in rows if "fault" in row])
    if out:
        machine = f"{processor_name()}, {usable_cores()} cores, {platform.system()}"
        versions = package_versions(
            ("tensorflow", "keras", "tf2onnx", "onnxruntime", "onnxruntime-gpu")
        )
        content = {"machine": machine, "versions": versions, "rows": rows}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _prepare(work: Path, backbone: str) -> None:
    """Convert a backbone with each kind of weights; leave `.onnx` and `.npz`."""
    import_quietly("keras")
    import keras
    import numpy as np
    import onnx
    from parity_networks import KINDS, photos

    from toolkit.exporting.convert import to_onnx

    for kind, change in KINDS.items():
        target = work / f"{backbone}-{kind}.onnx"
        if target.is_file():
            continue
        keras.utils.set_random_seed(5)
        network = _network(backbone)
        change(network, photos(IMAGES, network.input_shape[1]))
        exported = to_onnx(network, {})
        np.savez(target.with_suffix(".npz"), *network.get_weights())
        onnx.save(exported, target)
        print(f"{target.name}: {len(exported.graph.node)} nodes", flush=True)
        del network, exported
        keras.backend.clear_session()
        gc.collect()


def _network(backbone: str) -> keras.Model:
    from parity_networks import small_network

    from toolkit.training.model import build_model
    from toolkit.training.recipe_files import load_set
    from toolkit.training.registry import find_backbone

    if backbone == SMALL:
        return small_network()
    recipe = load_set("improved").recipe(backbone)
    smallest = recipe.model_copy(update={"image_size": find_backbone(backbone).smallest_size})
    return build_model(smallest, 10, pretrained=False)


def _judge(work: Path, backbone: str) -> list[dict[str, Any]]:
    """Return a row for each kind and number of threads, and for each fault."""
    import_quietly("keras")
    from parity_judging import judged

    return judged(work, backbone, _network(backbone), THREADS, IMAGES, FAULTY)


def _print_passes(rows: list[dict[str, Any]]) -> None:
    print(f"{'network':<34} {'setting':<26} threads   floor   error  ratio  passed")
    for row in rows:
        name = f"{row['backbone']}, {row['kind']}"
        ratio = row["error"] / row["floor"] if row["floor"] else 0.0
        print(
            f"{name:<34} {row['setting']:<26} {row['threads']:>7} {row['floor']:7.1e} "
            f"{row['error']:7.1e} {ratio:6.2f}  {'yes' if row['passed'] else 'NO'}"
        )
    names = {(row["backbone"], row["kind"]) for row in rows}
    refused = sum(not row["passed"] for row in rows)
    print(f"{len(names)} networks, {len(rows)} judgements, {refused} refused\n")


def _print_faults(rows: list[dict[str, Any]]) -> None:
    print(f"{'fault':<28} {'network':<15} {'setting':<26}   floor   moved  refused")
    missed = 0
    for row in rows:
        moved = row.get("moved") or float("inf")
        demanded = moved >= DEMANDED * row["floor"]
        missed += demanded and row["passed"]
        verdict = "no" if row["passed"] else "yes"
        print(
            f"{row['fault']:<28} {row['backbone']:<15} {row['setting']:<26} {row['floor']:7.1e} "
            f"{moved:7.1e}  {verdict}{'' if demanded else ' (below 30 floors)'}"
        )
    print(f"{len(rows)} wrong graphs, {missed} of those that move a logit by 30 floors passed")


if __name__ == "__main__":
    main()
