"""The frozen recipes: what ``lacunar train NAME`` runs, and how every shipped model was made."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from lacunar.networks.segdiff import SegmenterConfig
from lacunar.networks.unet import UNetConfig
from lacunar.train.kinds import LstPriorRecipe, LstRecipe, PicturePriorRecipe, PictureRecipe, WaterRecipe
from lacunar.train.loop import TrainingConfig
from lacunar.train.recipe import Recipe

# --- land surface temperature ---

LST_WEIGHTS = MappingProxyType({"losangeles": 0.35, "newyork": 0.2, "aster": 0.25, "kano": 0.2})
# Antelope Valley is used for neither: part of it lies on the ground of the Los Angeles passes.
LST_HELD_OUT_WEIGHTS = MappingProxyType({"macas": 0.6, "liverpool": 0.4})

# For a CPU: about 50 examples/s on one core that has bfloat16.
LST_SMALL = LstRecipe(
    name="lst-small",
    network=UNetConfig(
        sample_size=64,
        in_channels=5,
        out_channels=1,
        block_out_channels=(48, 96, 128, 192),
        layers_per_block=1,
        attention_levels=(2,),
        attention_head_dim=32,
        norm_groups=16,
        patch=2,
    ),
    training=TrainingConfig(steps=8000, batch_size=32, decay_share=0.3, mixed_precision="bf16"),
    weights=LST_WEIGHTS,
    held_out_weights=LST_HELD_OUT_WEIGHTS,
)

# For one GPU.
LST_FULL = replace(
    LST_SMALL,
    name="lst-full",
    network=replace(LST_SMALL.network, block_out_channels=(64, 128, 192, 256), layers_per_block=2, norm_groups=32),
    training=TrainingConfig(steps=60_000, batch_size=256, ema_decay=0.9995, warmup_steps=1000, mixed_precision="bf16"),
    examples=100_000,
)

# A U-Net as DDPM's with learned variance, taught by L_hybrid (Nichol & Dhariwal 2021). It predicts v, not eps: LST has
# no range to clip to, and at the noisiest step a small error of eps is an error of x_0 thousands of times as large.
LST_PRIOR = LstPriorRecipe(
    name="lst-prior",
    network=replace(LST_SMALL.network, in_channels=1, learned_variance=True),
    training=TrainingConfig(steps=20_000, batch_size=32, mixed_precision="bf16"),
    objective="hybrid",
    last_step_share=0.0,
    weights=LST_WEIGHTS,
    held_out_weights=LST_HELD_OUT_WEIGHTS,
)

# --- pictures; for a CPU: 20 to 40 examples/s on one core that has bfloat16 ---

PICTURE_SMALL = PictureRecipe(
    name="picture-small",
    network=UNetConfig(
        sample_size=64,
        in_channels=8,
        out_channels=3,
        block_out_channels=(48, 96, 128, 192),
        layers_per_block=1,
        attention_levels=(1, 2),
        attention_head_dim=32,
        norm_groups=16,
        patch=2,
    ),
    training=TrainingConfig(steps=2000, batch_size=16, validate_every=250, mixed_precision="bf16"),
    framing="anywhere",
    texture_share=0.2,
    summary="Gap filling of any picture, in squares of 64 pixels: the residual over a membrane, by conditional "
    "diffusion. Knows faces at any place and size, hair and background, and land from above.",
)

FACE_SMALL = PictureRecipe(
    name="face-small",
    network=PICTURE_SMALL.network,
    prior_components=256,
    training=TrainingConfig(
        steps=2600, batch_size=16, learning_rate=6e-4, decay_share=0.9, validate_every=150, mixed_precision="bf16"
    ),
    framing="face",
    variation=0.5,
    shapes=2400,
    summary="Gap filling of aligned faces in CelebA-HQ's framing at 64 x 64 pixels: the residual over what a "
    "Gaussian distribution of faces expects from the known pixels, by conditional diffusion.",
)

# For one GPU: all that aligned photographs of 89 x 109 pixels show.
FACE_FULL = replace(
    FACE_SMALL,
    name="face-full",
    network=replace(FACE_SMALL.network, sample_size=80),
    training=TrainingConfig(steps=12_000, batch_size=256, learning_rate=4e-4, decay_share=0.4, mixed_precision="bf16"),
    variation=1.0,
    shapes=6000,
    summary="Gap filling of aligned faces in CelebA-HQ's framing at 80 x 80 pixels: the residual over what a "
    "Gaussian distribution of faces expects from the known pixels, by conditional diffusion.",
)

# For a CPU in the background; `--init-from picture-small` gives it what that network knows of whole pictures.
PICTURE_PRIOR = PicturePriorRecipe(
    name="picture-prior",
    network=replace(PICTURE_SMALL.network, in_channels=3, learned_variance=True),
    training=TrainingConfig(
        steps=2400, batch_size=16, learning_rate=3e-4, warmup_steps=100, validate_every=200, mixed_precision="bf16"
    ),
    objective="hybrid",
    last_step_share=0.0,
    framing="anywhere",
    texture_share=0.2,
    summary="Unconditional prior of pictures in squares of 64 pixels, with learned variance: what `lacunar restore` "
    "holds to a measured picture. Knows faces at any place, hair and background, and land from above.",
)

# --- water ---

CONDITION_STEPS, DIFFUSION_STEPS = 3600, 1200
# The comparisons see as many examples as the two stages of WaterSegDiff together.
WHOLE_STEPS = CONDITION_STEPS + DIFFUSION_STEPS

WATER_SMALL = WaterRecipe(
    name="water-small",
    network=SegmenterConfig(),
    training=TrainingConfig(
        steps=DIFFUSION_STEPS,
        batch_size=16,
        learning_rate=6e-4,
        warmup_steps=100,
        ema_decay=0.998,
        validate_every=400,
        mixed_precision="bf16",
    ),
    # Scenes labelled by hand count most; automatic and loose masks least.
    shares=MappingProxyType(
        {
            "esw_rgb": 0.3,
            "waterbodies_rgb_a": 0.19,
            "waterbodies_rgb_b": 0.05,
            "glacial_nrg": 0.11,
            "multispectral6": 0.15,
            "landsat6": 0.06,
            "dhaka_rgb": 0.06,
            "coast_rgb": 0.05,
            "arctic_rgb": 0.02,
            "flood_rgb": 0.01,
        }
    ),
)
WATER_CONDITION = replace(
    WATER_SMALL,
    name="water-condition",
    network=SegmenterConfig(diffusion=False),
    training=replace(WATER_SMALL.training, steps=CONDITION_STEPS),
)
WATER_NO_ANCHOR = replace(WATER_SMALL, name="water-no-anchor", network=SegmenterConfig(anchor=False))
WATER_NO_SS_FORMER = replace(WATER_SMALL, name="water-no-ss-former", network=SegmenterConfig(ss_former=False))
WATER_SEGDIFF = replace(
    WATER_SMALL,
    name="water-segdiff",
    network=SegmenterConfig(kind="segdiff", widths=(40, 72, 112, 160, 208)),
    training=replace(WATER_SMALL.training, steps=WHOLE_STEPS),
)
WATER_UNET = replace(
    WATER_SMALL,
    name="water-unet",
    network=SegmenterConfig(diffusion=False, condition_widths=(40, 80, 128, 168, 216)),
    training=replace(WATER_SMALL.training, steps=WHOLE_STEPS),
)
# Water, and what the rest is, on scenes whose masks say it (benchmarks/water_classes.py); for one GPU. Water that is
# turbid or bright counts most.
WATER_CLASSES = WaterRecipe(
    name="water-classes",
    network=SegmenterConfig(
        sample_size=512,
        diffusion=False,
        encoder="efficientnet-lite2",
        condition_widths=(32, 64, 96, 128, 128),
        classes=("water", "land", "cloud", "cloud shadow", "snow or ice"),
    ),
    training=TrainingConfig(
        steps=3000,
        batch_size=128,
        learning_rate=2e-3,
        encoder_rate=0.4,
        warmup_steps=150,
        decay_share=0.4,
        ema_decay=0.999,
        gradient_clip=20.0,  # of a loss that counts cross-entropy ten times
        mixed_precision="bf16",
    ),
    shares=MappingProxyType(
        {
            "esw_rgb": 0.32,
            "waterbodies_rgb_a": 0.14,
            "waterbodies_rgb_b": 0.03,
            "glacial_nrg": 0.1,
            "multispectral6": 0.17,
            "landsat6": 0.08,
            "dhaka_rgb": 0.07,
            "coast_rgb": 0.06,
            "arctic_rgb": 0.02,
            "flood_rgb": 0.01,
        }
    ),
    size=256,
)
WATER_BOUNDARY = replace(WATER_CLASSES, name="water-boundary", network=replace(WATER_CLASSES.network, boundary_steps=4))
# WaterSegDiff whose condition U-Net is water-classes: --init-from water-classes.
WATER_REFINED = replace(
    WATER_CLASSES,
    name="water-refined",
    network=replace(WATER_CLASSES.network, diffusion=True),
    training=replace(
        WATER_CLASSES.training, steps=1200, batch_size=16, learning_rate=6e-4, encoder_rate=0.1, warmup_steps=20
    ),
    size=192,
)

_ALL = (
    *(LST_SMALL, LST_FULL, LST_PRIOR, PICTURE_SMALL, FACE_SMALL, FACE_FULL, PICTURE_PRIOR),
    *(
        WATER_CLASSES,
        WATER_BOUNDARY,
        WATER_REFINED,
        WATER_SMALL,
        WATER_CONDITION,
        WATER_NO_ANCHOR,
        WATER_NO_SS_FORMER,
        WATER_SEGDIFF,
        WATER_UNET,
    ),
)
RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _ALL})
