"""What a recipe is, and the one way to run any: data, network, training, scores, calibration, model folder.

A kind of recipe (`lacunar.train.kinds`) says what its data, its network and its objective are, and what its models'
cards say; `run_recipe` does the rest. The recipes themselves are in `lacunar.train.recipes`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import safe_open

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import TrainingError
from lacunar.interpolate.pca_prior import GaussianPrior
from lacunar.interpolate.scaling import Scaling
from lacunar.models.backend import load_filler
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model, SegmentationModel, save_model
from lacunar.models.weights import fit_weights, read_safetensors, sha256_of
from lacunar.networks.segdiff import SegDiff, WaterSegDiff
from lacunar.networks.unet import UNet
from lacunar.train.loop import History, Progress, TrainingConfig, this_process, train
from lacunar.train.objectives import Examples, Objective

WEIGHTS_ENDING = ".safetensors"  # of a file that holds the weights of a recipe's network alone
STUDENT_STEPS = 4  # of a distilled model, where no number is given

AnyModel = Model | SegmentationModel
Network = UNet | WaterSegDiff | SegDiff
Drawing = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Data:
    """What a recipe learns from and is scored on, and the prior of faces where it has one."""

    training: Examples
    held_out: Examples
    prior: GaussianPrior | None = None


@dataclass(frozen=True)
class Start:
    """What a run starts from: random weights, those of a model, or a teacher whose sampling it distils."""

    model: AnyModel | None = None
    student_steps: int | None = None

    @property
    def options(self) -> str:
        """Command-line options that name the start."""
        if self.model is None:
            return ""
        if self.student_steps is None:
            return f" --init-from {self.model.name}"
        return f" --distill {self.model.name} --student-steps {self.student_steps}"

    @property
    def origin(self) -> str:
        """The start in words, for the checkpoint; empty for the recipe alone."""
        return "" if self.model is None else f"{self.options.strip()} (sha256 {self.model.card.sha256[:12]})"

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the card of the new model."""
        if self.model is None:
            return ()
        origin = f"{self.model.name} (sha256 {self.model.card.sha256[:12]}; {self.model.card.command})"
        if self.student_steps is None:
            return (f"started from {origin}",)
        return (
            f"distilled from {origin}: sample it by DDIM in {self.student_steps} steps, where the teacher takes "
            f"{2 * self.student_steps}; its first answer is a sample, no longer the mean",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """What every kind of recipe has."""

    options: ClassVar[frozenset[str]] = frozenset()  # command-line options that only some kinds take
    scaling: ClassVar[Scaling | None] = None

    name: str
    network: Any
    training: TrainingConfig
    schedule: ScheduleName = "cosine"
    num_timesteps: int = 1000
    prediction: Prediction = "v"
    last_step_share: float = 0.2  # of the training items are at the noisiest timestep

    @abstractmethod
    def pack(self, data: Path, clouds: Path | None, destination: Path) -> None:
        """Pack the user's data into the one file that this kind trains from."""

    def adapted(self, pack: Path) -> Self:
        """Return the recipe for what is in the pack; the same, where a kind knows no places."""
        return self

    @abstractmethod
    def load_data(self, pack: Path, folder: Path, workers: int, drawing: Drawing) -> Data:
        """Open the packed data; what is drawn once is kept in the run's folder."""

    def load_start(self, name: str | Path) -> AnyModel:
        """Load a model to start from."""
        return load_filler(name)

    @abstractmethod
    def bare_network(self) -> Network:
        """The network with random weights."""

    @abstractmethod
    def new_network(self, model: AnyModel | None) -> Network:
        """The network as a run starts: with a model's weights where one is given.

        One that does not fit is a ``LacunarError``.
        """

    @abstractmethod
    def objective_of(self, start: Start) -> Objective:
        """What the network is trained towards."""

    @abstractmethod
    def card(self, scores: Mapping[str, float]) -> Card:
        """The model card, without the command, steps and seed, which `run_recipe` adds."""

    def finish(self, network: Network, data: Data) -> Mapping[str, float]:
        """Adjust the trained network; returns the scores that this changes or adds."""
        return {}

    def calibration(self, model: Path, data: Data) -> Mapping[str, Any]:
        """Fields of the card that are fitted to the written model."""
        return {}

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The schedule itself."""
        return NoiseSchedule.named(self.schedule, self.num_timesteps)


def load_start(recipe: Recipe, init_from: str | None, distill: str | None, student_steps: int = STUDENT_STEPS) -> Start:
    """Load the model that a new run starts from, or its teacher; nothing is loaded without either.

    Both, or a teacher of a recipe whose models cannot be distilled, are a ``TrainingError``.
    """
    if init_from and distill:
        raise TrainingError(
            f"--init-from {init_from} and --distill {distill}: a student starts from its teacher; give one of the two"
        )
    if distill and "distill" not in recipe.options:
        raise TrainingError(f"--distill {distill} for {recipe.name}: only a model that fills gaps can be distilled")
    name = distill or init_from
    if init_from and init_from.endswith(WEIGHTS_ENDING):
        return Start(_checkpoint(recipe, Path(init_from)))
    return Start(recipe.load_start(name) if name else None, student_steps if distill else None)


def _checkpoint(recipe: Recipe, file: Path) -> AnyModel:
    """Weights of a recipe's network alone, as a run elsewhere returns them, as a model."""
    network = recipe.bare_network()
    fit_weights(network, read_safetensors(file), source=file)
    card = Card(summary=recipe.name, licence="not known", command=f"weights {file.name}", sha256=sha256_of(file))
    return _model(recipe, network, card, None)


def run_recipe(
    recipe: Recipe,
    pack: Path,
    folder: Path,
    *,
    steps: int | None = None,
    start: Start = Start(),  # frozen
    workers: int = 1,
    callback: Callable[[Progress], None] | None = None,
    drawing: Drawing = None,
) -> tuple[Path, History]:
    """Train a recipe from a file written by its ``pack`` and write its model folder; returns the folder and the losses.

    ``folder`` is the run: what is drawn once, the checkpoint and, at the end, ``model/``. A run that is found there
    goes on. ``steps`` replaces the recipe's; ``workers`` processes draw examples of LST. ``callback`` tells the
    progress of the training, ``drawing`` that of drawing or decoding examples. A pack that does not fit, or a run of
    another configuration, is a ``TrainingError``.
    """
    if steps is not None:
        recipe = replace(recipe, training=replace(recipe.training, steps=steps))
    with _made(folder):
        recipe = recipe.adapted(pack)
        with this_process().main_process_first():  # the others find what the first has drawn
            data = recipe.load_data(pack, folder, workers, drawing)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.training.seed)  # the layers' own initialisation has no generator argument
            network = recipe.new_network(start.model)
        ema, history = train(
            network,
            data.training,
            data.held_out,
            objective=recipe.objective_of(start),
            config=recipe.training,
            folder=folder,
            origin=start.origin,
            callback=callback,
        )
        model = folder / "model"
        if this_process().is_main_process:
            network.load_state_dict(ema.weights)
            scores = history.held_out[-1][1] if history.held_out else {}
            _write(recipe, network, data, partial(_card, recipe, start, steps), scores, model)
    return model, history


