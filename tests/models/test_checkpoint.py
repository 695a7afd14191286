import errno
import hashlib
import json
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import LacunarError, ModelError
from lacunar.interpolate.pca_prior import GaussianPrior
from lacunar.interpolate.scaling import TileScaling
from lacunar.models import checkpoint
from lacunar.models.backend import load_filler, load_segmenter
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model, save_model, schedule_from_dict, schedule_to_dict, shipped_models
from lacunar.networks.unet import UNet, UNetConfig

CONFIG = UNetConfig(
    sample_size=8, in_channels=2, block_out_channels=(8, 16), layers_per_block=1, attention_head_dim=8, norm_groups=4
)
CARD = Card(
    summary="A network for tests.",
    licence="CC0-1.0",
    data=("noise",),
    places=("here", "there"),
    command="lacunar train tiny",
    steps=12,
    seeds=(3,),
    scores={"gap_rmse_kelvin": {"22 %": 1.5}, "loss": 0.25},
    notes=("Never use it.",),
)


@pytest.fixture(scope="module")
def network() -> UNet:
    network = UNet(CONFIG)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def save(folder: Path, network: UNet, **changes: Any) -> Path:
    options: dict[str, Any] = {
        "schedule": NoiseSchedule.cosine(1000),
        "prediction": "v",
        "scaling": TileScaling(relative_floor=0.001),
        "card": CARD,
    }
    given = {**options, **changes}
    writing = {name: given.pop(name) for name in ("dtype", "overwrite") if name in given}
    return save_model(folder, Model(name="", network=network, **given), **writing)


@pytest.fixture(scope="module")
def original(network: UNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "tiny", network)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights and make the card agree with them."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    sign(folder)


def sign(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    card["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))


def test_model_comes_back_as_it_was(network: UNet, original: Path) -> None:
    assert sorted(path.name for path in original.iterdir()) == [
        "README.md",
        "card.json",
        "config.json",
        "model.safetensors",
        "scaling.json",
        "schedule.json",
    ]
    assert [path.name for path in original.parent.iterdir()] == ["tiny"]
    random_state = torch.get_rng_state()
    model = load_filler(original)
    assert torch.equal(torch.get_rng_state(), random_state)  # loading draws no random numbers
    assert model.name == "tiny"
    assert model.prediction == "v"
    assert model.scaling == TileScaling(relative_floor=0.001)
    assert model.network.config == CONFIG
    np.testing.assert_array_equal(model.schedule.betas, NoiseSchedule.cosine(1000).betas)
    assert model.card.sha256 == hashlib.sha256((original / "model.safetensors").read_bytes()).hexdigest()
    assert {**vars(model.card), "sha256": ""} == vars(CARD)
    x, t = torch.randn(2, 2, 8, 16), torch.tensor([1, 900])
    assert not model.network.training
    with torch.no_grad():
        assert torch.equal(model.network(x, t), network.eval()(x, t))
    assert all(parameter.requires_grad for parameter in model.network.parameters())  # ready to be trained further


def test_readme_is_the_card(original: Path) -> None:
    text = (original / "README.md").read_text()
    assert text.startswith("# tiny\n\nA network for tests.\n")
    assert json.loads((original / "card.json").read_text())["sha256"] in text


def test_half_precision_halves_the_file_and_loads_as_float32(network: UNet, original: Path, tmp_path: Path) -> None:
    half = save(tmp_path / "half", network, dtype="float16")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (half, original)]
    assert sizes[0] < 0.65 * sizes[1]
    for (name, loaded), (_, given) in zip(
        load_filler(half).network.state_dict().items(), network.state_dict().items(), strict=True
    ):
        assert given.dtype == loaded.dtype == torch.float32
        assert torch.equal(loaded, given.half().float()), name


def test_network_in_channels_last_is_saved_plain(network: UNet, original: Path, tmp_path: Path) -> None:
    other = load_filler(original).network.to(memory_format=torch.channels_last)
    saved = load_filler(save(tmp_path / "other", other)).network.state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in network.state_dict().items())


def test_damaged_weights_are_refused(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"has sha256 [0-9a-f]{64}, wanted [0-9a-f]{64} as in its card"):
        load_filler(folder)


