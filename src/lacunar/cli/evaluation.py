"""How good results are: `evaluate lst`, `evaluate water`, `evaluate face`, `evaluate pictures`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lacunar.cli import options as opt
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.evaluate.task import TaskName

NO_MODEL = "none"
_Models = Annotated[
    list[str], typer.Option("--model", help="Model name or folder; repeat for several; none for no model.")
]
_Rates = Annotated[str, typer.Option(help="Missing rates, by comma.")]
_Samples = Annotated[int, typer.Option(min=1, help="Samples of each fill; their mean and one of them are scored.")]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Score results on truth that is hidden from them.")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Fields have the names of the task's options; None is as usual for the task."""

    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for scores, figures and report.html.")]
    seed: opt.Seed = 0
    device: opt.Device = "auto"
    backend: opt.BackendOption = "eager"
    overwrite: opt.Overwrite = False

    def evaluate(self, task: "TaskName") -> None:
        """Evaluate, save, and print the scores."""
        from lacunar.evaluate.job import evaluate

        given = {name: value for name, value in vars(self).items() if value is not None}
        for name in ("methods", "occlusions"):
            if given.get(name) == "all":
                del given[name]
            elif name in given:
                given[name] = opt.parts_of(given[name])
        if "counts" in given:
            given["counts"] = tuple(int(number) for number in _rates(given["counts"]))
        if "rates" in given:
            given["rates"] = _rates(given["rates"])
        if given.get("models") == [NO_MODEL]:
            given["models"] = []
        given |= {"device": opt.resolve_device(self.device), "command": opt.typed_command()}
        with Bars() as bars:
            found = evaluate(task, callback=bars.evaluating, **given)
        typer.echo(f"{found.markdown()}\n\nreport: {self.output / 'report.html'}")


@dataclass(frozen=True, kw_only=True)
class _FillAsked(_Asked):
    presets: Annotated[
        list[str], typer.Option("--preset", help="fast, balanced, paper or instant; paper:1 for 1 sample; repeatable.")
    ] = field(default_factory=lambda: ["fast"])
    steps: Annotated[
        list[int] | None, typer.Option("--steps", min=1, help="Also with so many DDIM steps; repeat for several.")
    ] = None
    samplers: Annotated[
        list[str] | None,
        typer.Option(
            "--sampler", help="Also this sampler with so many evaluations, such as adams:10; repeat for several."
        ),
    ] = None
    samples: _Samples = 8


@dataclass(frozen=True, kw_only=True)
class _LstAsked(_FillAsked):
    rasters: Annotated[Path | None, typer.Option(help="Folder of clear LST GeoTIFFs in kelvin, named PLACE_*.tif.")] = (
        None
    )
    archive: Annotated[
        Path | None, typer.Option(help="In place of --rasters: dates of one grid, each filled beside others.")
    ] = None
    counts: Annotated[str | None, typer.Option(help="Of an archive: numbers of references, by comma.")] = None
    far: Annotated[
        int | None, typer.Option(min=0, help="Of an archive: days within which references are taken last; 31 if none.")
    ] = None
    every: Annotated[int | None, typer.Option(min=1, help="Of an archive: every n-th date is filled.")] = None
    clouds: Annotated[Path | None, typer.Option(help="Folder of Landsat QA_PIXEL rasters or cloud masks.")] = None
    masks: Annotated[str, typer.Option(help="Gaps: cloud (shapes of --clouds), blobs, box, stripes or half.")] = "cloud"
    rates: Annotated[str | None, typer.Option(help="Missing rates, by comma.")] = None
    size: Annotated[int | None, typer.Option(min=11, help="Side of a case in pixels; 64, of an archive 256.")] = None
    per_raster: Annotated[int, typer.Option(min=1, help="Cases of each raster (or pair) and rate.")] = 4
    methods: Annotated[str, typer.Option(help="Classical fills, by comma, or all; kriging always runs.")] = "all"
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Network; repeat for several; none for no model. lst-small, of an archive none."),
    ] = None
    sigma: Annotated[bool, typer.Option(help="Score the uncertainty of the models too; one sample has none.")] = True
    most_cases: Annotated[
        int | None, typer.Option("--cases", min=1, help="Cases of each rate at most, spread over the dates.")
    ] = None
    references: Annotated[
        int, typer.Option(min=0, help="Pairs of dates of each group, cases beside one other date; 0 = without.")
    ] = 0


