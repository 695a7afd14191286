"""Engines: the same answers as the network's own, a cache that mends itself, and errors that teach."""

import logging

import numpy as np
import pytest
import torch

from commands import bands_of, write
from gap_models import gap_model, tiny_model
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import LacunarError, ModelError
from lacunar.models import backend as backends
from lacunar.models import onnx
from lacunar.models.backend import (
    BACKEND_NAMES,
    AnyModel,
    backend_for,
    load_filler,
    load_model,
    load_segmenter,
    with_backend,
)
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model, SegmentationModel
from lacunar.models.in_use import inputs_in_use
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter
from lacunar.networks.ssformer import FourierCrossAttention
from lacunar.networks.unet import UNet, UNetConfig

SIDE = 16
ANY_CPU = 1.0  # error of 8 bits, in sigma: without VNNI, sums of products may saturate
needs_onnx = pytest.mark.skipif(bool(backends.missing_packages()), reason="lacunar[onnx] is not installed")


@pytest.fixture(scope="module")
def unet():
    """A small U-Net with attention and random weights."""
    config = UNetConfig(
        sample_size=SIDE, in_channels=5, block_out_channels=(8, 16), layers_per_block=1, norm_groups=4, patch=2,
        attention_levels=(1,), attention_head_dim=8,
    )  # fmt: skip
    return gap_model(shaken(UNet(config)), "small")


@pytest.fixture(scope="module")
def segmenter():
    """A small WaterSegDiff with random weights."""
    config = SegmenterConfig(sample_size=SIDE, condition_widths=(8, 16), widths=(8, 16))
    return SegmentationModel(
        name="wet",
        network=shaken(build_segmenter(config)),
        schedule=NoiseSchedule.cosine(1000),
        prediction="x_0",
        card=Card(summary="for tests", licence="none"),
    )


def shaken(network):
    """Random weights everywhere, also where a network starts at zero."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network.eval()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("LACUNAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def answers(model: AnyModel, batch):
    """What a model's network says, all parts in a row."""
    t = torch.arange(batch) * 37 % 1000
    with torch.inference_mode():
        if isinstance(model, SegmentationModel):
            image = noise(batch, 6, SIDE, SIDE).abs()
            image[:, 4:] = torch.nan  # bands that it lacks
            read = model.network.condition(image)
            return [*read, model.network.restore(noise(batch, 1, SIDE, SIDE), t, read)]
        return [model.network(noise(batch, 5, SIDE, SIDE), t)]


def check_same(one, other, tolerance):
    """Both answer alike, to a share of the largest answer."""
    for batch in (1, 3, 40, 70):  # one, several, more than go into one call
        for part, expected in zip(answers(one, batch), answers(other, batch), strict=True):
            assert part.shape == expected.shape
            assert part.dtype == torch.float32
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(part, expected, rtol=0, atol=tolerance * scale)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unet", "segmenter"])
def test_onnx_answers_as_the_network_does(kind, request, cache):
    model = request.getfixturevalue(kind)
    fast = with_backend(model, "onnx")
    assert (fast.backend, model.backend) == ("onnx", "eager")
    check_same(fast, model, 1e-4)
    assert not answers(model, 2)[-1].allclose(torch.zeros(()), atol=1e-2)  # the answer is not trivially alike
    assert {path.name.split("-")[0] for path in cache.iterdir()} == (
        {"unet"} if kind == "unet" else {"condition", "restore"}
    )


@needs_onnx
@pytest.mark.slow
def test_8_bits_answer_nearly_as_the_network_does_from_a_graph_of_its_own(unet, cache, monkeypatch):
    monkeypatch.setattr(onnx, "INT8_TOLERANCE", ANY_CPU)
    fast = with_backend(unet, "int8")
    assert fast.backend == "int8"
    (kept,) = cache.iterdir()
    assert b"QuantizeLinear" in kept.read_bytes()
    (x, t), weight = inputs_in_use(unet)
    with torch.inference_mode():
        answer = unet.network(x, t) * weight
        error = fast.network(x, t) * weight - answer
    assert 0 < float(error.norm()) < 0.5 * float(answer.norm())
    with_backend(unet, "onnx")
    assert len(list(cache.iterdir())) == 2  # one is never taken for the other
    monkeypatch.setattr(onnx, "INT8_TOLERANCE", 0.0)
    with pytest.raises(
        LacunarError, match=r"cannot run small \(the graph differs from the network by .*wanted 0 or less"
    ):
        with_backend(unet, "int8")


