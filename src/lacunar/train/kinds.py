"""The kinds of recipes: models that fill gaps of LST, priors of LST, models that fill pictures, segmenters of water."""

import copy
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.errors import TrainingError
from lacunar.fill.array import fill_from_background
from lacunar.fill.options import FillOptions
from lacunar.interpolate.background import Background
from lacunar.interpolate.pca_prior import GaussianPrior, fit_prior
from lacunar.interpolate.scaling import RangeScaling, Scaling, TileScaling
from lacunar.models.backend import load_filler, load_segmenter
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model
from lacunar.models.weights import blind_weights, extend_weights, sha256_of, transfer_weights
from lacunar.networks.efficientnet import PretrainedUNet, weights_package
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train.lst_data import LstDataset, LstExamples, LstTiles, load_lst, make_examples, pack_lst
from lacunar.train.objectives import (
    DenoisingObjective,
    DistillationObjective,
    Objective,
    ObjectiveName,
    SegmentationObjective,
    logit_calibration,
)
from lacunar.train.packs import drawn_once
from lacunar.train.picture_data import (
    FACE_CENTRE,
    FACE_SIDE,
    Framing,
    PictureDataset,
    PicturePack,
    WholePictures,
    cut_square,
    draw_missing,
    load_pictures,
    pack_pictures,
)
from lacunar.train.recipe import AnyModel, Data, Drawing, Network, Recipe, Start
from lacunar.train.water_cover import refit_cover
from lacunar.train.water_data import (
    REPORTED,
    VALIDATED,
    WaterDataset,
    band_ranges,
    decoded_all,
    load_water,
    pack_water,
    split_scenes,
)
from lacunar.train.water_looks import fit_looks

logger = logging.getLogger(__name__)

HELD_OUT_SEED = 1_000_003  # apart from every training seed

CALIBRATION_EXAMPLES = 96  # held-out tiles on which sigma is calibrated
CALIBRATION_SAMPLES = 8
CALIBRATED_PRESETS = ("fast", "balanced", "instant")  # RePaint takes 2410 evaluations
QUANTILE_LEVELS = (0.025, 0.05, 0.1, 0.16, 0.25, 0.5, 0.75, 0.84, 0.9, 0.95, 0.975)
ONE_SIGMA = 0.6827  # share of a normal distribution within one standard deviation

