"""All that a filled raster depends on, as one value that two runs can compare."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lacunar.fill.guides import Guides
from lacunar.fill.inputs import FillInputs
from lacunar.fill.options import FillOptions
from lacunar.geo.staging import resolved
from lacunar.sensors.scene import Scene
from lacunar.versions import versions, versions_used

if TYPE_CHECKING:
    from lacunar.models.checkpoint import Model

_TOLD_APART = ("model", "device", "backend", "preset")  # options that stand under keys of their own
_METADATA = "*MTL*"  # files of a product's folder that tell what its numbers mean

Fingerprint = Mapping[str, Any]


def fingerprint_of(
    inputs: FillInputs, scene: Scene, guides: Guides, options: FillOptions, model: "Model | None"
) -> Fingerprint:
    """Describe inputs (named, and opened), options, model and versions, ready for JSON.

    Files are told apart by path, size and time of change, so that gigabytes need not be read. A GPU is told from a CPU,
    whose last bits differ, but not from another GPU.
    """
    named = inputs.resolved().files
    metadata = [file for path in named if path.is_dir() for file in path.glob(_METADATA)]
    files = {resolved(path) for path in (*named, *metadata, *scene.inputs, *guides.inputs) if path.is_file()}
    found = {
        "inputs": asdict(inputs.resolved()),
        "files": {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(files)},
        "product": scene.lst_record().get("product"),
        "options": {name: value for name, value in asdict(options).items() if name not in _TOLD_APART},
        "preset": repr(options.chosen),
        "device": options.device.split(":")[0],
        "backend": model.backend if model else None,
        "model": model
        and {
            "sha256": model.card.sha256,
            "network": repr(model.network.config),
            "schedule": hashlib.sha256(model.schedule.betas.tobytes()).hexdigest(),
            "prediction": model.prediction,
            "scaling": model.scaling.to_dict(),
            "sigma_factor": model.card.sigma_factor,
            "error_quantiles": model.card.error_quantiles,
        },
        "versions": versions_used(model.backend if model else "eager", versions()),
    }
    plain: Fingerprint = json.loads(json.dumps(found, default=str))
    return plain


def digest_of(fingerprint: Fingerprint) -> str:
    """sha256 of a fingerprint, in hexadecimal."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def differing(one: Fingerprint, other: Fingerprint, prefix: str = "") -> list[str]:
    """Names of the values in which two fingerprints differ, such as ``options.seed``."""
    names: list[str] = []
    for key in sorted({*one, *other}):
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            names += differing(mine, theirs, f"{prefix}{key}.")
        elif mine != theirs:
            names.append(f"{prefix}{key}")
    return names