def test_8_bits_are_for_conditional_models_that_fill(segmenter, monkeypatch):
    monkeypatch.setattr(backends, "missing_packages", list)
    with pytest.raises(LacunarError, match="int8 is for models that fill gaps, wet segments: choose --backend onnx"):
        with_backend(segmenter, "int8")
    prior = gap_model(
        UNet(UNetConfig(sample_size=SIDE, block_out_channels=(8,), norm_groups=4, middle_attention=False)), "free"
    )
    with pytest.raises(LacunarError, match="free is an unconditional prior, which 8 bits are too few for"):
        with_backend(prior, "int8")


def test_8_bits_without_onnx_runtime_are_one_line(lacunar, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "onnxruntime" else name)
    raster = write(tmp_path / "in.tif", np.where(np.eye(64, dtype=bool), np.nan, 290).astype(np.float32), nodata=np.nan)
    ran = lacunar("fill", raster, "-o", tmp_path / "out.tif", "--model", tiny_folder, "--backend", "int8")
    assert ran.code == 2
    assert "backend int8 wants onnxruntime, not installed: pip install 'lacunar[onnx]'" in ran.err
    ran = lacunar("fill", raster, "-o", tmp_path / "out.tif", "--preset", "paper", "--backend", "int8")
    assert ran.code == 2
    assert "backend int8 with repaint, whose many evaluations add up the errors of 8 bits" in ran.err


@pytest.mark.parametrize("name", ["lst-small", "face-full", "picture-small"])
def test_inputs_in_use_look_like_those_of_a_fill(name):
    model = load_filler(name)
    (x, t), weight = inputs_in_use(model)
    channels = model.network.out_channels
    noisy, mean, sigma, missing = (
        x[:, :channels],
        x[:, channels : 2 * channels],
        x[:, 2 * channels],
        x[:, 2 * channels + 1],
    )
    side = model.network.config.sample_size
    assert x.shape == (len(t), model.network.in_channels, side, side)
    assert x.isfinite().all()
    assert (int(t[0]), int(t[-1])) == (0, model.schedule.num_timesteps - 1)
    assert set(missing.unique().tolist()) == {0.0, 1.0}
    assert not noisy[(missing == 0)[:, None].expand_as(noisy)].any()  # what is known has no noise
    assert 0.5 < float(noisy[-1][missing[-1][None].expand_as(noisy[-1]) > 0].std()) < 1.5  # all noise at the last time
    assert (sigma[missing > 0] > 0).all()
    assert float(mean.std()) > 0.2
    assert not weight[(missing == 0)[:, None]].any()
    torch.testing.assert_close(inputs_in_use(model).given[0], x)  # the same each time


@pytest.mark.parametrize("kind", ["unet", "segmenter"])
def test_bf16_answers_nearly_as_the_network_does(kind, request):
    model = request.getfixturevalue(kind)
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    fast = with_backend(model, "bf16")
    assert fast.backend == "bf16"
    check_same(fast, model, 0.05)
    assert not torch.equal(answers(fast, 2)[-1], answers(model, 2)[-1])
    assert all(torch.equal(weight, before[name]) for name, weight in model.network.state_dict().items())


@pytest.mark.parametrize("kind", ["unet", "segmenter"])
def test_compiled_fills_batches_up_and_cuts_what_it_added(kind, request, monkeypatch):
    model, seen = request.getfixturevalue(kind), []

    def compiler(run, **_):
        def compiled(*tensors):
            seen.append(len(tensors[0]))
            return run(*tensors)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    fast = with_backend(model, "compiled")
    check_same(fast, model, 0.05)
    assert set(seen) == {1, 4, 64, 256}  # powers of four


