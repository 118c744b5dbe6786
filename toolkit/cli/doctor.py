"""`toolkit doctor`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.terminal import print_json, print_line, print_table

if TYPE_CHECKING:
    from toolkit.capacity import Need
    from toolkit.reporting.fitting import SetFit


@click.command("doctor")
@options.recipes
@options.data
@options.runs
@options.bundle
@options.as_json
def command(recipes: str, data: Path, runs: Path, bundle: Path, as_json: bool) -> None:
    """Show processor, memory, GPUs, what really loads and why not, versions, and what fits.

    For a recipe set it estimates the memory and disk that training and export need.
    """
    from toolkit import doctor

    found = doctor(recipes=recipes, data=data, runs=runs, bundle=bundle)
    if as_json:
        content = asdict(found)
        del content["fit"]
        print_json(content | {"set": _figures(found.fit)})
        return
    print_table("Machine", ["<", "<"], found.machine.items())
    print_line(f"GPUs: {', '.join(found.gpus) or found.no_gpu}\n")
    print_table(
        f"onnxruntime {found.onnxruntime}: providers that were tried",
        ["<provider", "<loads", "<why not"],
        [(name, "no" if reason else "yes", reason) for name, reason in found.providers.items()],
    )
    print_line(f"TensorFlow devices: {found.tensorflow}")
    print_line(f"OpenVINO {found.packages.get('openvino', '')}".rstrip() + f": {found.openvino}")
    print_line(f"cache: {found.cache}\n")
    _print_fit(found.fit)
    print_table("Packages", ["<name", "<version"], found.packages.items())
    for warning in found.warnings:
        print_line(f"warning: {warning}")


def _print_fit(fit: SetFit) -> None:
    available = fit.members[0].training.available
    print_table(
        f"Set '{fit.recipes}': memory on the CPU, GiB; {_gibibytes(available)} are available",
        ["<backbone", "px", "batch", "training", "<", "export", "<"],
        [
            (
                member.backbone,
                member.image_size,
                member.batch_size,
                _gibibytes(member.training.needed),
                member.training.verdict,
                _gibibytes(member.export.needed),
                member.export.verdict,
            )
            for member in fit.members
        ],
    )
    photos = f"the {fit.photos} photos of {fit.data}" if fit.data else f"{fit.photos} photos"
    for need in fit.disks:
        print_line(f"with {photos}: {need}: {need.verdict}")
    print_line("")


def _figures(fit: SetFit) -> dict[str, Any]:
    def figures(need: Need) -> dict[str, Any]:
        return {**asdict(need), "verdict": need.verdict}

    return {
        "recipes": fit.recipes,
        "photos": fit.photos,
        "data": fit.data,
        "members": [
            asdict(member)
            | {"training": figures(member.training), "export": figures(member.export)}
            for member in fit.members
        ],
        "disks": [figures(need) for need in fit.disks],
    }


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.1f}"
