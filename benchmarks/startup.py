"""How long one waits before anything happens: help, import, loading a bundle.

python benchmarks/startup.py --bundle bundle --out startup.json
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import click

from toolkit.machine import processor_name, usable_cores


def commands(bundle: Path | None) -> dict[str, list[str]]:
    """Return what is timed, by name; each is a process of its own."""
    python = [sys.executable, "-c"]
    toolkit = str(Path(sys.executable).with_name("toolkit"))
    found = {
        "python, nothing": [*python, "pass"],
        "toolkit --help": [toolkit, "--help"],
        "toolkit ensemble --help": [toolkit, "ensemble", "--help"],
        "import toolkit": [*python, "import toolkit"],
        "import of the inference side": [*python, "from toolkit import Ensemble; Ensemble"],
    }
    if bundle:
        load = f"from toolkit import Ensemble; Ensemble.load({str(bundle)!r}, tta=4)"
        found["load the bundle, ready for the first photo"] = [*python, load]
    return found


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--repeats", default=7, show_default=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(bundle: Path | None, repeats: int, out: Path | None) -> None:
    """Time each command in turn, several rounds, and print medians."""
    timed = commands(bundle)
    samples: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeats):
        for name, command in timed.items():
            started = perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            samples[name].append(perf_counter() - started)
    print(f"{'what':<45} median s   min s   max s   n")
    for name, seconds in samples.items():
        middle = statistics.median(seconds)
        print(f"{name:<45} {middle:8.3f} {min(seconds):7.3f} {max(seconds):7.3f} {len(seconds):3}")
    if out:
        machine = f"{processor_name()}, {usable_cores()} cores"
        out.write_text(json.dumps({"machine": machine, "seconds": samples}, indent=1) + "\n")


if __name__ == "__main__":
    main()
