"""Faces and any picture: `inpaint`, `face`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lacunar.cli import options as opt
from lacunar.cli.progress import Bars
from lacunar.diffusion.samplers import PRESETS, preset_help, refiner
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.pictures.job import PictureOptions


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The options of both commands."""

    picture: Annotated[
        Path, typer.Argument(help="PNG, JPEG, TIFF, WebP, BMP; 8 or 16 bit; grey or RGB, also with alpha.")
    ]
    mask: Annotated[
        Path, typer.Option(help="Picture of the same size, white = to be filled; or alpha, what is transparent.")
    ]
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Picture to write; of several samples NAME_1, NAME_2, ...")
    ]
    invert: Annotated[bool, typer.Option("--invert", help="Black of the mask is filled, white kept.")] = False
    samples: Annotated[int, typer.Option(min=1, help="Different answers, drawn together.")] = 1
    mean: Annotated[bool, typer.Option("--mean", help="Write the mean of the samples instead of each.")] = False
    choose: Annotated[
        bool,
        typer.Option("--choose", help="Rank the samples, by their border and a face by symmetry; write the best."),
    ] = False
    preset: opt.PresetOption = "fast"
    sampler: opt.SamplerOption = None
    evaluations: opt.EvaluationsOption = None
    model: opt.Model = "picture-small"
    seed: opt.Seed = 0
    sheet: Annotated[
        Path | None,
        typer.Option(help="Contact sheet: original, masked, samples, mean, deviation (.png, .pdf or .svg)."),
    ] = None
    device: opt.Device = "auto"
    backend: opt.BackendOption = "auto"
    print_json: opt.PrintJson = False
    overwrite: opt.Overwrite = False

    def options(self) -> "PictureOptions":
        """How the picture is filled."""
        from lacunar.pictures.job import PictureOptions

        return opt.given_to(PictureOptions, self, device=opt.resolve_device(self.device))


@dataclass(frozen=True, kw_only=True)
class _FaceAsked(_Asked):
    preset: Annotated[
        str,
        typer.Option(
            help=f"{preset_help()}; an aligned face starts from a guess, so that fast takes "
            f"{1 + refiner(PRESETS['fast']).evaluations} and balanced {1 + refiner(PRESETS['balanced']).evaluations}."
        ),
    ] = "fast"
    model: opt.Model = "face-full"


@opt.expanded
def inpaint_command(asked: _Asked) -> None:
    """Fill the masked part of any picture; outside the mask every pixel stays as it is."""
    from lacunar.pictures.job import inpaint_file

    options = asked.options()
    with Bars() as bars:
        record = inpaint_file(asked.picture, asked.output, mask=asked.mask, options=options, callback=bars.filling)
    _present(record, print_json=asked.print_json)


@opt.expanded
def face_command(
    asked: _FaceAsked,
    face: Annotated[int | None, typer.Option(help="Number of the face that is meant, from 1, from the left.")] = None,
    box: Annotated[
        str, typer.Option(help="X,Y,WIDTH,HEIGHT of the face in pixels, brow to chin, where none is found.")
    ] = "",
    whole: Annotated[bool, typer.Option("--whole", help="The picture is the aligned face.")] = False,
    detail: Annotated[
        str, typer.Option(help="Picture model for what lies outside the frame, or none.")
    ] = "picture-small",
) -> None:
    """Reconstruct the masked part of a face: find it, bring it upright, fill it, put it back into the photograph."""
    from lacunar.pictures.job import FaceChoice, fill_face_file

    choice = FaceChoice(index=face, box=_box(box), whole=whole, detail=detail)
    files, options = (asked.picture, asked.output), asked.options()
    with Bars() as bars:
        record = fill_face_file(*files, mask=asked.mask, choice=choice, options=options, callback=bars.filling)
    _present(record, print_json=asked.print_json)


def _box(text: str) -> tuple[float, float, float, float] | None:
    """Four numbers by comma, or none."""
    if not text:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise LacunarError(f"--box {text!r}: wanted X,Y,WIDTH,HEIGHT in pixels, such as 120,80,200,200") from error
    return x, y, width, height


def _present(record: dict[str, Any], *, print_json: bool) -> None:
    if print_json:
        typer.echo(json.dumps(record, indent=2))
        return
    if found := record.get("face"):
        where = f"({found['x']:.0f}, {found['y']:.0f}), {found['side']:.0f} pixels wide"
        typer.echo(f"face at {where}, tilted by {found['tilt_degrees']:.0f} degrees")
    share, seconds = record["share_filled"], record["seconds"]
    typer.echo(
        f"filled {record['pixels_filled']} pixels ({share:.1%}) of {record['picture']['kind']} in {seconds:.0f} s"
    )
    if found := record.get("ranking"):
        typer.echo(f"chosen: sample {found['written']} of {record['samples']}, by its border and symmetry")
    for note in record["notes"]:
        typer.echo(f"note: {note}")
    for path in record["outputs"]:
        typer.echo(f"picture: {path}")
    if record["sheet"]:
        typer.echo(f"sheet:   {record['sheet']}")