def test_card_without_sha256_is_refused(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"summary": "x", "licence": "y"}))
    with pytest.raises(ModelError, match="wanted one as in its card"):
        load_filler(folder)


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("wrapped", [False, True])
def test_pickle_in_place_of_the_weights_is_not_opened(folder: Path, tmp_path: Path, wrapped: bool) -> None:
    payload, weights = Malicious(tmp_path / "mark"), folder / "model.safetensors"
    if wrapped:
        torch.save(payload, weights)
    else:
        weights.write_bytes(pickle.dumps(payload))
    sign(folder)
    with pytest.raises(ModelError, match="is a pickle, which could run code, wanted safetensors"):
        load_filler(folder)
    assert not (tmp_path / "mark").exists()


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"wanted the weights .*model.safetensors, missing"):
        load_filler(folder)
    (folder / "model.pt").write_bytes(b"\x80")
    with pytest.raises(ModelError, match=r"found the pickle model.pt: `lacunar convert`"):
        load_filler(folder)


def test_cut_off_weights_are_refused(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    sign(folder)
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        load_filler(folder)


def test_loading_is_strict(folder: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        del state["unet.conv_in.bias"]
        state["unet.extra"] = torch.zeros(1)
        state["unet.conv_out.bias"] = torch.zeros(3)

    rewrite(folder, change)
    with pytest.raises(ModelError, match="do not fit") as caught:
        load_filler(folder)
    message = str(caught.value)
    assert "1 missing (unet.conv_in.bias)" in message
    assert "1 unknown (unet.extra)" in message
    assert "1 mis-shaped (unet.conv_out.bias (3,) instead of (1,))" in message


def test_many_faults_are_shortened_to_one_line(folder: Path) -> None:
    rewrite(folder, lambda state: [state.pop(key) for key in sorted(state)[:10]] and None)
    with pytest.raises(ModelError, match=r"10 missing \(unet[^()]*, \.\.\.\)") as caught:
        load_filler(folder)
    assert "\n" not in str(caught.value)


def test_config_with_another_channel_count_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "in_channels": 4}))
    with pytest.raises(ModelError, match=r"conv_in.weight \(8, 2, 3, 3\) instead of \(8, 4, 3, 3\)"):
        load_filler(folder)


