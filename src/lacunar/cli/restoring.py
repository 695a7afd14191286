"""Pictures that a known operator degraded: `restore`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lacunar.cli import faces
from lacunar.cli import options as opt
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError


def restore_command(
    picture: faces.PictureArgument,
    task: Annotated[str, typer.Option(help="superres, deblur, colourise, denoise, inpaint or hdr.")],
    output: faces.PictureOutput,
    scale: Annotated[int, typer.Option(help="superres: how many times as many pixels along a side.")] = 4,
    kernel: Annotated[str, typer.Option(help="superres: how the given pixels came about, box or bicubic.")] = "box",
    blur: Annotated[float, typer.Option(help="deblur: standard deviation of a Gaussian blur, in pixels.")] = 2.0,
    motion: Annotated[str, typer.Option(help="deblur: LENGTH,ANGLE of a motion instead, in pixels and degrees.")] = "",
    noise: Annotated[float, typer.Option(help="Standard deviation of the noise, as a share of white (0 to 1).")] = 0.0,
    stops: Annotated[float, typer.Option(help="hdr: how bright highlights may be, in stops above white.")] = 3.0,
    mask: Annotated[Path | None, typer.Option(help="inpaint: white = to be filled.")] = None,
    samples: faces.PictureSamples = 1,
    mean: faces.MeanOption = False,
    sampler: Annotated[str, typer.Option(help="ddrm, ddnm, diffpir or repaint.")] = "diffpir",
    evaluations: Annotated[int, typer.Option(min=1, help="Network evaluations for each sample.")] = 20,
    model: opt.Model = "face-small",
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    backend: opt.BackendOption = "auto",
    print_json: opt.PrintJson = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Restore a picture that was shrunk, blurred, made grey, noisy, masked or overexposed."""
    from lacunar.pictures.degradation import Degradation
    from lacunar.pictures.job import PictureOptions
    from lacunar.pictures.restore import restore_file

    degradation = Degradation(
        task=task,  # type: ignore[arg-type]
        scale=scale,
        kernel=kernel,  # type: ignore[arg-type]
        blur=blur,
        motion=_motion(motion),
        noise=noise,
        stops=stops,
    )
    options = PictureOptions(
        model=model,
        sampler=sampler,
        evaluations=evaluations,
        samples=samples,
        mean=mean,
        seed=seed,
        device=opt.resolve_device(device),
        backend=backend,
        overwrite=overwrite,
        command=opt.typed_command(),
    )
    with Bars() as bars:
        record = restore_file(
            picture, output, degradation=degradation, mask=mask, options=options, callback=bars.filling
        )
    if print_json:
        typer.echo(json.dumps(record, indent=2))
        return
    typer.echo(
        f"{record['task']}: {record['sampler']}, {record['evaluations_per_sample']} evaluations, "
        f"{record['seconds']:.0f} s"
    )
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