@dataclass(frozen=True, kw_only=True)
class _FaceAsked(_FillAsked):
    faces: Annotated[Path, typer.Option(help="Folder of square pictures of aligned faces.")]
    size: Annotated[int, typer.Option(min=11, help="Side to which the pictures are brought, in pixels.")] = 80
    rates: _Rates = "0.15,0.2,0.5"
    occlusions: Annotated[str, typer.Option(help="What hides the faces in turns, by comma, or all of the mix.")] = "all"
    most: Annotated[int | None, typer.Option("--pictures", min=1, help="So many pictures at most.")] = None
    methods: Annotated[str, typer.Option(help="Fills without a network, by comma, or all; biharmonic always runs.")] = (
        "all"
    )
    models: _Models = field(default_factory=lambda: ["face-full"])


@dataclass(frozen=True, kw_only=True)
class _WaterAsked(_Asked):
    scenes: Annotated[Path, typer.Option(help="Folder of images beside NAME_mask.png; subfolders are sets.")]
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Model name, folder or NAME=FOLDER; repeatable; without, indices alone."),
    ] = None
    steps: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Steps of the sampler, as in `lacunar water` if not given; repeat for several."),
    ] = None
    samples: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Samples fused, as in `lacunar water` if not given; repeat for several."),
    ] = None
    methods: Annotated[str, typer.Option(help="Indices with Otsu's threshold, by comma, or all.")] = "all"
    against: Annotated[
        str | None, typer.Option(help="Method that gains are counted from, as tables name it; darkness + Otsu if none.")
    ] = None
    sets: Annotated[list[str] | None, typer.Option("--set", help="Only this set; repeat for several.")] = None
    names: Annotated[Path | None, typer.Option(help="Text file: only images of these names, one on a line.")] = None


@dataclass(frozen=True, kw_only=True)
class _RestorationAsked(_Asked):
    pictures: Annotated[Path, typer.Option(help="Folder of square pictures.")]
    size: Annotated[int, typer.Option(min=16, help="Side to which the pictures are brought, in pixels.")] = 128
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="superres, deblur, colourise, denoise or inpaint; repeatable; all if not given."),
    ] = None
    most: Annotated[int | None, typer.Option("--most", min=1, help="So many pictures at most.")] = None
    models: _Models = field(default_factory=lambda: ["picture-prior"])
    samplers: Annotated[
        list[str], typer.Option("--sampler", help="Sampler and evaluations, such as ddrm:20; repeat for several.")
    ] = field(default_factory=lambda: ["diffpir:20"])
    samples: _Samples = 4


@app.command("lst")
@opt.expanded
def evaluate_lst_command(asked: _LstAsked) -> None:
    """Hide clear LST under cloud shapes, fill it by every method, and report how far each is from the truth."""
    if (asked.rasters is None) == (asked.archive is None):
        raise LacunarError("wanted --rasters FOLDER or --archive FOLDER, one of them")
    task: TaskName = "lst" if asked.archive is None else "archive"
    replace(asked, rasters=asked.rasters or asked.archive, archive=None).evaluate(task)


@app.command("water")
@opt.expanded
def evaluate_water_command(asked: _WaterAsked) -> None:
    """Map the water of scenes whose water is known, by every method, and report how good the maps are."""
    asked.evaluate("water")


@app.command("face")
@opt.expanded
def evaluate_face_command(asked: _FaceAsked) -> None:
    """Hide parts of faces, fill them by every method, and report how far each is from the truth."""
    asked.evaluate("pictures")


@app.command("pictures")
@opt.expanded
def evaluate_pictures_command(asked: _RestorationAsked) -> None:
    """Shrink, blur, hide or grey pictures, or add noise, restore them by every method, and report how good that is."""
    asked.evaluate("restoration")


def _rates(text: str) -> tuple[float, ...]:
    """Numbers by comma."""
    try:
        return tuple(float(part) for part in opt.parts_of(text))
    except ValueError as error:
        raise LacunarError(f"got {text!r}; wanted numbers by comma, such as --rates 0.15,0.22,0.5") from error
