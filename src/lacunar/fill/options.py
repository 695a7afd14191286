"""How gaps of a raster are filled, and what is written besides it: one value for library, command and worker."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lacunar.diffusion.samplers import Preset, chosen_preset
from lacunar.errors import LacunarError
from lacunar.models.backend import EngineName, check_engine
from lacunar.plotting import FIGURE_ENDINGS

DEFAULT_MODEL = "lst-small"
ARCHIVE_DATES = 4  # guides from which the archive tells more than kriging with drift; on training places
BackgroundName = Literal["auto", "kriging", "archive"]


@dataclass(frozen=True, kw_only=True)
class FillOptions:
    """How gaps are filled and what is written besides the raster.

    Parameters
    ----------
    model
        A shipped model's name or a model folder.
    preset, samples, seed, device
        How samples are drawn, how many (1 where the preset gives the mean alone), the seed, and where the network runs.
    engine
        What computes the network's answers (`lacunar.models.backend`).
    sampler, evaluations
        Sampler and evaluations for each sample in place of the preset's; sigma is not calibrated for them.
    background
        What the mean starts from: ``kriging`` (with drift where there are guides, the network on top), ``archive`` (EM
        over the dates and a Markov field, which draws the samples itself), or ``auto``: the archive from 4 guides.
    quantiles
        Levels in (0, 1) of the predictive distribution; each becomes a band ``quantile_LEVEL``.
    overwrite
        Replace outputs that exist.
    figure
        Picture to draw (.png, .pdf or .svg), or None.
    truth
        Raster of true values to score the fill against, or None.
    resume
        Keep finished blocks in the hidden folder ``.NAME.blocks`` beside the output until it is whole, and go on from
        those of a run that was interrupted; an output that such a run finished already is left as it is, where
        it wrote all that is asked for.
    command
        What the user typed, for the record.

    Raises
    ------
    LacunarError
        An unknown preset, sampler or engine, fewer samples than one or more than the preset gives, a seed below 0, or a
        figure of another ending.
    """

    model: str = DEFAULT_MODEL
    preset: str | Preset = "fast"
    samples: int = 8
    seed: int = 0
    device: str = "cpu"
    engine: EngineName = "eager"
    sampler: str | None = None
    evaluations: int | None = None
    background: BackgroundName = "auto"
    quantiles: Sequence[float] = ()
    overwrite: bool = False
    figure: Path | None = None
    truth: Path | None = None
    resume: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Check every value before any work is done."""
        check_engine(self.engine)
        if self.background not in get_args(BackgroundName):
            raise LacunarError(f"background {self.background!r}: wanted one of {', '.join(get_args(BackgroundName))}")
        self.chosen.check_samples(self.samples)
        if self.samples < 1 or self.seed < 0:
            raise LacunarError(
                f"{self.samples} samples and seed {self.seed}: wanted 1 sample or more (8 give a mean and a sigma) and "
                "a seed of 0 or more"
            )
        if any(not 0 < level < 1 for level in self.quantiles) or len(set(self.quantiles)) < len(self.quantiles):
            raise LacunarError(
                f"quantiles {list(self.quantiles)}: wanted different levels in (0, 1), such as 0.05,0.95"
            )
        if self.quantiles and self.samples < 2 and not self.chosen.mean_only:
            raise LacunarError("1 sample has no spread to take quantiles from: wanted --samples 2 or more; 8 are usual")
        if self.figure is not None and self.figure.suffix.lower() not in FIGURE_ENDINGS:
            raise LacunarError(f"{self.figure}: wanted a figure in {', '.join(FIGURE_ENDINGS)}: rename it")

    @property
    def chosen(self) -> Preset:
        """How samples are drawn: the preset, or what is asked for in place of it."""
        if isinstance(self.preset, Preset):
            return self.preset
        return chosen_preset(self.preset, self.sampler, self.evaluations)

    def uses_archive(self, guides: int) -> bool:
        """Whether so many guides are taken as an archive of dates."""
        least = {"auto": ARCHIVE_DATES, "archive": 1, "kriging": math.inf}[self.background]
        return self.chosen.conditional and guides >= least

    def record(self, guides: int = 0) -> dict[str, Any]:
        """What a record says of how samples were drawn, beside so many guides."""
        if self.uses_archive(guides):
            return {"background": "archive", "sampler": "Gaussian Markov random field", "samples": self.samples}
        chosen = self.chosen
        name = self.preset.name if isinstance(self.preset, Preset) else self.preset
        said: dict[str, Any] = {"preset": name, "sampler": chosen.sampler, "samples": self.samples}
        if chosen.name != name:
            said["sampler_note"] = f"sigma is not calibrated for {chosen.name}"
        return said
