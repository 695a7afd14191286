"""What a client may ask for, checked: rasters to open, jobs and their options, polygons."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lacunar.diffusion.samplers import preset_named
from lacunar.errors import LacunarError
from lacunar.web.masks import Edits, Place
from lacunar.web.views import TILE

JobKind = Literal["fill", "water", "picture", "face"]

MODELS_OF: dict[JobKind, str] = {"fill": "lst-", "water": "water-", "picture": "picture-", "face": "face-"}
DEFAULTS: dict[JobKind, dict[str, Any]] = {
    "fill": {
        "model": None,
        "preset": "fast",
        "samples": None,
        "seed": 0,
        "keep_samples": False,
        "suspect": None,
    },
    "water": {
        "model": "water-classes",
        "samples": 4,
        "seed": 0,
        "threshold": 0.5,
        "min_area": None,
        "keep_clouds": False,
    },
    "picture": {"model": "picture-small", "preset": "fast", "samples": 1, "seed": 0},
    "face": {"model": "face-full", "preset": "fast", "samples": 1, "seed": 0},
}


class RasterAsked(BaseModel):
    """A raster to open: a path under the folder that is shown, a demo, or another band of one that is open."""

    model_config = ConfigDict(extra="forbid")
    path: str | None = Field(default=None, max_length=4096)
    demo: Literal["temperature", "picture"] | None = None
    raster: str | None = Field(default=None, description="identifier of an opened raster, of which a band is wanted")
    band: int | None = Field(default=None, ge=1, le=10_000, description="what is filled, of a raster of several bands")


class JobAsked(BaseModel):
    """A job on an opened raster; an option that its kind does not have is refused."""

    model_config = ConfigDict(extra="forbid")
    kind: JobKind
    raster: str
    references: list[str] = Field(
        default_factory=list, max_length=64, description="other dates, opened: of fill to guide it, of water to compare"
    )
    window: tuple[int, int, int, int] | None = Field(
        default=None, description=f"row, column, height, width of a preview, at most {TILE} a side; not of pictures"
    )
    model: str | None = None
    preset: str | None = None
    samples: int | None = Field(default=None, ge=1, le=64)
    seed: int | None = Field(default=None, ge=0, le=2**31)
    keep_samples: bool | None = Field(default=None, description="of fill: write the samples, for means over areas")
    suspect: Literal["report", "fill", "keep"] | None = Field(
        default=None, description="of fill: measured pixels that look like cloud; report in a product, else keep"
    )
    threshold: float | None = Field(default=None, gt=0, lt=1, description="of water")
    min_area: float | None = Field(
        default=None, ge=0, description="of water: least area of a polygon, m2 or pixels; else 4 pixels"
    )
    keep_clouds: bool | None = Field(default=None, description="of water, of a product")

    def options(self, raster_kind: str) -> dict[str, Any]:
        """The options of this kind of job on a product, a raster or a picture, complete."""
        usual = DEFAULTS[self.kind]
        given = self.model_dump(exclude={"kind", "raster", "references", "window"}, exclude_none=True)
        if unknown := sorted(set(given) - set(usual)):
            raise LacunarError(f"{unknown[0]} is no option of {self.kind}: wanted some of {', '.join(usual)}")
        options = usual | given
        if "preset" in options:
            preset = preset_named(options["preset"])
            options["samples"] = options["samples"] or preset.usual_samples
            preset.check_samples(options["samples"])
        if self.kind == "fill":
            options["keep_samples"] &= options["samples"] > 1
            options["suspect"] = options["suspect"] or ("report" if raster_kind == "product" else "keep")
        return options


class ZoneAsked(BaseModel):
    """A polygon in pixels, (row, column) from the upper left corner."""

    model_config = ConfigDict(extra="forbid")
    polygon: list[Place] = Field(min_length=3, max_length=10_000)


def check_job(asked: JobAsked, info: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    """Refuse a job that its raster does not allow, or a model that is not shipped for it."""
    if asked.kind not in info["jobs"]:
        raise LacunarError(f"{info['name']} is a {info['kind']}: wanted one of the jobs {', '.join(info['jobs'])}")
    if asked.model is not None and (asked.model not in models or not asked.model.startswith(MODELS_OF[asked.kind])):
        fitting = [name for name in models if name.startswith(MODELS_OF[asked.kind])]
        raise LacunarError(f"got the model {asked.model!r}: wanted one of {', '.join(fitting)}")
    if asked.references and asked.kind not in ("fill", "water"):
        raise LacunarError(f"references are of fill and water: leave them out of {asked.kind}")
    if asked.references and asked.kind == "water" and asked.window is not None:
        raise LacunarError("a comparison of dates has no preview: wanted no window, or no references")
    if asked.window is not None:
        row, col, height, width = asked.window
        inside = min(row, col) >= 0 and row + height <= info["shape"][0] and col + width <= info["shape"][1]
        if asked.kind in ("picture", "face") or not (1 <= height <= TILE and 1 <= width <= TILE and inside):
            raise LacunarError(
                f"window {asked.window}: wanted row, column, height, width inside {info['shape'][0]} x "
                f"{info['shape'][1]} pixels and at most {TILE} a side, of fill or water; else leave it out"
            )


def needs_mask(kind: str, edits: Edits, info: Mapping[str, Any]) -> bool:
    """Whether a job gets a mask file: where more than quality classes says what is missing."""
    if kind != "fill":
        return kind in ("picture", "face")
    without_quality = info["kind"] == "product" and not info["classes"]
    return not edits.only_classes or without_quality


def in_order(images: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Opened rasters in their order in time; as they are where one has no date."""
    dates = [image["date"] for image in images]
    return sorted(images, key=lambda image: str(image["date"])) if all(dates) else list(images)


def command_of(
    asked: JobAsked, info: Mapping[str, Any], edits: Edits, mask: str, references: Sequence[Mapping[str, Any]]
) -> str:
    """The command line that does the same."""
    options, path = asked.options(info["kind"]), Path(info["source"])
    name = {"fill": "lst" if info["kind"] == "product" else "fill", "water": "water", "picture": "inpaint"}
    compares = asked.kind == "water" and bool(references)
    paths = [str(one["source"]) for one in in_order([*references, info])] if compares else [str(path)]
    parts = ["lacunar", name.get(asked.kind, asked.kind), *paths, "-o"]
    parts += ["change"] if compares else [{"fill": "filled.tif", "water": "water.tif"}.get(asked.kind, "filled.png")]
    if asked.kind == "fill":
        if needs_mask("fill", edits, info):
            parts += [f"--gap-mask={mask}", *(["--gap-classes="] if info["kind"] == "product" else [])]
        elif info["kind"] == "product":
            parts.append(f"--gap-classes={','.join(edits.classes)}")
        parts += [f"--reference={other['source']}" for other in references]
        parts += [f"--band={info['band']}"] if info.get("band") else []
        if options.pop("keep_samples"):
            parts.append(f"--realisations={options['samples']}")
        parts += ["--figure=filled.png", "--qgis-style"]
    elif asked.kind == "water":
        parts += ["--change"] if compares else ["--polygons=water.gpkg", "--figure=water.png"]
        if options.pop("keep_clouds"):
            parts.append("--keep-clouds")
    else:
        parts += [f"--mask={mask}", "--sheet=sheet.png"]
    parts += [f"--{option.replace('_', '-')}={value}" for option, value in options.items() if value is not None]
    return shlex.join(parts)
