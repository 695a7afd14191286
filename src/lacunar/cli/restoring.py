"""Pictures that a known operator degraded: `restore`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lacunar.cli import options as opt
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The options of the command."""

    picture: Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or WebP; 8 or 16 bit; grey or RGB, alpha kept.")]
    task: Annotated[str, typer.Option(help="superres, deblur, colourise, denoise, inpaint or hdr.")]
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Picture to write; of several samples NAME_1, NAME_2, ...")
    ]
    scale: Annotated[int, typer.Option(help="superres: how many times as many pixels along a side.")] = 4
    kernel: Annotated[str, typer.Option(help="superres: how the given pixels came about, box or bicubic.")] = "box"
    blur: Annotated[float, typer.Option(help="deblur: standard deviation of a Gaussian blur, in pixels.")] = 2.0
    motion: Annotated[str, typer.Option(help="deblur: LENGTH,ANGLE of a motion instead, in pixels and degrees.")] = ""
    noise: Annotated[float, typer.Option(help="Standard deviation of the noise, as a share of white (0 to 1).")] = 0.0
    stops: Annotated[float, typer.Option(help="hdr: how bright highlights may be, in stops above white.")] = 3.0
    mask: Annotated[Path | None, typer.Option(help="inpaint: white = to be filled.")] = None
    invert: Annotated[bool, typer.Option("--invert", help="inpaint: black of the mask is filled, white kept.")] = False
    samples: Annotated[int, typer.Option(min=1, help="Different answers.")] = 1
    mean: Annotated[bool, typer.Option("--mean", help="Write the mean of the samples instead of each.")] = False
    sampler: Annotated[str, typer.Option(help="ddrm, ddnm, diffpir or repaint.")] = "diffpir"
    evaluations: Annotated[int, typer.Option(min=1, help="Network evaluations for each sample.")] = 20
    model: opt.Model = "picture-prior"
    seed: opt.Seed = 0
    device: opt.Device = "auto"
    backend: opt.BackendOption = "auto"
    print_json: opt.PrintJson = False
    overwrite: opt.Overwrite = False


@opt.expanded
def restore_command(asked: _Asked) -> None:
    """Restore a picture that was shrunk, blurred, made grey, noisy, masked or overexposed."""
    from lacunar.pictures.degradation import Degradation
    from lacunar.pictures.job import PictureOptions
    from lacunar.pictures.restore import restore_file

    shared = ("task", "scale", "kernel", "blur", "noise", "stops")
    degradation = Degradation(**{name: getattr(asked, name) for name in shared}, motion=_motion(asked.motion))
    options = opt.given_to(PictureOptions, asked, device=opt.resolve_device(asked.device))
    files = (asked.picture, asked.output)
    with Bars() as bars:
        record = restore_file(*files, degradation=degradation, mask=asked.mask, options=options, callback=bars.filling)
    if asked.print_json:
        typer.echo(json.dumps(record, indent=2))
        return
    evaluations, seconds = record["evaluations_per_sample"], record["seconds"]
    typer.echo(f"{record['task']}: {record['sampler']}, {evaluations} evaluations, {seconds:.0f} s")
    for note in record["notes"]:
        typer.echo(f"note: {note}")
    for path in record["outputs"]:
        typer.echo(f"picture: {path}")


def _motion(text: str) -> tuple[int, float] | None:
    if not text:
        return None
    try:
        length, angle = text.split(",")
        return int(length), float(angle)
    except ValueError as error:
        raise LacunarError(f"--motion {text!r}: wanted LENGTH,ANGLE in pixels and degrees, such as 9,45") from error
