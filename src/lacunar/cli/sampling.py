"""Samples of a model that is told nothing: `sample`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lacunar.cli import options as opt
from lacunar.cli.progress import Bars


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The options of the command."""

    model: Annotated[str, typer.Argument(help="A shipped model of temperature, faces or pictures, or a model folder.")]
    like: Annotated[Path, typer.Option(help="What is real: an LST raster or product; a picture or a folder of them.")]
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder for the samples and their record.")]
    n: Annotated[int, typer.Option("-n", min=1, help="Samples.")] = 64
    evaluations: Annotated[int, typer.Option(min=1, help="Network evaluations for each sample.")] = 25
    seed: opt.Seed = 0
    device: opt.Device = "auto"
    print_json: opt.PrintJson = False


@opt.expanded
def sample_command(asked: _Asked) -> None:
    """Draw what a model takes for a tile or a picture when it is told nothing, and compare that with what is real."""
    from lacunar.evaluate.report import markdown_table
    from lacunar.evaluate.unconditional import SampleOptions, write_samples

    options = opt.given_to(SampleOptions, asked, device=opt.resolve_device(asked.device))
    with Bars() as bars:
        record = write_samples(asked.output, like=asked.like, options=options, callback=bars.filling)
    if asked.print_json:
        typer.echo(json.dumps(record, indent=2))
        return
    samples, real = (record["compared"][kind] for kind in ("samples", "real"))
    rows = [(name, f"{samples[name]:.4g}", f"{real[name]:.4g}") for name in samples]
    typer.echo(markdown_table(("", f"{record['samples']} samples", f"{record['real']} real"), rows))
    typer.echo(f"folder: {asked.output}")
