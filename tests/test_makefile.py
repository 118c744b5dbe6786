"""`make` refuses a Python that the training steps cannot be installed for, before it tries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PRETENDS = """\
#!/bin/sh
exec {python} -c 'import sys; sys.version_info = ({version}, 0); exec(sys.argv[1])' "$2"
"""


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(
    ("version", "is_refused"),
    [("3, 10", True), ("3, 11", False), ("3, 13", False), ("3, 14", True)],
)
def test_other_versions_of_python_are_refused(
    version: str, is_refused: bool, tmp_path: Path
) -> None:
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(PRETENDS.format(python=sys.executable, version=version), encoding="utf-8")
    python.chmod(0o755)
    # It comes no further than to the environment, which this Python cannot make.
    command = ["make", "test", f"PYTHON={python}"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode
    assert (
        "Python 3.11 to 3.13 is needed: make test PYTHON=python3.12" in told.stderr
    ) == is_refused
