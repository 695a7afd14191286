"""WaterSegDiff and SegDiff: parts against their formulas, gradients everywhere, one condition for every step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lacunar.errors import ModelError
from lacunar.networks.layers import (
    FEATURES,
    NORMALISED_DIFFERENCES,
    RADIUS,
    TimeEmbedding,
    UncertainSpatialAttention,
    band_features,
)
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter
from lacunar.networks.ssformer import HEADS, FourierCrossAttention, NeuralBandPass, SSFormer

SMALL = SegmenterConfig(sample_size=32, condition_widths=(8, 16, 16), widths=(8, 8, 16))
KINDS = {
    "whole": SMALL,
    "no anchor": replace(SMALL, anchor=False),
    "no ss-former": replace(SMALL, ss_former=False),
    "no diffusion": replace(SMALL, diffusion=False),
    "segdiff": replace(SMALL, kind="segdiff"),
}


def network(config=SMALL, *, stirred=True):
    """A network whose weights are all random: as built, some are zero so that training starts from a known answer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build_segmenter(config)
        if stirred:
            for parameter in built.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
    return built


def given(count=2, height=32, width=48):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 6, height, width, generator=generator)
    image[:, 3:] = torch.nan
    x_t = torch.randn(count, 1, height, width, generator=generator)
    return image, x_t, torch.arange(count) * 400 + 3


# --- the whole ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_receives_a_gradient(kind):
    net = network(KINDS[kind])
    pred_x_0, logits = net(*given())
    (pred_x_0.square().mean() + logits.square().mean()).backward()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_condition_read_once_serves_every_step_and_sample(kind):
    net, (image, x_t, t) = network(KINDS[kind]).eval(), given()
    with torch.no_grad():
        condition = net.condition(image)
        for steps in (t, t + 200):
            torch.testing.assert_close(net.restore(x_t, steps, condition), net(image, x_t, steps)[0])
        several = net.restore(x_t.repeat_interleave(3, 0), t.repeat_interleave(3), condition.repeated(3))
    torch.testing.assert_close(several[::3], net(image, x_t, t)[0].detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", [64, 96, 128, 256])
def test_any_multiple_of_the_stride_serves(side):
    net, (image, x_t, t) = network(SegmenterConfig(condition_widths=(8,) * 5, widths=(8,) * 5)), given(1, side, 64)
    with torch.no_grad():
        pred_x_0, logits = net(image, x_t, t)
    assert pred_x_0.shape == logits.shape == (1, 1, side, 64)
    assert pred_x_0.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_before_training_the_answer_is_that_of_the_condition_alone(kind):
    """Zero steps of diffusion: the prediction starts as the anchor's probability in mask units, whatever the noise."""
    net, (image, x_t, t) = network(KINDS[kind], stirred=False), given()
    with torch.no_grad():
        pred_x_0, logits = net(image, x_t, t)
    torch.testing.assert_close(pred_x_0, (2 * logits.sigmoid() - 1) * SMALL.mask_scale)


def test_without_diffusion_neither_noise_nor_time_matters():
    net, (image, x_t, t) = network(KINDS["no diffusion"]), given()
    with torch.no_grad():
        assert torch.equal(net(image, x_t, t)[0], net(image, -x_t, t + 7)[0])
        whole = network()
        assert not torch.equal(whole(image, x_t, t)[0], whole(image, -x_t, t)[0])
        assert not torch.equal(whole(image, x_t, t)[0], whole(image, x_t, t + 300)[0])


def test_each_switch_takes_its_part_away():
    names = {kind: {name.split(".")[0] for name in network(config).state_dict()} for kind, config in KINDS.items()}
    assert names["whole"] - names["no anchor"] == {"spatial_attention"}
    assert names["whole"] - names["no ss-former"] == {"spectrum_transformer"}
    assert names["no diffusion"] == {"condition_unet"}


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 6, 30, 32), (6, 32, 32)])
def test_an_image_that_does_not_fit_is_refused(shape):
    with pytest.raises(ModelError, match=r"wanted \(batch, 6, height, width\) with sides that are multiples of 8"):
        network().condition(torch.zeros(shape))


# --- the parts ---


def test_features_are_bands_presence_and_normalised_differences():
    image = torch.rand(2, 6, 4, 4, dtype=torch.float64)
    image[0, 4] = torch.nan
    image[1, :, 0, 0] = torch.nan
    features = band_features(image)
    assert features.shape == (2, FEATURES, 4, 4)
    assert features.isfinite().all()
    assert torch.equal(features[:, 6:12], image.isfinite().double())
    for place, (a, b) in enumerate(NORMALISED_DIFFERENCES):
        wanted = (image[:, a] - image[:, b]) / (image[:, a] + image[:, b] + 0.02)
        torch.testing.assert_close(features[:, 12 + place], wanted.nan_to_num())


def test_the_anchor_opens_with_the_smoothed_condition_where_that_is_larger():
    module = UncertainSpatialAttention(1, 1)
    with torch.no_grad():
        module.conv.weight.fill_(1.0)
        module.conv.bias.fill_(0.0)
    condition = torch.zeros(1, 1, 15, 15)
    condition[..., 7, 7] = 1.0
    noisy = torch.full((1, 1, 15, 15), 2.0)
    at = np.arange(-RADIUS, RADIUS + 1)
    line = np.exp(-0.5 * at**2)
    line /= line.sum()
    smooth = np.zeros((15, 15))
    smooth[7 - RADIUS : 8 + RADIUS, 7 - RADIUS : 8 + RADIUS] = np.outer(line, line)
    gate = 1 / (1 + np.exp(-np.maximum(smooth, condition[0, 0].numpy())))
    np.testing.assert_allclose(module(noisy, condition)[0, 0].detach().numpy(), 2 * gate + 2, rtol=1e-5)
    assert module.kernel().sum(dim=(2, 3)).detach().numpy() == pytest.approx(1.0)