@pytest.mark.parametrize("name", ["config.json", "schedule.json", "scaling.json", "card.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read it"), (b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"), (b"[1]", "holds a list, wanted")],
)
def test_bad_json_is_refused(folder: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_filler(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shipped_models_are_found_by_name(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MODELS", original.parent)
    assert shipped_models() == {"tiny": original}
    assert load_filler("tiny").card.summary == "A network for tests."
    with pytest.raises(ModelError, match="unknown model 'large', wanted a model folder or a shipped model: tiny"):
        load_filler("large")
    monkeypatch.setattr(checkpoint, "MODELS", tmp_path / "nothing")
    assert shipped_models() == {}
    with pytest.raises(ModelError, match="shipped model: none"):
        load_filler("tiny")


def test_every_shipped_model_loads() -> None:
    loaders = {name: load_segmenter if name.startswith("water") else load_filler for name in shipped_models()}
    assert all(load(name).name == name for name, load in loaders.items())
    assert set(loaders) == {"face-full", "lst-small", "picture-prior", "picture-small", "water-classes", "water-small"}


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stage", ["save_file", "_write_json", "sha256_of"])
@pytest.mark.parametrize("existing", [False, True])
def test_full_disk_leaves_nothing_half_written(
    network: UNet, folder: Path, stage: str, existing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not existing:
        shutil.rmtree(folder)
    monkeypatch.setattr(checkpoint, stage, full_disk)
    with pytest.raises(ModelError, match=r"could not be written .*No space left on device.*: free some space"):
        save(folder, network, overwrite=True)
    monkeypatch.undo()
    assert list(folder.parent.iterdir()) == ([folder] if existing else [])
    if existing:
        load_filler(folder)


def test_old_model_returns_when_the_new_one_cannot_take_its_place(
    network: UNet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(LacunarError, match="Input/output error"):
        save(folder, network, overwrite=True)
    monkeypatch.undo()
    assert list(folder.parent.iterdir()) == [folder]
    load_filler(folder)


def test_limit_on_the_size_of_files_leaves_nothing_half_written(network: UNet, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the weights take more; the system itself refuses
    try:
        with pytest.raises(ModelError, match=r"could not be written .*File too large"):
            save(tmp_path / "tiny", network)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_interruption_leaves_nothing_half_written(
    network: UNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "tiny", network)
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_replaced_only_on_request(network: UNet, folder: Path) -> None:
    with pytest.raises(ModelError, match="exists: choose another name or say overwrite"):
        save(folder, network)
    (folder / "model.safetensors").write_bytes(b"")
    save(folder, network, overwrite=True)
    load_filler(folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_other_peoples_folders_are_never_replaced(network: UNet, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    (tmp_path / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(ModelError, match="exists and is no model folder"):
            save(tmp_path / name, network, overwrite=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": NoiseSchedule.cosine(1000).respaced(50)}, "50 of 1000 steps: save the one it was trained with"),
        ({"prediction": "noise"}, "prediction is 'noise', wanted one of"),
        ({"dtype": "int8"}, "weights of type 'int8', wanted one of float16, float32"),
    ],
)
def test_saving_refuses(network: UNet, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        save(tmp_path / "tiny", network, **changes)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_overflow_are_refused(original: Path, tmp_path: Path) -> None:
    network = load_filler(original).network
    with torch.no_grad():
        network.unet.conv_out.bias.fill_(1e5)  # float16 ends at 65504
    save(tmp_path / "single", network)
    with pytest.raises(ModelError, match=r"weight unet.conv_out.bias is not finite in float16"):
        save(tmp_path / "half", network, dtype="float16")


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule.linear(1000),
        NoiseSchedule.cosine(7),
        NoiseSchedule(np.linspace(1e-4, 0.03, 20), np.arange(20), 20),
    ],
)
def test_schedule_survives_json(schedule: NoiseSchedule) -> None:
    values = json.loads(json.dumps(schedule_to_dict(schedule, "epsilon")))
    assert ("betas" in values) == (schedule.num_timesteps == 20)  # only the unnamed one is spelt out
    loaded, prediction = schedule_from_dict(values)
    assert prediction == "epsilon"
    np.testing.assert_array_equal(loaded.betas, schedule.betas)
    np.testing.assert_array_equal(loaded.timesteps, schedule.timesteps)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"keys \[\], wanted prediction with"),
        ({"prediction": "v", "name": "linear", "num_timesteps": 1000, "s": 1}, "wanted prediction with"),
        ({"prediction": "w", "name": "linear", "num_timesteps": 1000}, "prediction is 'w', wanted one of"),
        ({"prediction": "v", "name": "sigmoid", "num_timesteps": 1000}, "sigmoid"),
        ({"prediction": "v", "name": "linear", "num_timesteps": "many"}, "schedule: "),
        ({"prediction": "v", "betas": [0.1, 2.0]}, "betas"),
        ({"prediction": "v", "betas": ["x"]}, "schedule: "),
    ],
)
def test_stored_schedule_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        schedule_from_dict(values)


def test_the_prior_travels_with_the_weights(network: UNet, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mean, components = rng.normal(size=(8, 8, 1)), rng.normal(size=(3, 64))
    prior = GaussianPrior(*(part.astype(np.float32) for part in (mean, components, np.array([3.0, 2.0, 1.0]))), 0.25)
    folder = save(tmp_path / "faces", network, prior=prior)
    read = load_filler(folder).prior
    assert read is not None
    for name in ("mean", "components", "variances", "noise"):
        np.testing.assert_array_equal(getattr(read, name), getattr(prior, name))
    assert load_filler(folder).network.config == network.config
    state = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in state.items() if not key.endswith("noise")}, folder / "model.safetensors")
    card = json.loads((folder / "card.json").read_text())
    card["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"model.safetensors lacks 'prior_tensors.noise' of its prior: download"):
        load_filler(folder)


def test_a_scaling_that_no_inference_honours_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "scaling.json").write_text(json.dumps({"kind": "log"}))
    with pytest.raises(ModelError, match=r"scaling: kind is 'log', wanted one of \['tile', 'range'\]"):
        load_filler(folder)
    water = shutil.copytree(shipped_models()["water-small"], tmp_path / "water")
    (water / "scaling.json").write_text(json.dumps({"kind": "tile"}))
    with pytest.raises(ModelError, match=r"scaling.json: a segmenter has no value scaling that is honoured; remove it"):
        load_segmenter(water)
