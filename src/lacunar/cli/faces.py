"""Faces and any picture: `inpaint`, `face`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lacunar.cli import options as opt
from lacunar.cli.progress import Bars
from lacunar.diffusion.samplers import PRESETS, preset_help, refiner
from lacunar.errors import LacunarError

PictureArgument = Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or WebP; 8 or 16 bit; grey or RGB, alpha kept.")]
FacePresetOption = Annotated[
    str,
    typer.Option(
        help=f"{preset_help()}; an aligned face starts from a guess, so that fast takes "
        f"{1 + refiner(PRESETS['fast']).evaluations} and balanced {1 + refiner(PRESETS['balanced']).evaluations}."
    ),
]
MaskOption = Annotated[Path, typer.Option(help="Picture of the same size; white = to be filled, black = kept.")]
PictureOutput = Annotated[
    Path, typer.Option("-o", "--output", help="Picture to write; of several samples NAME_1, NAME_2, ...")
]
PictureSamples = Annotated[int, typer.Option(min=1, help="Different answers, drawn together.")]
MeanOption = Annotated[bool, typer.Option("--mean", help="Write the mean of the samples instead of each.")]
SheetOption = Annotated[
    Path | None, typer.Option(help="Contact sheet: original, masked, samples, mean, deviation (.png, .pdf or .svg).")
]


def inpaint_command(
    picture: PictureArgument,
    mask: MaskOption,
    output: PictureOutput,
    samples: PictureSamples = 1,
    mean: MeanOption = False,
    preset: opt.PresetOption = "fast",
    sampler: opt.SamplerOption = None,
    evaluations: opt.EvaluationsOption = None,
    model: opt.Model = "picture-small",
    seed: opt.Seed = 0,
    sheet: SheetOption = None,
    device: opt.Device = "auto",
    backend: opt.BackendOption = "auto",
    print_json: opt.PrintJson = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Fill the masked part of any picture; outside the mask every pixel stays as it is."""
    from lacunar.pictures.job import PictureOptions, inpaint_file

    options = PictureOptions(
        model=model,
        preset=preset,
        sampler=sampler,
        evaluations=evaluations,
        samples=samples,
        mean=mean,
        seed=seed,
        device=opt.resolve_device(device),
        backend=backend,
        overwrite=overwrite,
        sheet=sheet,
        command=opt.typed_command(),
    )
    with Bars() as bars:
        record = inpaint_file(picture, output, mask=mask, options=options, callback=bars.filling)
    _present(record, print_json=print_json)


def face_command(
    picture: PictureArgument,
    mask: MaskOption,
    output: PictureOutput,
    samples: PictureSamples = 1,
    mean: MeanOption = False,
    face: Annotated[int | None, typer.Option(help="Number of the face that is meant, from 1, from the left.")] = None,
    box: Annotated[
        str, typer.Option(help="X,Y,WIDTH,HEIGHT of the face in pixels, brow to chin, where none is found.")
    ] = "",
    whole: Annotated[bool, typer.Option("--whole", help="The picture is the aligned face.")] = False,
    detail: Annotated[str, typer.Option(help="Picture model that refines a large face, or none.")] = "picture-small",
    preset: FacePresetOption = "fast",
    sampler: opt.SamplerOption = None,
    evaluations: opt.EvaluationsOption = None,
    model: opt.Model = "face-small",
    seed: opt.Seed = 0,
    sheet: SheetOption = None,
    device: opt.Device = "auto",
    backend: opt.BackendOption = "auto",
    print_json: opt.PrintJson = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Reconstruct the masked part of a face: find it, bring it upright, fill it, put it back into the photograph."""
    from lacunar.pictures.job import FaceChoice, PictureOptions, fill_face_file

    choice = FaceChoice(index=face, box=_box(box), whole=whole, detail=detail)
    options = PictureOptions(
        model=model,
        preset=preset,
        sampler=sampler,
        evaluations=evaluations,
        samples=samples,
        mean=mean,
        seed=seed,
        device=opt.resolve_device(device),
        backend=backend,
        overwrite=overwrite,
        sheet=sheet,
        command=opt.typed_command(),
    )
    with Bars() as bars:
        record = fill_face_file(picture, output, mask=mask, choice=choice, options=options, callback=bars.filling)
    _present(record, print_json=print_json)


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
    for note in record["notes"]:
        typer.echo(f"note: {note}")
    for path in record["outputs"]:
        typer.echo(f"picture: {path}")
    if record["sheet"]:
        typer.echo(f"sheet:   {record['sheet']}")
