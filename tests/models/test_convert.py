import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lacunar.diffusion.process import p_mean_variance
from lacunar.errors import ModelError
from lacunar.interpolate.scaling import RangeScaling
from lacunar.models.backend import load_filler
from lacunar.models.convert import convert_checkpoint

TINY: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": None,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "downsample_padding": 0,
    "norm_eps": 1e-6,
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def theirs() -> Any:
    from diffusers import UNet2DModel

    network = UNet2DModel(**TINY).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture
def source(theirs: Any, tmp_path: Path) -> Path:
    """A folder like google/ddpm-celebahq-256, with everything at the root."""
    from diffusers import DDPMScheduler

    folder = tmp_path / "ddpm"
    theirs.save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    return folder


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def predictions(folder: Path, theirs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 3, 16, 24, generator=generator), torch.tensor([0, 777])
    with torch.no_grad():
        return load_filler(folder).network(x, t), theirs(x, t).sample


def test_diffusers_folder_predicts_as_before(source: Path, theirs: Any, tmp_path: Path) -> None:
    folder = convert_checkpoint(source, tmp_path / "ours")
    ours, expected = predictions(folder, theirs)
    assert expected.abs().max() > 0.1
    assert (ours - expected).abs().max() < 1e-6
    model = load_filler(folder)
    assert model.prediction == "epsilon"
    assert model.scaling == RangeScaling(low=0, high=255)
    assert model.card.command == "lacunar convert ddpm ours"
    assert json.loads((folder / "schedule.json").read_text())["name"] == "linear"


@pytest.mark.parametrize("layout", ["root", "unet"])
@pytest.mark.parametrize("old_names", [False, True])
def test_layouts_and_names_of_all_ages_are_read(
    source: Path, theirs: Any, tmp_path: Path, layout: str, old_names: bool
) -> None:
    weights = source / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    if old_names:
        for new, old in OLD_NAMES.items():
            state = {
                re.sub(rf"(attentions\.\d)\.{re.escape(new)}\.", rf"\1.{old}.", key): v for key, v in state.items()
            }
        assert "mid_block.attentions.0.proj_attn.weight" in state
    torch.save(state, weights.with_suffix(".bin"))
    weights.unlink()
    if layout == "unet":
        for name, inner in (("scheduler_config.json", "scheduler"), ("config.json", "unet")):
            (source / inner).mkdir()
            (source / name).rename(source / inner / name)
        (source / "diffusion_pytorch_model.bin").rename(source / "unet" / "diffusion_pytorch_model.bin")
    ours, expected = predictions(convert_checkpoint(source, tmp_path / "ours"), theirs)
    assert (ours - expected).abs().max() < 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"num_train_timesteps": 500, "beta_start": 0.0002, "beta_end": 0.03},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
        {"trained_betas": [0.1, 0.2, 0.3], "prediction_type": "sample"},
    ],
)
def test_schedule_is_that_of_the_scheduler(source: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(**settings)
    scheduler.save_pretrained(source)
    model = load_filler(convert_checkpoint(source, tmp_path / "ours"))
    # diffusers computes its betas in float32.
    np.testing.assert_allclose(model.schedule.betas, scheduler.betas.numpy(), rtol=2e-4, atol=1e-9)
    names = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x_0"}
    assert model.prediction == names[settings.get("prediction_type", "epsilon")]


def test_learned_variance_is_taken_from_the_scheduler(tmp_path: Path) -> None:
    from diffusers import DDPMScheduler, UNet2DModel

    UNet2DModel(**{**TINY, "out_channels": 6}).save_pretrained(tmp_path / "learned")
    DDPMScheduler(variance_type="learned_range").save_pretrained(tmp_path / "learned")
    network = load_filler(convert_checkpoint(tmp_path / "learned", tmp_path / "ours")).network
    assert (network.out_channels, network.config.returned_channels) == (3, 6)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
def test_a_reverse_step_has_the_variance_of_the_scheduler(tmp_path: Path, variance: str) -> None:
    from diffusers import DDPMScheduler, UNet2DModel

    channels = 6 if variance == "learned_range" else 3
    theirs = UNet2DModel(**{**TINY, "out_channels": channels})
    theirs.save_pretrained(tmp_path / "theirs")
    scheduler = DDPMScheduler(variance_type=variance, clip_sample=False)
    scheduler.save_pretrained(tmp_path / "theirs")
    model = load_filler(convert_checkpoint(tmp_path / "theirs", tmp_path / "ours"))
    x_t, t = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([400])
    with torch.no_grad():
        output = theirs(x_t, t).sample
        step = p_mean_variance(model.network(x_t, t), x_t, t, model.schedule)
        wanted = scheduler._get_variance(400, predicted_variance=output[:, 3:] if channels == 6 else None)
    wanted = wanted.exp() if channels == 6 else wanted  # of a learned one diffusers gives the logarithm
    torch.testing.assert_close(step.variance, wanted.expand_as(x_t), rtol=1e-3, atol=0)  # its betas are float32


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"_class_name": "UNet2DConditionModel"}, "describes a UNet2DConditionModel, wanted"),
        ("config.json", {"num_class_embeds": 10}, "wants a class label"),
        ("config.json", {"layers_per_block": 2}, r"missing \(unet\."),
        ("scheduler_config.json", {"prediction_type": "flow"}, "prediction_type is 'flow', wanted one of epsilon"),
        ("scheduler_config.json", {"prediction_type": [0]}, r"prediction_type is \[0\], wanted one of epsilon"),
        ("scheduler_config.json", {"variance_type": {}}, r"variance_type is \{\}, wanted one of fixed_small"),
        (
            "scheduler_config.json",
            {"variance_type": "learned"},
            "variance_type is 'learned', wanted one of fixed_small",
        ),
        ("scheduler_config.json", {"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid', wanted one of linear"),
        ("scheduler_config.json", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is set"),
        ("scheduler_config.json", {"beta_start": "low"}, "not numbers that make a schedule"),
        ("scheduler_config.json", {"beta_end": 10**400}, "not numbers that make a schedule"),
        ("scheduler_config.json", {"trained_betas": ["a"]}, "not numbers that make a schedule"),
        ("scheduler_config.json", {"num_train_timesteps": None}, "not numbers that make a schedule"),
    ],
)
def test_diffusers_folders_that_do_not_fit_are_refused(
    source: Path, tmp_path: Path, file: str, changes: dict[str, Any], message: str
) -> None:
    change(source / file, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        convert_checkpoint(source, tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", r"wanted .*config.json, cannot read it"),
        ("scheduler_config.json", r"wanted .*scheduler_config.json, cannot read it"),
        ("diffusion_pytorch_model.safetensors", r"holds no weights, wanted diffusion_pytorch_model.safetensors or"),
    ],
)
def test_incomplete_diffusers_folders_are_refused(source: Path, tmp_path: Path, file: str, message: str) -> None:
    (source / file).unlink()
    with pytest.raises(ModelError, match=message):
        convert_checkpoint(source, tmp_path / "ours")