def finish_recipe(recipe: Recipe, pack: Path, folder: Path, weights: Path, *, drawing: Drawing = None) -> Path:
    """Score and calibrate weights that were trained elsewhere; returns the model folder with its card.

    ``weights`` is a safetensors file of the recipe's network; one that does not fit is a `LacunarError`. Its metadata
    (``steps``, ``examples``, ``machine``, ``start``) goes into the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = recipe.adapted(pack)
    start = Start(_checkpoint(recipe, weights))
    data = recipe.load_data(pack, folder, 1, drawing)
    network = start.model.network  # type: ignore[union-attr]
    scores = recipe.objective_of(Start()).score(network.eval(), data.held_out, device=torch.device("cpu"))
    with safe_open(weights, "pt") as file:
        told = file.metadata() or {}

    def card(found: Mapping[str, float]) -> Card:
        made = _card(recipe, Start(), None, found)
        notes = [f"{name}: {told[name]}" for name in ("machine", "examples", "start") if told.get(name)]
        command = f"lacunar train {recipe.name} --pack PACK --finish {weights.name}"
        return replace(made, command=command, steps=int(told.get("steps", 0)), notes=(*made.notes, *notes))

    model = folder / "model"
    _write(recipe, network, data, card, scores, model)
    return model


def _write(
    recipe: Recipe,
    network: Network,
    data: Data,
    card: Callable[[Mapping[str, float]], Card],
    scores: Mapping[str, float],
    folder: Path,
) -> None:
    """Finish the trained network, write the model folder, and calibrate it."""
    trained = _model(recipe, network, card({**scores, **recipe.finish(network.eval(), data)}), data.prior)
    save_model(folder, trained, dtype="float16", overwrite=True)
    calibration = recipe.calibration(folder, data)
    if calibration:
        save_model(folder, replace(trained, card=replace(trained.card, **calibration)), dtype="float16", overwrite=True)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder where there is none; what was made goes again where an error leaves it empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first that is not empty ends it
            for path in made:
                path.rmdir()
        raise


def _model(recipe: Recipe, network: Network, card: Card, prior: GaussianPrior | None) -> AnyModel:
    shared: dict[str, Any] = {"schedule": recipe.noise_schedule, "prediction": recipe.prediction, "card": card}
    shared |= {"name": recipe.name, "network": network}
    if recipe.scaling is None:
        return SegmentationModel(**shared)
    return Model(scaling=recipe.scaling, prior=prior, **shared)


def _card(recipe: Recipe, start: Start, steps: int | None, scores: Mapping[str, float]) -> Card:
    card = recipe.card(scores)
    clouds = " --clouds CLOUDS" if "clouds" in recipe.options else ""
    given = (f" --steps {steps}" if steps else "") + start.options
    rounded = {name: round(value, 4) for name, value in scores.items()}
    return replace(
        card,
        command=f"lacunar train {recipe.name} --data DATA{clouds} --pack PACK{given}",
        steps=recipe.training.steps,
        seeds=(recipe.training.seed,),
        scores={"held_out": rounded | dict(card.scores)},
        notes=(*card.notes, *start.notes),
    )