def attention():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FourierCrossAttention(16, 24, 32)


def parts(shape=(3, 4)):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, HEADS, shape[0] * shape[1], 4, generator=generator) for _ in range(2)]


def test_a_filter_that_passes_all_leaves_plain_attention():
    module, shape, embedding = attention(), (3, 4), torch.zeros(2, 32)
    query, key = parts(shape)
    assert torch.equal(module.filter(shape, embedding), torch.ones(2, HEADS, 12, 12))
    torch.testing.assert_close(module.affinity(query, key, shape, embedding), query @ key.mT, atol=1e-5, rtol=1e-4)


def test_the_filter_keeps_the_frequencies_that_it_passes(monkeypatch):
    """A filter that passes the zero frequency of both alone leaves the mean of the affinity."""
    module, shape = attention(), (3, 4)
    query, key = parts(shape)
    only = torch.zeros(2, HEADS, 12, 12)
    only[:, :, 0, 0] = 1
    monkeypatch.setattr(module.filter, "forward", lambda shape, embedding: only)
    mean = (query @ key.mT).mean(dim=(2, 3), keepdim=True).expand(-1, -1, 12, 12)
    torch.testing.assert_close(module.affinity(query, key, shape, torch.zeros(2, 32)), mean, atol=1e-5, rtol=1e-4)


def test_any_gain_is_the_filtered_spectrum_of_the_affinity(monkeypatch):
    """Against the discrete Fourier matrices themselves."""
    module, shape = attention(), (3, 4)
    query, key = parts(shape)
    gain = torch.rand(2, HEADS, 12, 12, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(module.filter, "forward", lambda shape, embedding: gain)
    fourier = [torch.fft.fft(torch.eye(length, dtype=torch.complex64), norm="ortho") for length in shape]
    whole = torch.kron(*fourier)
    spectrum = whole @ (query @ key.mT).to(torch.complex64) @ whole.mH
    wanted = (whole.mH @ (gain * spectrum) @ whole).real
    torch.testing.assert_close(module.affinity(query, key, shape, torch.zeros(2, 32)), wanted, atol=1e-4, rtol=1e-3)


def test_the_gain_serves_any_size_and_the_time_decides_what_passes():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = NeuralBandPass(8)
        torch.nn.init.normal_(module.out.weight)
    for shape, count in (((4, 4), 16), ((2, 3), 6)):
        gain = module(shape, torch.zeros(1, 8))
        assert gain.shape == (1, HEADS, count, count)
        assert 0 <= float(gain.detach().min()) < 0.5
        assert 1.5 < float(gain.detach().max()) <= 2
        assert not torch.allclose(module(shape, torch.ones(1, 8)), gain, atol=0.1)


def test_the_two_directions_both_matter():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, noise, condition = SSFormer(16, 24, 32), torch.randn(2, 16, 3, 4), torch.randn(2, 24, 3, 4)
    embedding = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    heard = module(noise, condition, embedding)
    assert heard.shape == noise.shape
    assert not torch.allclose(module(noise, condition.flip(0), embedding), heard)
    asked = module.into_condition(condition, noise, embedding)
    torch.testing.assert_close(module.into_noise(noise, asked, embedding), heard)
    assert not torch.allclose(asked, module.into_condition(condition, noise.flip(0), embedding))


def test_times_are_told_apart():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedded = TimeEmbedding(32)(torch.arange(0, 1000, 50))
    distances = torch.cdist(embedded, embedded) + torch.eye(len(embedded))
    assert distances.min() > 1e-3


# --- the configuration ---


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "unet"}, "kind is 'unet', wanted one of"),
        ({"widths": (8, 12, 16)}, "multiples of 8, finest first"),
        ({"widths": (8,)}, "two or more"),
        ({"widths": (8, 16)}, "3 condition_widths and 2 widths"),
        ({"anchor": 1}, "anchor is 1, wanted true or false"),
        ({"mask_scale": 0}, r"mask_scale is 0, wanted a number in \(0, 1\]"),
        ({"sample_size": 36}, "wanted a multiple of 8"),
        ({"kind": "segdiff", "diffusion": False}, "SegDiff without diffusion"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changed, said):
    with pytest.raises(ModelError, match=said):
        SegmenterConfig(**{**SMALL.to_dict(), **changed})


def test_a_configuration_goes_through_a_mapping_and_refuses_unknown_keys():
    assert SegmenterConfig.from_dict(SMALL.to_dict()) == SMALL
    assert network().spec == SMALL
    with pytest.raises(ModelError, match="unknown key depth; known are"):
        SegmenterConfig.from_dict({**SMALL.to_dict(), "depth": 3})


def test_segdiff_has_neither_part_whatever_older_folders_say():
    old = SegmenterConfig.from_dict({**replace(SMALL, kind="segdiff").to_dict(), "anchor": True, "ss_former": True})
    assert (old.anchor, old.ss_former) == (False, False)
    assert build_segmenter(old).spec == old