HELD_OUT_FACES = 500  # the last ones of the pack: seen in no training
WATER_EPOCH = 16_384  # examples, each drawn anew in every epoch
WATER_HELD_OUT = 192  # examples
COVER_EXAMPLES = 400  # that the rows of the last layer are fitted to which tell covers apart
# Gain, centre, least and most of what NDWI adds to a logit: a cautious one of the best on the held-out tiles.
NDWI_EVIDENCE = (20.0, -0.05, -4.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class FillingRecipe(Recipe):
    """A U-Net that restores what is missing, or a prior of whole images."""

    network: UNetConfig
    objective: ObjectiveName = "simple"  # "hybrid" teaches a learned variance too
    unconditional_share: float = 0.15  # of the training items, in which everything is missing; RePaint needs them

    def __post_init__(self) -> None:
        if (self.objective == "hybrid") != self.network.learned_variance:
            raise TrainingError(
                f"recipe {self.name}: objective {self.objective} and learned_variance "
                f"{self.network.learned_variance}; hybrid teaches a learned variance, simple teaches none"
            )

    def bare_network(self) -> UNet:
        """The U-Net."""
        return UNet(self.network)

    def new_network(self, model: AnyModel | None) -> UNet:
        """The U-Net; channels that a model lacks start at zero; a prior starts from what a model knows blindly."""
        network = self.bare_network()
        if model is not None:
            if not isinstance(model.network, UNet) or model.network.config.patch != self.network.patch:
                raise TrainingError(f"{model.name} does not fit: wanted a U-Net of patch {self.network.patch}")
            alone = self.network.in_channels == self.network.out_channels < model.network.in_channels
            given = blind_weights(model.network) if alone else model.network.state_dict()
            moved = transfer_weights(network, given)
            widened = ", ".join(moved.widened) or "-"
            logger.info("from %s: %d weights, widened: %s", model.name, len(moved.loaded), widened)
        return network

    def objective_of(self, start: Start) -> Objective:
        """The examples themselves, or a teacher's answers in half its steps."""
        schedule, prediction = self.noise_schedule, self.prediction
        if start.model is None or start.student_steps is None:
            return DenoisingObjective(
                schedule=schedule,
                prediction=prediction,
                objective=self.objective,
                last_step_share=self.last_step_share,
            )
        teacher = start.model
        if not isinstance(teacher, Model) or teacher.network.in_channels != self.network.in_channels:
            raise TrainingError(
                f"{teacher.name} does not take the {self.network.in_channels} channels of the recipe's network: distil "
                "a model of this recipe"
            )
        if not np.array_equal(teacher.schedule.betas, schedule.betas) or teacher.prediction != prediction:
            raise TrainingError(
                f"{teacher.name} predicts {teacher.prediction} over {teacher.schedule.num_timesteps} steps, wanted "
                f"{prediction} over the recipe's own {schedule.num_timesteps}: distil a model of this recipe"
            )
        return DistillationObjective(
            schedule=schedule,
            prediction=prediction,
            teacher=copy.deepcopy(teacher.network),
            steps=start.student_steps,
            teacher_precision=self.training.mixed_precision,
        )


@dataclass(frozen=True, kw_only=True)
class LstRecipe(FillingRecipe):
    """A model that fills gaps of LST; the places it is trained on and those held out must not meet."""

    options: ClassVar[frozenset[str]] = frozenset({"clouds", "workers", "distill"})
    scaling: ClassVar[Scaling | None] = TileScaling()

    weights: Mapping[str, float]  # share of the examples from each place
    held_out_weights: Mapping[str, float]
    examples: int = 10_000
    held_out_examples: int = 512
    data: tuple[str, ...] = ("Landsat 8/9 Collection 2 surface temperature", "ECOSTRESS L2 LSTE v2", "ASTER LST")
    licence: str = "Apache-2.0; trained on free and open imagery of USGS (Landsat) and NASA (ECOSTRESS, ASTER)"

    def __post_init__(self) -> None:
        super().__post_init__()
        shared = sorted(set(self.weights) & set(self.held_out_weights))
        if shared:
            raise TrainingError(f"recipe: {', '.join(shared)} both trained on and held out; split by place")

    def pack(self, data: Path, clouds: Path | None, destination: Path) -> None:
        """Pack rasters and cloud masks."""
        pack_lst(data, clouds, destination)

    def adapted(self, pack: Path) -> Self:
        """For a pack of other places: all alike, every fourth held out, beginning with the first.

        A pack of one place is a ``TrainingError``: nothing would be left to score on.
        """
        places = sorted(set(load_lst(pack).places))
        if set(places) & {*self.weights, *self.held_out_weights}:
            return self
        if len(places) < 2:
            raise TrainingError(
                f"the pack holds the place {places[0]} alone: wanted two or more, since a model is scored on "
                "places that it was not trained on; files are named PLACE_anything.tif"
            )
        held_out = places[::4]
        training = [place for place in places if place not in held_out]
        return replace(
            self,
            weights=dict.fromkeys(training, 1.0),
            held_out_weights=dict.fromkeys(held_out, 1.0),
            data=("rasters of the user",),
            licence="not known: what the rasters that it was trained on allow",
        )

    def load_data(self, pack: Path, folder: Path, workers: int, drawing: Drawing) -> Data:
        """Gap-filling examples of the training and of the held-out places, kriged once."""
        rasters, digest, seed = load_lst(pack), sha256_of(pack), self.training.seed

        def drawn(label: str, weights: Mapping[str, float], count: int, seed: int) -> LstExamples:
            given = {"count": count, "size": self.network.sample_size, "seed": seed}
            origin = {"pack": digest, "weights": dict(weights), **given}
            make = partial(make_examples, rasters, weights, **given, workers=workers, progress=drawing)
            return LstExamples(**drawn_once(folder / f"{label}.npz", origin, lambda: vars(make())))

        training = drawn("examples", self.weights, self.examples, seed)
        held_out = drawn("held_out", self.held_out_weights, self.held_out_examples, HELD_OUT_SEED)
        return Data(
            LstDataset(training, unconditional_share=self.unconditional_share, augment=True, seed=seed),
            LstDataset(held_out, unconditional_share=0.0, augment=False, seed=seed),
        )

    def card(self, scores: Mapping[str, float]) -> Card:
        """The model card."""
        ratio = (
            "held_out / rmse_ratio: error of one network evaluation over that of the kriging that it starts from, on "
            "tiles of places that it was not trained on"
        )
        return Card(
            summary="Gap filling of land surface temperature: the residual over kriging, by conditional diffusion.",
            licence=self.licence,
            data=self.data,
            places=tuple(self.weights),
            scores={"places": list(self.held_out_weights)},
            notes=(
                *([ratio] if "rmse_ratio" in scores else []),
                f"sigma_factor and error_quantiles were fitted on {CALIBRATION_EXAMPLES} of these tiles, with "
                f"{CALIBRATION_SAMPLES} samples; those of instant, which gives the mean alone, are of kriging's sigma",
            ),
        )

    def calibration(self, model: Path, data: Data) -> Mapping[str, Any]:
        """Factor of sigma and quantiles of the errors, for each preset that is cheap enough."""
        assert isinstance(data.held_out, LstDataset)
        loaded, factors = load_filler(model), dict[str, float]()
        quantiles: dict[str, dict[str, float]] = {}
        for preset in CALIBRATED_PRESETS:
            errors = held_out_errors(loaded, data.held_out.examples, PRESETS[preset])
            factors[preset] = round(float(np.quantile(np.abs(errors), ONE_SIGMA)), 3)
            found = np.maximum.accumulate(np.quantile(errors / factors[preset], QUANTILE_LEVELS))
            quantiles[preset] = {str(q): round(float(v), 3) for q, v in zip(QUANTILE_LEVELS, found, strict=True)}
        return {"sigma_factor": factors, "error_quantiles": quantiles}


def held_out_errors(model: Model, held_out: LstExamples, preset: Preset) -> NDArray[np.float64]:
    """Errors of the mean where held-out pixels are missing, in units of the samples' sigma, or of kriging's."""
    errors = []
    for index in range(min(CALIBRATION_EXAMPLES, len(held_out.z))):
        parts = (held_out.z, held_out.mean, held_out.sigma, held_out.guide)
        z, mean, sigma, guide = (part[index].astype(np.float64) for part in parts)
        missing, truth = sigma > 0, mean + sigma * z
        background = Background(mean, sigma, guide, coarse_tiles=0)
        options = FillOptions(preset=preset, samples=1 if preset.mean_only else CALIBRATION_SAMPLES, seed=index)
        filled = fill_from_background(background, truth, ~missing, missing, model, options)
        error = (truth - filled.mean)[missing]
        errors.append(error / np.maximum(filled.sigma[missing], np.finfo(np.float32).tiny))
    return np.concatenate(errors)


@dataclass(frozen=True, kw_only=True)
class LstPriorRecipe(LstRecipe):
    """An unconditional prior of whole LST tiles, which RePaint holds to what is known."""

    options: ClassVar[frozenset[str]] = frozenset()

    def load_data(self, pack: Path, folder: Path, workers: int, drawing: Drawing) -> Data:
        """Whole tiles, drawn anew all the time; ``examples`` is the length of an epoch."""
        rasters, size = load_lst(pack), self.network.sample_size
        seed, held_out = self.training.seed, self.held_out_weights
        return Data(
            LstTiles(rasters, self.weights, size=size, length=self.examples, augment=True, seed=seed),
            LstTiles(rasters, held_out, size=size, length=self.held_out_examples, augment=False, seed=HELD_OUT_SEED),
        )

    def card(self, scores: Mapping[str, float]) -> Card:
        """The model card."""
        bound = "held_out / vlb: L_vlb in bits per value of standardised tiles, summed over the schedule"
        return replace(
            super().card(scores),
            summary="Unconditional prior of land surface temperature with learned variance, for RePaint.",
            notes=((bound,) if "vlb" in scores else ()),
        )

    def calibration(self, model: Path, data: Data) -> Mapping[str, Any]:
        """None: RePaint takes thousands of evaluations."""
        return {}


@dataclass(frozen=True, kw_only=True)
class PictureRecipe(FillingRecipe):
    """A model that fills what is missing in pictures."""

    options: ClassVar[frozenset[str]] = frozenset({"distill"})
    scaling: ClassVar[Scaling | None] = RangeScaling()

    framing: Framing
    summary: str  # what the model is for
    texture_share: float = 0.0  # of the training items, which show a texture in place of a face
    variation: float = 1.0  # how much the items are varied
    shapes: int = 12_000  # occlusions drawn for training
    held_out_examples: int = 128
    unconditional_share: float = 0.1
    prior_components: int = 0  # of the Gaussian prior of faces that the diffusion starts from; 0 = no prior

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.held_out_examples > HELD_OUT_FACES:
            raise TrainingError(f"recipe: held_out_examples is {self.held_out_examples}, wanted up to {HELD_OUT_FACES}")

    def pack(self, data: Path, clouds: Path | None, destination: Path) -> None:
        """Pack faces and textures."""
        pack_pictures(data, destination)

    def load_data(self, pack: Path, folder: Path, workers: int, drawing: Drawing) -> Data:
        """Faces and textures; occlusions and the prior of faces are made once."""
        pictures, side, seed = load_pictures(pack), self.network.sample_size, self.training.seed
        if len(pictures.faces) <= HELD_OUT_FACES:
            raise TrainingError(f"got {len(pictures.faces)} faces, wanted more than the {HELD_OUT_FACES} held out")
        faces, held_out = pictures.faces[:-HELD_OUT_FACES], pictures.faces[-HELD_OUT_FACES:][: self.held_out_examples]
        prior = self._prior(faces, folder) if self.prior_components else None
        origin = {"count": self.shapes, "side": side, "seed": seed}

        def draw() -> dict[str, NDArray[Any]]:
            return {"missing": np.packbits(draw_missing(self.shapes, side, seed=seed, progress=drawing), axis=2)}

        packed = drawn_once(folder / "missing.npz", origin, draw)["missing"]
        dataset = partial(PictureDataset, framing=self.framing, seed=seed, prior=prior)
        training = dataset(
            PicturePack(faces, pictures.textures),
            np.unpackbits(packed, axis=2, count=side).astype(bool),
            texture_share=self.texture_share,
            unconditional_share=self.unconditional_share,
            variation=self.variation,
        )
        shapes = draw_missing(self.held_out_examples, side, seed=HELD_OUT_SEED)
        scored = dataset(
            PicturePack(held_out, pictures.textures), shapes, texture_share=0.0, unconditional_share=0.0, variation=0.0
        )
        return Data(training, scored, prior)

    def _prior(self, faces: NDArray[np.uint8], folder: Path) -> GaussianPrior:
        size, count, seed = self.network.sample_size, self.prior_components, self.training.seed
        digest = hashlib.sha256(np.ascontiguousarray(faces).data).hexdigest()
        origin = {"faces": digest, "size": size, "components": count, "seed": seed}

        def fit() -> dict[str, NDArray[Any]]:
            squares = np.stack([cut_square(face, FACE_CENTRE, FACE_SIDE, size=size) for face in faces])
            return {name: np.asarray(value) for name, value in vars(fit_prior(squares, count, seed=seed)).items()}

        stored = drawn_once(folder / "prior.npz", origin, fit)
        return GaussianPrior(stored["mean"], stored["components"], stored["variances"], float(stored["noise"]))

    def card(self, scores: Mapping[str, float]) -> Card:
        """The model card."""
        ratio = (
            "held_out / rmse_ratio: error of one network evaluation over that of the classical fill that it starts "
            f"from, on {self.held_out_examples} pictures that it was not trained on, 3 to 70 % missing"
        )
        textures = ("Sentinel-2 and tundra pictures of water bodies (RGB)",) if self.texture_share else ()
        return Card(
            summary=self.summary,
            licence="Non-commercial research only: trained on CelebA (Liu et al. 2015), whose terms these are. The "
            "code is Apache-2.0.",
            data=("CelebA, aligned, half size (89 x 109)", *textures),
            notes=(
                *([ratio] if "rmse_ratio" in scores else []),
                f"the last {HELD_OUT_FACES} pictures of the pack are held out; a person may be on both sides",
                "faces of CelebA are those of celebrities, most of them young and light-skinned: it restores others "
                "worse",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class PicturePriorRecipe(PictureRecipe):
    """An unconditional prior of whole pictures, which samplers hold to what was measured."""

    options: ClassVar[frozenset[str]] = frozenset()

    def load_data(self, pack: Path, folder: Path, workers: int, drawing: Drawing) -> Data:
        """Squares cut anywhere, drawn anew all the time."""
        pictures, size, seed = load_pictures(pack), self.network.sample_size, self.training.seed
        faces, held_out = pictures.faces[:-HELD_OUT_FACES], pictures.faces[-HELD_OUT_FACES:][: self.held_out_examples]
        return Data(
            WholePictures(
                PicturePack(faces, pictures.textures), size, self.texture_share, variation=self.variation, seed=seed
            ),
            WholePictures(PicturePack(held_out, pictures.textures), size, 0.0, variation=0.0, seed=HELD_OUT_SEED),
        )


@dataclass(frozen=True, kw_only=True)
class WaterRecipe(Recipe):
    """A segmenter of water, which predicts x_0: the mask."""

    network: SegmenterConfig
    shares: Mapping[str, float]  # of the examples, from each set of scenes
    size: int = 128  # pixels: side of an example
    prediction: Prediction = "x_0"
    last_step_share: float = 0.3

    def pack(self, data: Path, clouds: Path | None, destination: Path) -> None:
        """Pack scenes with their masks."""
        pack_water(data, destination)

    def load_data(self, pack: Path, folder: Path, workers: int, drawing: Drawing) -> Data:
        """Crops of scenes, split by their names."""
        parts = split_scenes(load_water(pack))
        decoded_all([*parts.training, *parts.validation], drawing)
        sets, size, seed = {scene.set_name for scene in parts.validation}, self.size, self.training.seed
        shares = {name: share for name, share in self.shares.items() if name in sets}
        return Data(
            WaterDataset(parts.training, self.shares, size=size, length=WATER_EPOCH, augment=True, seed=seed),
            WaterDataset(parts.validation, shares, size=size, length=WATER_HELD_OUT, augment=False, seed=HELD_OUT_SEED),
        )

    def load_start(self, name: str | Path) -> AnyModel:
        """Load a segmenter, such as the condition U-Net of WaterSegDiff trained alone."""
        return load_segmenter(name)

    def bare_network(self) -> Network:
        """The segmenter."""
        return build_segmenter(self.network)

    def new_network(self, model: AnyModel | None) -> Network:
        """The segmenter, with a part of its weights from a model or from a pretrained encoder."""
        network = self.bare_network()
        reader = getattr(network, "condition_unet", None)
        if model is not None:
            extend_weights(network, model.network.state_dict())
        elif isinstance(reader, PretrainedUNet):
            reader.load_imagenet()
        return network

    def finish(self, network: Network, data: Data) -> Mapping[str, float]:
        """Calibrate a plain segmenter with a pretrained encoder, in its last layer, and score it again."""
        reader = getattr(network, "condition_unet", None)
        if self.network.diffusion or not isinstance(reader, PretrainedUNet):
            return {}
        device = next(network.parameters()).device
        told = {}
        if len(self.network.classes) > 1:
            told["cover_entropy"] = refit_cover(reader, data.training, COVER_EXAMPLES, seed=HELD_OUT_SEED)
        scale, shift = logit_calibration(lambda image: reader(image).logits[:, :1], data.held_out, device=device)
        reader.calibrate(scale, shift)
        scores = self.objective_of(Start()).score(network, data.held_out, device=device)
        return scores | {"logit_scale": scale, "logit_shift": shift} | told

    def calibration(self, model: Path, data: Data) -> Mapping[str, Any]:
        """Values that it saw; of a plain segmenter with a pretrained encoder weights of its looks, and of NDWI, too."""
        assert isinstance(data.training, WaterDataset)
        assert isinstance(data.held_out, WaterDataset)
        ranges = {"ranges": band_ranges(data.training.sets)}
        if self.network.diffusion or self.network.encoder == "unet":
            return ranges
        scenes = [scene for found in data.held_out.sets.values() for scene in found]
        looks = fit_looks(load_segmenter(model), scenes, seed=HELD_OUT_SEED)
        return ranges | {"looks": looks, "ndwi": NDWI_EVIDENCE}

    def objective_of(self, start: Start) -> Objective:
        """Masks from noise, and the image's own logits."""
        return SegmentationObjective(
            schedule=self.noise_schedule,
            mask_scale=self.network.mask_scale,
            diffuses=self.network.diffusion,
            last_step_share=self.last_step_share,
        )

    def card(self, scores: Mapping[str, float]) -> Card:
        """The model card."""
        counts = {name: held if isinstance(held, int) else len(held) for name, held in VALIDATED.items()}
        validated = ", ".join(f"{count} scenes of {name}" for name, count in counts.items())
        reported = ", ".join(f"{count} of {name}" for name, count in REPORTED.items())
        own = self.network.encoder
        encoder = "" if own == "unet" else f"; its encoder started from the ImageNet weights of {weights_package(own)}"
        calibrated = "probabilities are calibrated on those crops, by logit_scale and logit_shift in the last layer"
        return Card(
            summary=f"Segments lakes and rivers in images of three to six bands: {_described(self.network)}."
            + (f" Tells {', '.join(others)} apart, too." if (others := self.network.classes[1:]) else ""),
            licence="Apache-2.0; trained on free and open Sentinel-2 (Copernicus) and Landsat (USGS) imagery with "
            f"public water masks{encoder + ' (Apache-2.0)' if encoder else ''}",
            data=tuple(self.shares),
            notes=(
                "input: six bands (blue, green, red, nir, swir1, swir2), any of them absent, divided by the 98th "
                "percentile of the whole image",
                f"held out by name: {validated}; and for reported figures {reported}",
                "held_out: crops of scenes that it was not trained on; anchor_iou is that of the image's own logits",
                *([calibrated] if "logit_scale" in scores else []),
                *([TEACHER] if len(self.network.classes) > 1 else []),
            ),
        )


TEACHER = (
    "what is not water was labelled by ukis-csmask 0.2.1 (Apache-2.0) on scenes of six bands, or pasted; elsewhere "
    "land counts as clear"
)
ENCODER_NAMES = {"efficientnet-lite0": "EfficientNet-Lite0", "efficientnet-lite2": "EfficientNet-Lite2"}


def _described(config: SegmenterConfig) -> str:
    if config.kind == "segdiff":
        return "diffusion (SegDiff)"
    if not config.diffusion:
        return "a plain U-Net" + ("" if config.encoder == "unet" else f" on {ENCODER_NAMES[config.encoder]}")
    missing = [part for part, there in (("U-SA", config.anchor), ("SS-Former", config.ss_former)) if not there]
    return "diffusion (WaterSegDiff" + "".join(f" without {part}" for part in missing) + ")"
