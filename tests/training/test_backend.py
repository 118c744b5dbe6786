"""Which framework trains: chosen without importing any, and said where it is missing."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from toolkit.errors import ToolkitError
from toolkit.processes import in_own_process
from toolkit.training.backend import choose_backend, framework_settings


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Says which frameworks there are."""
    names = {"tensorflow", "torch"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in names else None
    )
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return names


def test_tensorflow_is_the_default(installed: set[str]) -> None:
    assert choose_backend() == "tensorflow"


def test_without_tensorflow_another_is_taken(installed: set[str]) -> None:
    installed.remove("tensorflow")
    assert choose_backend() == "torch"


def test_the_variable_decides(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert choose_backend() == "torch"


def test_a_variable_that_names_what_is_missing_is_refused(
    installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(ToolkitError, match="KERAS_BACKEND=jax: is not installed here"):
        choose_backend()


@pytest.mark.parametrize(
    ("content", "chosen"),
    [
        ('{"backend": "torch"}', "torch"),
        ('{"backend": "jax"}', "tensorflow"),  # Not installed.
        ('{"floatx": "float32"}', "tensorflow"),
        ("no JSON", "tensorflow"),
        ("[]", "tensorflow"),
    ],
)
def test_keras_own_settings_count_where_they_can(
    content: str, chosen: str, installed: set[str], tmp_path: Path
) -> None:
    (tmp_path / "keras.json").write_text(content, encoding="utf-8")
    assert choose_backend() == chosen


def test_without_any_the_way_out_is_told(installed: set[str]) -> None:
    installed.clear()
    with pytest.raises(ToolkitError, match=r"pip install 'toolkit\[train\]'"):
        choose_backend()


def test_a_training_computes_with_its_threads_whatever_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thread_counter.py").write_text(
        """
def count(threads):
    from toolkit.training.backend import set_threads
    set_threads(threads)
    import tensorflow
    settings = tensorflow.config.threading
    tensorflow.random.normal((512, 512)) @ tensorflow.random.normal((512, 512))
    return (
        settings.get_intra_op_parallelism_threads(),
        settings.get_inter_op_parallelism_threads(),
        names_of_threads().count("tf_Compute"),
    )

def names_of_threads():
    from pathlib import Path
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
""",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    counter = importlib.import_module("thread_counter")
    environment = framework_settings("tensorflow", 3, shared=False)
    assert in_own_process(counter.count, 3, environment=environment) == (3, 3, 3)
