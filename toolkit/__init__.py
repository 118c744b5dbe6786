"""Train, export and run an ensemble of image classifiers, and know what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError, UsageError

if TYPE_CHECKING:
    from toolkit.inference.ensemble import Ensemble

__version__ = "0.1.0"
__all__ = ["Ensemble", "ToolkitError", "UsageError", "__version__"]


def __getattr__(name: str) -> Any:
    # The engine pulls in onnxruntime; a program that only wants the version should not wait for it.
    if name == "Ensemble":
        from toolkit.inference.ensemble import Ensemble

        return Ensemble
    raise AttributeError(f"module 'toolkit' has no attribute '{name}'")