def test_folder_says_its_own_architecture(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="says its own architecture"):
        convert_checkpoint(source, tmp_path / "ours", architecture={"image_size": 16})


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, torch.Tensor]:
    return load_file(shared / "golden" / "guided_diffusion_unet_tiny.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_golden_checkpoint_survives_the_whole_way(golden: dict[str, torch.Tensor], tmp_path: Path, suffix: str) -> None:
    state = {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}
    checkpoint = tmp_path / f"tiny{suffix}"
    if suffix == ".pt":
        torch.save(state, checkpoint)
    else:
        save_file(state, checkpoint)
    architecture = {"num_head_channels": 16, "image_size": 32}
    model = load_filler(convert_checkpoint(checkpoint, tmp_path / "ours", architecture=architecture))
    with torch.no_grad():
        y = model.network(golden["io.x"], golden["io.t"])
    assert (y - golden["io.y"]).abs().max() < 1e-4
    assert model.network.out_channels == 3  # of the six returned: it has learned variance
    assert model.card.licence == "unknown: ask who published the checkpoint"
    assert (model.schedule.num_timesteps, model.schedule.betas[-1], model.prediction) == (1000, 0.02, "epsilon")


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("payload", ["code", "object"])
def test_pickle_that_holds_more_than_tensors_is_refused(tmp_path: Path, wrapped: bool, payload: str) -> None:
    content = Malicious(tmp_path / "mark") if payload == "code" else {"path": tmp_path}
    checkpoint = tmp_path / "bad.pt"
    if wrapped:
        torch.save(content, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelError, match="holds more than tensors, and unpickling it could run code") as caught:
        convert_checkpoint(checkpoint, tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    checkpoint, ours = tmp_path / "some.pt", tmp_path / "ours"
    with pytest.raises(ModelError, match=r"no checkpoint .*some.pt, wanted"):
        convert_checkpoint(checkpoint, ours)
    for content, message in (
        (b"", "not a whole safetensors file"),
        (b"hello", "not a whole safetensors file"),
        (b"PK\x03\x04junk", "not a whole checkpoint"),
    ):
        checkpoint.write_bytes(content)
        with pytest.raises(ModelError, match=message) as caught:
            convert_checkpoint(checkpoint, ours)
        assert "\n" not in str(caught.value)
    for values in ([torch.zeros(1)], {}, {"state_dict": {"a": torch.zeros(1)}}):
        torch.save(values, checkpoint)
        with pytest.raises(ModelError, match="holds no state dict"):
            convert_checkpoint(checkpoint, ours)
    torch.save({"weight": torch.zeros(1)}, checkpoint)
    with pytest.raises(ModelError, match="wanted the state dict of a guided-diffusion network"):
        convert_checkpoint(checkpoint, ours)
    assert not ours.exists()


def test_cut_off_download_is_refused(golden: dict[str, torch.Tensor], tmp_path: Path) -> None:
    checkpoint = tmp_path / "cut.pt"
    torch.save(golden, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"is not a whole checkpoint .*: download it again"):
        convert_checkpoint(checkpoint, tmp_path / "ours")


@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_pickles_of_every_kind_are_refused_in_one_line(tmp_path: Path, zipped: bool) -> None:
    checkpoint, rng = tmp_path / "damaged.pt", np.random.default_rng(0)
    state = {f"layer.{n}": torch.zeros(4, 4) for n in range(3)}
    torch.save(state, checkpoint, _use_new_zipfile_serialization=zipped)
    whole = checkpoint.read_bytes()
    for _ in range(60):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        places = rng.integers(4, damaged.size, 5)
        damaged[places] = rng.integers(0, 256, 5)
        checkpoint.write_bytes(damaged[: rng.integers(5, damaged.size)].tobytes())
        # Where the damage missed all that is read, it is still no network.
        with pytest.raises(ModelError) as caught:
            convert_checkpoint(checkpoint, tmp_path / "ours")
        assert "\n" not in str(caught.value)
