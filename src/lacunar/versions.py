"""Versions of what computes a result, and the report for a bug."""

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ONNX_RUNTIME = "onnxruntime"
_REPORTED = (
    *("torch", "diffusers", "accelerate", "safetensors", _ONNX_RUNTIME),
    *("numpy", "scipy", "pandas", "xarray", "dask", "distributed"),
    *("rasterio", "rioxarray", "pyproj", "shapely", "pyogrio", "geopandas"),
    *("pillow", "scikit-image", "opencv-python-headless", "matplotlib", "typer"),
)


def versions() -> dict[str, str]:
    """Versions of what computes a fill."""
    import numpy as np
    import rasterio
    import scipy

    import lacunar

    found = {
        "lacunar": lacunar.__version__,
        "python": sys.version.split()[0],
        "torch": version("torch"),  # not imported: a fill may do without
        "rasterio": rasterio.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    for package in ("diffusers", _ONNX_RUNTIME):  # not imported: that takes seconds; the second is optional
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def file_tags(source: str, date: object, command: str) -> dict[str, str]:
    """What a file says of where it comes from: image or product, its date, software and command."""
    import lacunar

    said = {"source": source, "date": date, "software": f"lacunar {lacunar.__version__}", "command": command}
    return {name: str(text) for name, text in said.items() if text}


def versions_used(backend: str, found: Mapping[str, str]) -> dict[str, str]:
    """Those of `versions` that pixels depend on with a backend: ONNX Runtime's where it computes."""
    return {name: number for name, number in found.items() if name != _ONNX_RUNTIME or backend in ("onnx", "int8")}


def describe_machine() -> str:
    """CPU, cores, PyTorch's version and threads in one line, to be printed beside anything that was timed."""
    import torch

    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores; PyTorch {torch.__version__} on {torch.get_num_threads()} threads"


def version_report() -> str:
    """Versions of lacunar, Python, the system and the libraries, as text for a bug report; nothing is imported."""
    import lacunar

    lines = [f"lacunar: {lacunar.__version__}", "", "System:"]
    lines += [f"{name:>24}: {value}" for name, value in _system().items()]
    return "\n".join([*lines, "", "Libraries:", *(f"{name:>24}: {_version_of(name)}" for name in _REPORTED)])


def show_versions() -> None:
    """Print the versions that a bug report wants: lacunar, Python, the system and the libraries.

    >>> import lacunar as lc
    >>> lc.show_versions()  # doctest: +ELLIPSIS
    lacunar: ...
    """
    print(version_report())  # noqa: T201


def _system() -> dict[str, str]:
    return {
        "python": " ".join(sys.version.split()),
        "executable": sys.executable,
        "machine": platform.platform(),
    }


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
