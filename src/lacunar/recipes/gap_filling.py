"""What the recipes of gap filling share: the model that a run starts from, and what it is trained towards."""

from typing import Protocol

from lacunar.checkpoint import Model, load_model
from lacunar.diffusion import Prediction
from lacunar.distillation import DistillationObjective
from lacunar.errors import TrainingError
from lacunar.networks.unet import UNetConfig
from lacunar.objectives import GapObjective
from lacunar.schedule import NoiseSchedule
from lacunar.training import TrainingConfig


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


def starting_model(init_from: str | None, distill: str | None) -> Model | None:
    """The model that a new run starts from, which in distillation is its teacher; None without either.

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
    return load_model(name) if name else None


def gap_objective(
    recipe: GapRecipe, schedule: NoiseSchedule, teacher: Model | None, student_steps: int
) -> GapObjective | DistillationObjective:
    """What a recipe is trained towards: the examples, or a teacher's answers in half its steps.

    Raises
    ------
    TrainingError
        A teacher of other channels, schedule or prediction.
    """
    if teacher is None:
        return GapObjective(schedule=schedule, prediction=recipe.prediction, last_step_share=recipe.last_step_share)
    if teacher.network.in_channels != recipe.network.in_channels:
        raise TrainingError(
            f"{teacher.name} takes {teacher.network.in_channels} channels, wanted {recipe.network.in_channels} as the "
            "recipe's network: distil a model of this recipe"
        )
    return DistillationObjective.of_model(
        teacher, schedule, recipe.prediction, steps=student_steps, precision=recipe.training.mixed_precision
    )


def start_note(start: Model, distill: str | None, student_steps: int) -> str:
    """What a card says of the model that the run started from."""
    origin = f"{start.name} (sha256 {start.card.sha256[:12]}; {start.card.command})"
    if distill is None:
        return f"started from {origin}"
    return (
        f"distilled from {origin}: sample it by DDIM in {student_steps} steps, where the teacher takes "
        f"{2 * student_steps}; its first answer is a sample, no longer the mean"
    )


def start_options(start: Model | None, distill: str | None, student_steps: int) -> str:
    """The options of the command that name the model to start from."""
    if start is None:
        return ""
    return f" --distill {start.name} --student-steps {student_steps}" if distill else f" --init-from {start.name}"
