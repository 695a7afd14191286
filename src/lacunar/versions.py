"""Versions of what computes a result."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_ONNX_RUNTIME = "onnxruntime"


def versions() -> dict[str, str]:
    """Versions of what computes a fill."""
    import numpy as np
    import rasterio
    import scipy
    import torch

    import lacunar

    found = {
        "lacunar": lacunar.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    for package in ("diffusers", _ONNX_RUNTIME):  # not imported: that takes seconds; the second is optional
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def versions_used(engine: str, found: Mapping[str, str]) -> dict[str, str]:
    """Those of `versions` that pixels depend on with an engine: ONNX Runtime's where it computes."""
    return {name: number for name, number in found.items() if name != _ONNX_RUNTIME or engine == "onnx"}