def test_a_compiler_that_fails_is_told(unet, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("no g++ here\nand a long trace")

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(LacunarError, match=r"cannot be compiled here \(no g\+\+ here\): wanted a C\+\+ compiler"):
        with_backend(unet, "compiled")


@needs_onnx
@pytest.mark.slow
def test_a_graph_is_made_once_and_again_when_it_is_damaged_or_another_networks(unet, cache, monkeypatch):
    made, export = [], onnx._export
    monkeypatch.setattr(onnx, "_export", lambda *given: made.append(given) or export(*given))
    with_backend(unet, "onnx")
    with_backend(unet, "onnx")
    assert len(made) == 1
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    check_same(with_backend(unet, "onnx"), unet, 1e-4)
    assert len(made) == 2
    other = gap_model(shaken(UNet(unet.network.config)), "other")
    with torch.no_grad():
        other.network.unet.conv_out.bias.add_(1.0)
    check_same(with_backend(other, "onnx"), other, 1e-4)
    assert len(made) == 3
    assert len(list(cache.iterdir())) == 2
    other_kept = next(path for path in cache.iterdir() if path != kept)
    kept.write_bytes(other_kept.read_bytes())  # a whole graph that answers otherwise
    check_same(with_backend(unet, "onnx"), unet, 1e-4)
    assert len(made) == 4


@needs_onnx
@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(unet, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LACUNAR_CACHE", str(tmp_path / "file"))
    check_same(with_backend(unet, "onnx"), unet, 1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_cache_is_where_the_system_keeps_what_can_be_made_again(monkeypatch, tmp_path):
    monkeypatch.delenv("LACUNAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert onnx.cache_folder() == tmp_path / "lacunar"


def test_auto_exports_what_is_worth_it_on_the_cpu_alone(unet, monkeypatch):
    monkeypatch.setattr(backends, "missing_packages", list)
    assert backend_for(unet, "auto", "cpu") == "eager"
    monkeypatch.setattr(backends, "AUTO_PARAMETERS", 1)
    assert backend_for(unet, "auto", "cpu") == "onnx"
    assert backend_for(unet, "auto", "cuda") == "eager"
    monkeypatch.setattr(backends, "missing_packages", lambda: ["onnxruntime"])
    assert backend_for(unet, "auto", "cpu") == "eager"


def test_auto_falls_back_with_one_warning(unet, monkeypatch, caplog):
    def failing(*_, **__):
        raise RuntimeError("an operator is missing")

    monkeypatch.setattr(backends, "AUTO_PARAMETERS", 1)
    monkeypatch.setattr(backends, "missing_packages", list)
    monkeypatch.setattr(backends, "graph_of", failing)
    with caplog.at_level(logging.WARNING):
        assert with_backend(unet, "auto") is unet
    assert [record.message for record in caplog.records] == [
        "ONNX Runtime cannot run small (an operator is missing): PyTorch does"
    ]
    with pytest.raises(LacunarError, match=r"cannot run small \(an operator is missing\): choose --backend eager"):
        with_backend(unet, "onnx")


def test_what_is_not_there_is_told(unet, monkeypatch):
    with pytest.raises(
        LacunarError, match="unknown backend 'fast': choose one of auto, eager, onnx, int8, bf16, compiled"
    ):
        with_backend(unet, "fast")
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(LacunarError, match=r"wants onnxruntime, not installed: pip install 'lacunar\[onnx\]'"):
        with_backend(unet, "onnx")
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    elsewhere = gap_model(UNet(unet.network.config).to("meta"))
    with pytest.raises(LacunarError, match="runs on the cpu, the network is on meta: give --device cpu"):
        with_backend(elsewhere, "onnx")
    with pytest.raises(LacunarError, match="small has the backend bf16 already"):
        with_backend(with_backend(unet, "bf16"), "eager")


@pytest.mark.parametrize("kind", ["unet", "segmenter"])
def test_gradients_and_other_sizes_are_the_networks_own_work(kind, request):
    model = request.getfixturevalue(kind)
    fast, t = with_backend(model, "bf16"), torch.zeros(1, dtype=torch.long)
    if kind == "unet":
        x = noise(1, 5, SIDE, SIDE).requires_grad_()
        (found,) = torch.autograd.grad(fast.network(x, t).square().sum(), x)
        (wanted,) = torch.autograd.grad(model.network(x, t).square().sum(), x)
        torch.testing.assert_close(found, wanted)
        large = noise(1, 5, 2 * SIDE, SIDE)
        with torch.inference_mode():
            torch.testing.assert_close(fast.network(large, t), model.network(large, t))
        return
    large = noise(1, 6, 2 * SIDE, SIDE)
    with torch.inference_mode():
        for part, expected in zip(fast.network.condition(large), model.network.condition(large), strict=True):
            torch.testing.assert_close(part, expected)


def test_a_backend_keeps_the_weights_the_shape_and_the_hooks(unet):
    fast, calls = with_backend(unet, "bf16"), []
    assert set(fast.network.state_dict()) == set(unet.network.state_dict())
    assert fast.network.config is unet.network.config
    with fast.network.register_forward_pre_hook(lambda _, given: calls.append(len(given[0]))):
        answers(fast, 3)
    assert calls == [3]


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1, 6)])
def test_the_transform_as_matrices_is_the_transform(shape):
    torch.manual_seed(0)
    attention = FourierCrossAttention(16, 8, 12)
    torch.nn.init.normal_(attention.filter.out.weight)
    own, asked, embedding = noise(2, 16, *shape), noise(2, 8, *shape, seed=2), noise(2, 12, seed=3)
    with torch.no_grad():
        expected = attention(own, asked, embedding)
        attention.as_matrices = True
        torch.testing.assert_close(attention(own, asked, embedding), expected, rtol=1e-5, atol=1e-5)


@needs_onnx
@pytest.mark.slow
def test_the_command_fills_alike_with_every_engine(lacunar, tiny_folder, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(onnx, "INT8_TOLERANCE", ANY_CPU)
    rng = np.random.default_rng(0)
    values = (290 + rng.standard_normal((70, 64)).cumsum(axis=0) / 4).astype(np.float32)
    values[20:40, 10:50] = np.nan
    raster = write(tmp_path / "in.tif", values, nodata=np.nan)
    filled = {}
    for backend in ("auto", "eager", "onnx", "int8", "bf16"):
        out = tmp_path / f"{backend}.tif"
        ran = lacunar("fill", raster, "-o", out, "--model", tiny_folder, "--samples", 2, "--backend", backend, "--json")
        assert ran.code == 0, ran.err
        assert f'"backend": "{"eager" if backend == "auto" else backend}"' in ran.out
        filled[backend] = bands_of(out)
    np.testing.assert_array_equal(filled["auto"], filled["eager"])
    np.testing.assert_allclose(filled["onnx"], filled["eager"], rtol=0, atol=1e-3)  # of 290 K: float32 holds 3e-5
    np.testing.assert_allclose(filled["bf16"], filled["eager"], rtol=0, atol=0.1)
    np.testing.assert_array_equal(filled["int8"][1], filled["eager"][1])  # where it fills
    assert np.abs(filled["int8"][0] - filled["eager"][0]).max() < np.nanstd(values)
    assert cache.is_dir()


def test_an_unknown_engine_is_one_line(lacunar, tiny_folder, tmp_path):
    raster = write(tmp_path / "in.tif", np.full((64, 64), 290, np.float32))
    ran = lacunar("fill", raster, "-o", tmp_path / "out.tif", "--model", tiny_folder, "--backend", "warp")
    assert ran.code == 2
    assert f"unknown backend 'warp': choose one of {', '.join(BACKEND_NAMES)}" in ran.err


def test_tiny_models_of_other_tests_stay_eager():
    assert with_backend(tiny_model(), "auto").backend == "eager"


def test_one_function_loads_a_model_of_any_kind(tiny_folder):
    assert isinstance(load_model(tiny_folder, device="auto"), Model)
    assert isinstance(load_model("water-small"), SegmentationModel)
    assert load_model(tiny_folder, backend="bf16").backend == "bf16"
    with pytest.raises(ModelError, match="water-small segments water, wanted one that fills gaps"):
        load_filler("water-small")
    with pytest.raises(ModelError, match="tiny fills gaps, wanted one that segments water"):
        load_segmenter(tiny_folder)
    with pytest.raises(LacunarError, match="unknown backend 'fast'"):
        load_model(tiny_folder, backend="fast")
    with pytest.raises(LacunarError, match="no device 'abacus' here: choose one of auto, cpu"):
        load_model(tiny_folder, device="abacus")
