"""What the recipes of gap filling share: the model that a run starts from, and what it is trained towards."""

import logging
from dataclasses import dataclass
from typing import Generic, Protocol

import torch

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import TrainingError
from lacunar.interpolate.pca_prior import GaussianPrior
from lacunar.models.checkpoint import AnyModel, Model, load_model
from lacunar.models.transfer import transfer_weights
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train.distillation import DistillationObjective
from lacunar.train.loop import TrainingConfig
from lacunar.train.objectives import GapObjective

logger = logging.getLogger(__name__)

PRIOR_PREFIX = "prior_tensors."  # never taken from another model: it is fitted to the recipe's own faces
STUDENT_STEPS = 4  # of a student, where nothing else is asked for


class GapRecipe(Protocol):
    """What an objective needs of a recipe."""

    @property
    def network(self) -> UNetConfig:
        """The network."""

    @property
    def prediction(self) -> Prediction:
        """What the network predicts."""

    @property
    def last_step_share(self) -> float:
        """Share of the training items at the noisiest timestep."""

    @property
    def training(self) -> TrainingConfig:
        """Steps, rates, seed."""


@dataclass(frozen=True)
class Start(Generic[AnyModel]):
    """What a run starts from and learns from.

    Parameters
    ----------
    model
        The model whose weights are the first, in distillation the teacher; None starts from random weights.
    student_steps
        Steps of the student in distillation; None where the examples themselves are learnt.
    """

    model: AnyModel | None
    student_steps: int | None = None

    @property
    def options(self) -> str:
        """The options of the command that name it."""
        if self.model is None:
            return ""
        if self.student_steps is None:
            return f" --init-from {self.model.name}"
        return f" --distill {self.model.name} --student-steps {self.student_steps}"

    @property
    def origin(self) -> str:
        """What the run's checkpoint keeps of it; empty for the recipe alone."""
        return "" if self.model is None else f"{self.options.strip()} (sha256 {self.model.card.sha256[:12]})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the card of the new model says of it."""
        if self.model is None:
            return ()
        origin = f"{self.model.name} (sha256 {self.model.card.sha256[:12]}; {self.model.card.command})"
        if self.student_steps is None:
            return (f"started from {origin}",)
        return (
            f"distilled from {origin}: sample it by DDIM in {self.student_steps} steps, where the teacher takes "
            f"{2 * self.student_steps}; its first answer is a sample, no longer the mean",
        )


def load_start(init_from: str | None, distill: str | None, student_steps: int) -> Start[Model]:
    """Load the model that a new run starts from, which in distillation is its teacher; none without either.

    Raises
    ------
    TrainingError
        Both are given.
    """
    if init_from and distill:
        raise TrainingError(
            f"--init-from {init_from} and --distill {distill}: a student starts from its teacher; give one of the two"
        )
    name = distill or init_from
    return Start(load_model(name) if name else None, student_steps if distill else None)


def new_network(recipe: GapRecipe, start: Model | None, prior: GaussianPrior | None = None) -> UNet:
    """The network at the first step: random weights by the seed, or those of the model to start from.

    Raises
    ------
    TrainingError
        A model of another patch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)  # the layers' own initialisation has no generator argument
        network = UNet(recipe.network)
    if prior is not None and network.prior_tensors is not None:
        network.prior_tensors.take(prior)
    if start is not None:
        if start.network.config.patch != recipe.network.patch:
            raise TrainingError(f"{start.name} has patch {start.network.config.patch}, wanted {recipe.network.patch}")
        own = {name: value.clone() for name, value in network.state_dict().items() if name.startswith(PRIOR_PREFIX)}
        given = {name: v for name, v in start.network.state_dict().items() if not name.startswith(PRIOR_PREFIX)}
        moved = transfer_weights(network, {**given, **own})
        logger.info("from %s: %d weights, widened: %s", start.name, len(moved.loaded), ", ".join(moved.widened) or "-")
    return network


def gap_objective(
    recipe: GapRecipe, schedule: NoiseSchedule, start: Start[Model]
) -> GapObjective | DistillationObjective:
    """What a recipe is trained towards: the examples, or a teacher's answers in half its steps.

    Raises
    ------
    TrainingError
        A teacher of other channels, schedule or prediction.
    """
    teacher = start.model
    if teacher is None or start.student_steps is None:
        return GapObjective(schedule=schedule, prediction=recipe.prediction, last_step_share=recipe.last_step_share)
    if teacher.network.in_channels != recipe.network.in_channels:
        raise TrainingError(
            f"{teacher.name} takes {teacher.network.in_channels} channels, wanted {recipe.network.in_channels} as the "
            "recipe's network: distil a model of this recipe"
        )
    return DistillationObjective.of_model(
        teacher, schedule, recipe.prediction, steps=start.student_steps, precision=recipe.training.mixed_precision
    )
