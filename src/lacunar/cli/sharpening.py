"""Sharper temperature: `sharpen`."""

from pathlib import Path
from typing import Annotated

import typer

from lacunar.cli import options as opt


def sharpen_command(
    product: Annotated[Path, typer.Argument(help="Landsat product: folder, MTL file or archive.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="GeoTIFF to write: lst and sigma, in kelvin.")],
    factor: Annotated[int, typer.Option(help="Pixels that a sample of the thermal band spans; 3 for Landsat 8/9.")] = 3,
    overwrite: opt.Overwrite = False,
) -> None:
    """Sharpen temperature by the reflectances of its product; means over the sensor's own samples stay as they are."""
    from lacunar.fill.sharpen import sharpen_file

    made = sharpen_file(product, output, factor=factor, overwrite=overwrite)
    typer.echo(f"sharpened {made['sharpened']:.1%} of the pixels by {made['factor']}: {made['output']}")
