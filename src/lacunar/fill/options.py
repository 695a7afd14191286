"""How missing pixels are filled: one value for library, command line and cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from lacunar.diffusion.samplers import Preset, chosen_preset
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.models.backend import BackendName
    from lacunar.models.checkpoint import Model

DEFAULT_MODEL = "lst-small"
ARCHIVE_DATES = 4  # guides from which no network is asked, whatever the preset
SuspectChoice = Literal["report", "fill", "keep"]
BackgroundName = Literal["auto", "field", "kriging"]
WITHOUT_NETWORK = ("fast", "instant")  # presets for which the field of the raster draws the samples


@dataclass(frozen=True, kw_only=True)
class FillOptions:
    """All numbers that a fill depends on beside its input; no file to write.

    Raises `LacunarError`: an unknown name, a number out of range, or more samples than the preset gives.
    """

    # a shipped model's name or a model folder; None: none for fast and instant, lst-small for the other presets
    model: str | None = None
    device: str = "cpu"
    backend: "BackendName" = "eager"
    preset: str | Preset = "fast"
    # sampler, evaluations (of the network, for each sample): in place of the preset's; sigma is not calibrated for them
    sampler: str | None = None
    evaluations: int | None = None
    # field (a Markov field, with EM over the guides, which draws the samples itself), kriging (with drift of the guides
    # and the network on top), or auto: field where no network or sampler is named or with 4 guides or more
    background: BackgroundName = "auto"
    samples: int = 8  # 1 for a preset that gives the mean alone
    seed: int = 0
    quantiles: Sequence[float] = ()  # levels in (0, 1) of the predictive distribution
    # measured pixels that look like cloud (`lacunar.interpolate.suspects`; kelvin): told, filled, or not looked for
    suspect: SuspectChoice = "keep"
    realisations: bool = False  # give the samples too, two or more

    def __post_init__(self) -> None:
        if self.backend not in ("auto", "eager"):  # to look at others loads PyTorch, which a fill may do without
            from lacunar.models.backend import check_backend

            check_backend(self.backend, self.chosen)
        if self.background not in get_args(BackgroundName):
            raise LacunarError(f"background {self.background!r}: wanted one of {', '.join(get_args(BackgroundName))}")
        if self.suspect not in get_args(SuspectChoice):
            raise LacunarError(f"suspect {self.suspect!r}: wanted one of {', '.join(get_args(SuspectChoice))}")
        self.chosen.check_samples(self.samples)
        if self.background == "field" and not self.chosen.conditional:
            raise LacunarError(f"background field has no place for preset {self.chosen.name}: leave one of them out")
        if self.samples < 1 or self.seed < 0:
            raise LacunarError(
                f"{self.samples} samples and seed {self.seed}: wanted 1 sample or more (8 give a mean and a sigma) and "
                "a seed of 0 or more"
            )
        if any(not 0 < level < 1 for level in self.quantiles) or len(set(self.quantiles)) < len(self.quantiles):
            raise LacunarError(
                f"quantiles {list(self.quantiles)}: wanted different levels in (0, 1), such as 0.05,0.95"
            )
        if self.realisations and self.samples < 2:
            raise LacunarError("1 realisation has no spread: wanted 2 or more, of a preset that draws samples (fast)")
        if self.quantiles and self.samples < 2 and not self.chosen.mean_only:
            raise LacunarError("1 sample has no spread to take quantiles from: wanted --samples 2 or more; 8 are usual")

    @property
    def chosen(self) -> Preset:
        """How samples are drawn: the preset, or what is asked for in place of it."""
        if isinstance(self.preset, Preset):
            return self.preset
        return chosen_preset(self.preset, self.sampler, self.evaluations)

    @property
    def network(self) -> str:
        """The model's name or folder, where one is used."""
        return self.model or DEFAULT_MODEL

    def load(self, guides: int = 0) -> "Model | None":
        """The model, where one is used beside so many guides."""
        return None if self.uses_field(guides) else self.load_network()

    def load_network(self) -> "Model":
        """The model on its device, with its backend."""
        from lacunar.models.backend import load_filler

        return load_filler(self.network, device=self.device, backend=self.backend)

    def uses_field(self, guides: int) -> bool:
        """Whether the field of the raster tells everything, without a network."""
        if self.background != "auto":
            return self.background == "field"
        asked = self.model or self.sampler or self.evaluations or self.preset not in WITHOUT_NETWORK
        return self.chosen.conditional and (guides >= ARCHIVE_DATES or not asked)

    def record(self, guides: int = 0) -> dict[str, Any]:
        """What a sidecar says of how samples were drawn, beside so many guides."""
        if self.uses_field(guides):
            samples = 0 if self.chosen.mean_only else self.samples
            return {"background": "field", "sampler": "Gaussian Markov random field", "samples": samples}
        chosen = self.chosen
        name = self.preset.name if isinstance(self.preset, Preset) else self.preset
        said: dict[str, Any] = {"preset": name, "sampler": chosen.sampler, "samples": self.samples}
        if chosen.name != name:
            said["sampler_note"] = f"sigma is not calibrated for {chosen.name}"
        return said
