"""How good results are: `evaluate lst`, `evaluate water`, `evaluate face`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lacunar.cli.options import BackendOption, Device, Overwrite, Seed, parts_of, resolve_device, typed_command
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.evaluate.task import TaskName

NO_MODEL = "none"
ModelsOption = Annotated[
    list[str], typer.Option("--model", help="Model name or folder; repeat for several; none for no model.")
]
PresetsOption = Annotated[
    list[str], typer.Option("--preset", help="fast, balanced, paper or instant; paper:1 for 1 sample; repeatable.")
]
StepsOption = Annotated[
    list[int] | None, typer.Option("--steps", min=1, help="Also with so many DDIM steps; repeat for several.")
]
SamplersOption = Annotated[
    list[str] | None,
    typer.Option("--sampler", help="Also this sampler with so many evaluations, such as adams:10; repeat for several."),
]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Score results on truth that is hidden from them.")


@app.command("lst")
def evaluate_lst_command(
    rasters: Annotated[Path, typer.Option(help="Folder of clear LST GeoTIFFs in kelvin, named PLACE_*.tif.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for scores, figures and report.html.")],
    clouds: Annotated[Path | None, typer.Option(help="Folder of Landsat QA_PIXEL rasters or cloud masks.")] = None,
    masks: Annotated[
        str, typer.Option(help="Gaps: cloud (shapes of --clouds), blobs, box, stripes or half.")
    ] = "cloud",
    rates: Annotated[str, typer.Option(help="Missing rates, by comma.")] = "0.15,0.22,0.5",
    size: Annotated[int, typer.Option(min=11, help="Side of a case in pixels.")] = 64,
    per_raster: Annotated[int, typer.Option(min=1, help="Cases of each raster (or pair) and rate.")] = 4,
    methods: Annotated[str, typer.Option(help="Classical fills, by comma, or all; kriging always runs.")] = "all",
    model: ModelsOption = ["lst-small"],  # noqa: B006
    preset: PresetsOption = ["fast"],  # noqa: B006
    steps: StepsOption = None,
    sampler: SamplersOption = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples of each fill; their mean is scored.")] = 8,
    sigma: Annotated[bool, typer.Option(help="Score the uncertainty of the models too; one sample has none.")] = True,
    cases: Annotated[int | None, typer.Option(min=1, help="Cases of each rate at most, spread over the dates.")] = None,
    references: Annotated[
        int, typer.Option(min=0, help="Pairs of dates of each group, cases beside one other date; 0 = without.")
    ] = 0,
    seed: Seed = 0,
    device: Device = "auto",
    backend: BackendOption = "eager",
    overwrite: Overwrite = False,
) -> None:
    """Hide clear LST under cloud shapes, fill it by every method, and report how far each is from the truth."""
    _evaluate(
        "lst",
        output,
        overwrite=overwrite,
        rasters=rasters,
        clouds=clouds,
        masks=masks,
        rates=_rates(rates),
        size=size,
        per_raster=per_raster,
        methods=_names(methods),
        models=_models(model),
        presets=preset,
        steps=steps,
        samplers=sampler,
        samples=samples,
        sigma=sigma,
        most_cases=cases,
        references=references,
        seed=seed,
        device=device,
        backend=backend,
    )


@app.command("water")
def evaluate_water_command(
    scenes: Annotated[Path, typer.Option(help="Folder of images beside NAME_mask.png; subfolders are sets.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for scores, figures and report.html.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model name, folder or NAME=FOLDER; repeatable; without, indices alone.")
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Steps of the sampler, as in `lacunar water` if not given; repeat for several."),
    ] = None,
    samples: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Samples fused, as in `lacunar water` if not given; repeat for several."),
    ] = None,
    methods: Annotated[str, typer.Option(help="Indices with Otsu's threshold, by comma, or all.")] = "all",
    against: Annotated[
        str | None, typer.Option(help="Method that gains are counted from, as tables name it; darkness + Otsu if none.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this set; repeat for several.")] = None,
    names: Annotated[Path | None, typer.Option(help="Text file: only images of these names, one on a line.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    backend: BackendOption = "eager",
    overwrite: Overwrite = False,
) -> None:
    """Map the water of scenes whose water is known, by every method, and report how good the maps are."""
    _evaluate(
        "water",
        output,
        overwrite=overwrite,
        scenes=scenes,
        models=model,
        steps=steps,
        samples=samples,
        methods=_names(methods),
        against=against,
        sets=only,
        names=names,
        seed=seed,
        device=device,
        backend=backend,
    )


@app.command("face")
def evaluate_face_command(
    faces: Annotated[Path, typer.Option(help="Folder of square pictures of aligned faces.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for scores, figures and report.html.")],
    size: Annotated[int, typer.Option(min=11, help="Side to which the pictures are brought, in pixels.")] = 64,
    rates: Annotated[str, typer.Option(help="Missing rates, by comma.")] = "0.15,0.2,0.5",
    occlusions: Annotated[
        str, typer.Option(help="What hides the faces in turns, by comma, or all of the mix.")
    ] = "all",
    pictures: Annotated[int | None, typer.Option(min=1, help="So many pictures at most.")] = None,
    methods: Annotated[str, typer.Option(help="Fills without a network, by comma, or all; biharmonic always runs.")] = (
        "all"
    ),
    model: ModelsOption = ["face-small"],  # noqa: B006
    detail: Annotated[str, typer.Option(help="Picture model that refines sizes above the model's.")] = "picture-small",
    preset: PresetsOption = ["fast"],  # noqa: B006
    steps: StepsOption = None,
    sampler: SamplersOption = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Samples of each fill; their mean and one of them are scored.")
    ] = 8,
    seed: Seed = 0,
    device: Device = "auto",
    backend: BackendOption = "eager",
    overwrite: Overwrite = False,
) -> None:
    """Hide parts of faces, fill them by every method, and report how far each is from the truth."""
    _evaluate(
        "pictures",
        output,
        overwrite=overwrite,
        faces=faces,
        size=size,
        rates=_rates(rates),
        occlusions=_names(occlusions),
        most=pictures,
        methods=_names(methods),
        models=_models(model),
        detail=detail,
        presets=preset,
        steps=steps,
        samplers=sampler,
        samples=samples,
        seed=seed,
        device=device,
        backend=backend,
    )


def _evaluate(task: "TaskName", output: Path, *, overwrite: bool, device: str, **options: object) -> None:
    """Evaluate, save, and print the scores; what is None is as usual for the task."""
    from lacunar.evaluate.job import evaluate

    given = {name: value for name, value in options.items() if value is not None}
    given |= {"output": output, "device": resolve_device(device), "command": typed_command()}
    with Bars() as bars:
        found = evaluate(task, overwrite=overwrite, callback=bars.evaluating, **given)  # type: ignore[arg-type]
    typer.echo(f"{found.markdown()}\n\nreport: {output / 'report.html'}")


def _names(text: str) -> list[str] | None:
    return None if text == "all" else parts_of(text)


def _models(names: list[str]) -> list[str]:
    return [] if names == [NO_MODEL] else names


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in parts_of(text))
    except ValueError as error:
        raise LacunarError(f"--rates has {text!r}; wanted shares by comma, such as 0.15,0.22,0.5") from error
