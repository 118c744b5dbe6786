"""`toolkit doctor`."""

from __future__ import annotations

import click

from toolkit.cli import options
from toolkit.cli.terminal import print_json, print_line, print_table


@click.command("doctor")
@options.as_json
def command(as_json: bool) -> None:
    """Show processor, memory, GPUs, what really loads and why not, and versions."""
    from toolkit.reporting.doctor import diagnose

    found = diagnose()
    if as_json:
        print_json(found)
        return
    print_table("Machine", ["<", "<"], found["machine"].items())
    print_line(f"GPUs: {', '.join(found['gpus']) or found['no_gpu']}\n")
    print_table(
        f"onnxruntime {found['onnxruntime']}: providers that were tried",
        ["<provider", "<loads", "<why not"],
        [(name, "no" if reason else "yes", reason) for name, reason in found["providers"].items()],
    )
    print_line(f"TensorFlow devices: {found['tensorflow']}")
    print_line(
        f"OpenVINO {found['packages'].get('openvino', '')}".rstrip() + f": {found['openvino']}"
    )
    print_line(f"cache: {found['cache']}\n")
    print_table("Packages", ["<name", "<version"], found["packages"].items())
    for warning in found["warnings"]:
        print_line(f"warning: {warning}")
