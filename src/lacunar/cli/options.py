"""Options that several commands share, and how a dataclass of options becomes those of a command."""

import inspect
import shlex
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from lacunar.diffusion.samplers import preset_help, preset_named, sampler_help
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.fill.options import FillOptions

Made = TypeVar("Made")

Model = Annotated[str, typer.Option(help="A shipped model's name (see `lacunar models`) or a model folder.")]
Network = Annotated[
    str | None,
    typer.Option(
        "--model", help="A network on top: a shipped model's name or a model folder; fast and instant need none."
    ),
]
PresetOption = Annotated[str, typer.Option(help=f"{preset_help()}.")]
SamplerOption = Annotated[str | None, typer.Option("--sampler", help=f"In place of the preset's: {sampler_help()}.")]
EvaluationsOption = Annotated[
    int | None,
    typer.Option("--evaluations", min=1, help="Network evaluations for each sample at most, in place of the preset's."),
]
Samples = Annotated[
    int | None, typer.Option(min=1, help="Samples drawn; their spread is sigma. 8, or 1 with instant, if not given.")
]
SuspectOption = Annotated[
    str, typer.Option(help="Measured pixels that look like missed cloud: report (*_suspect.tif), fill, or keep.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", help="auto, eager, onnx or int8 (CPU), bf16 or compiled (GPU); auto takes onnx where it pays off."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
FigureOption = Annotated[Path | None, typer.Option(help="Picture to draw: .png, .pdf or .svg.")]
AllowVrt = Annotated[
    bool, typer.Option("--allow-vrt", help="Open VRT files too: of plain rasters that lie beside them.")
]
BoxOption = Annotated[
    str, typer.Option("--bbox", help="Only XMIN,YMIN,XMAX,YMAX[,CRS], in the CRS of the image where none is said.")
]
ClipOption = Annotated[Path | None, typer.Option("--clip", help="Only what lies in these polygons, in any CRS.")]
PrintJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one option for each field of the dataclasses that it takes."""
    groups: dict[str, Any] = {}
    parameters = []
    for name, kind in get_type_hints(command, include_extras=True).items():
        own = inspect.signature(command).parameters.get(name)
        if is_dataclass(kind):
            groups[name] = kind
            hints = get_type_hints(kind, include_extras=True)
            parameters += [_parameter(item.name, _default(item), hints[item.name]) for item in fields(kind)]
        elif own is not None:
            parameters.append(_parameter(name, own.default, kind))

    @wraps(command)
    def call(**given: Any) -> None:  # noqa: ANN401
        made = {
            name: kind(**{item.name: given.pop(item.name) for item in fields(kind)}) for name, kind in groups.items()
        }
        command(**given, **made)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def given_to(kind: Callable[..., Made], asked: object, **more: object) -> Made:
    """An options value of the library from the fields of a command that have its names; what is None is as usual."""
    names = inspect.signature(kind).parameters
    given = {name: value for name, value in vars(asked).items() if name in names and value is not None}
    return kind(**{**given, "command": typed_command(), **more})


def fill_options(
    preset: str,
    *,
    samples: int | None,
    realisations: int | None = None,
    device: str,
    quantiles: str = "",
    cluster: str | None = None,
    **others: Any,  # noqa: ANN401
) -> "FillOptions":
    """How rasters are filled; on a cluster the workers choose the device. ``others`` are fields of `FillOptions`."""
    from lacunar.fill.options import FillOptions

    if realisations and samples not in (None, realisations):
        raise LacunarError(f"--realisations {realisations} with --samples {samples}: all samples are written; give one")
    samples = samples or realisations
    options = FillOptions(
        preset=preset,
        samples=preset_named(preset).usual_samples if samples is None else samples,
        realisations=realisations is not None,
        device=device if cluster or device != "auto" else "cpu",
        quantiles=levels_of(quantiles),
        **others,
    )
    if cluster or (device == "auto" and options.uses_field(0)):
        return options
    return replace(options, device=resolve_device(device))


def region(bbox: str, clip: Path | None) -> str | None:
    """The region that one of the two options names."""
    if bbox and clip:
        raise LacunarError(f"--bbox {bbox} and --clip {clip}: wanted one of the two")
    return bbox or (str(clip) if clip else None)


def resolve_device(name: str) -> str:
    """The device to use; ``auto`` takes the best there is."""
    from lacunar.models.backend import resolve_device as resolve

    return resolve(name)


def typed_command() -> str:
    """The command line as it was typed."""
    return shlex.join(["lacunar", *sys.argv[1:]])


def parts_of(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def levels_of(text: str) -> tuple[float, ...]:
    """Levels of quantiles, by comma."""
    try:
        return tuple(map(float, parts_of(text)))
    except ValueError as error:
        raise LacunarError(
            f"--quantiles {text!r}: wanted numbers between 0 and 1 by comma, such as 0.05,0.95"
        ) from error


def _default(item: "Field[Any]") -> Any:  # noqa: ANN401
    """The default of a field, as a parameter has it."""
    if item.default_factory is not MISSING:
        return item.default_factory()
    return inspect.Parameter.empty if item.default is MISSING else item.default


def _parameter(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
