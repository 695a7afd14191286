"""Segmenting arrays: a network whose answer is known, seams, sizes, blocks, seeds, absent bands and invalid pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit, logit

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import LacunarError, ModelError
from lacunar.geo.windows import Tile
from lacunar.models.backend import load_filler, load_segmenter
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel, save_model
from lacunar.networks.layers import Condition
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter
from lacunar.segment.array import POOR_SHARE, segment_array, segment_blocks

SIDE = 64


class Bright(torch.nn.Module):
    """Water is where the red band is dark: a prediction that looks at its own pixel alone, whatever the noise."""

    spec = SegmenterConfig(sample_size=SIDE, condition_widths=(8, 8), widths=(8, 8))

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.0))
        self.read = 0

    def condition(self, image):
        self.read += len(image)
        empty = image.new_zeros(len(image), 0)
        return Condition(empty, empty, image[:, 2:3].nan_to_num(), empty)

    def restore(self, x_t, t, condition):
        assert len(x_t) == len(t) == len(condition.logits)
        return self.gain * (0.5 - condition.logits)


class Doubting(Bright):
    """Half of what it says is the noisy mask itself."""

    def restore(self, x_t, t, condition):
        return 0.5 * super().restore(x_t, t, condition) + 0.1 * x_t


class Relative(Bright):
    """Water is where the red band is darker than in the tile as a whole: another tile gives another answer."""

    def restore(self, x_t, t, condition):
        return self.gain * (condition.logits.mean(dim=(2, 3), keepdim=True) - condition.logits)


def model(network, card=None):
    return SimpleNamespace(
        name="a model",
        network=network,
        schedule=NoiseSchedule.cosine(100),
        prediction="x_0",
        card=card or Card(summary="", licence=""),
    )


def picture(height, width, seed=0):
    bands = np.full((6, height, width), np.nan, np.float32)
    bands[:3] = np.random.default_rng(seed).random((3, height, width))
    return bands


@pytest.mark.parametrize("shape", [(64, 64), (20, 33), (100, 150), (64, 65)])
def test_any_size_gets_the_answer_of_the_network(shape):
    bands = picture(*shape)
    found = segment_array(bands, model(Bright()), steps=3, samples=2)
    assert found.samples.shape == (2, *shape)
    np.testing.assert_allclose(found.samples.mean(axis=0), 1 - bands[2], atol=1e-5)
    np.testing.assert_allclose(found.samples.std(axis=0), 0, atol=1e-6)
    assert found.evaluations == 3


def test_each_tile_is_read_once_whatever_the_steps_and_samples():
    network = Bright()
    segment_array(picture(64, 112), model(network), steps=7, samples=4)
    assert network.read == 2


def test_samples_differ_where_the_network_doubts_and_a_seed_repeats_them():
    bands = picture(70, 90)
    first, again, other = (segment_array(bands, model(Doubting()), steps=3, samples=4, seed=s) for s in (1, 1, 2))
    assert first.samples.std(axis=0).min() > 0
    np.testing.assert_array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)


def test_what_is_not_valid_stays_nan_and_empty_tiles_are_not_read():
    bands, network = picture(64, 300), Bright()
    bands[:, :, 120:] = np.nan
    found = segment_array(bands, model(network), steps=1, samples=1)
    np.testing.assert_array_equal(np.isnan(found.samples[0]), np.isnan(bands[2]))
    assert network.read == 3  # of five
    nothing = segment_array(np.full((6, 10, 10), np.nan, np.float32), model(network), steps=1, samples=2)
    assert np.isnan(nothing.samples).all()
    assert network.read == 3


def test_blocks_are_the_whole_image(monkeypatch):
    bands = picture(300, 260)
    network = model(Bright())
    out = np.full((2, 300, 260), -1.0, np.float32)
    done = []
    for block in segment_blocks(
        lambda window: bands[:, *window.slices],
        (300, 260),
        network,
        steps=2,
        samples=2,
        callback=lambda *at: done.append(at),
    ):
        assert (out[:, *block.window.slices] == -1).all()
        out[:, *block.window.slices] = block.samples
    np.testing.assert_allclose(out, segment_array(bands, network, steps=2, samples=2).samples, atol=1e-6)
    assert done[-1] == (400, 400)


def test_a_block_shares_noise_and_tiles_with_the_whole():
    """With a network that hears its noise: each block equals the whole up to what comes from beyond its halo."""
    bands, network = picture(340, 100), model(Doubting())
    whole = segment_array(bands, network, steps=2, samples=2, seed=3).samples
    blocks = list(
        segment_blocks(lambda window: bands[:, *window.slices], (340, 100), network, steps=2, samples=2, seed=3)
    )
    assert [block.window for block in blocks] == [Tile(0, 0, 240, 100), Tile(240, 0, 100, 100)]
    parts = np.concatenate([block.samples for block in blocks], axis=1)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_blocks_inside_an_image_share_their_tiles_with_the_whole():
    """The last tiles of what a block reads are moved back to its end; none of them may touch its core."""
    bands, network = picture(760, 64), model(Relative())
    bands *= np.linspace(0.2, 1, 760, dtype=np.float32)[:, None]
    whole = segment_array(bands, network, steps=2, samples=1).samples
    blocks = list(segment_blocks(lambda window: bands[:, *window.slices], (760, 64), network, steps=2, samples=1))
    assert len(blocks) > 3
    parts = np.concatenate([block.samples for block in blocks], axis=1)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize("options", [{"steps": 0}, {"samples": 0}])
def test_what_cannot_be_segmented_is_refused(options):
    with pytest.raises(LacunarError, match=r"wanted \(6, height, width\)"):
        segment_array(picture(20, 20), model(Bright()), **options)
    with pytest.raises(LacunarError, match=r"got bands \(3, 20, 20\)"):
        segment_array(picture(20, 20)[:3], model(Bright()))


# --- a real network, through its folder ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_segmenter(SegmenterConfig(sample_size=32, condition_widths=(8, 16), widths=(8, 8)))
        for parameter in network.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    card = Card(summary="random", licence="none")
    where, schedule = tmp_path_factory.mktemp("models") / "random", NoiseSchedule.cosine(100)
    model = SegmentationModel(name="random", network=network, schedule=schedule, prediction="x_0", card=card)
    save_model(where, model, dtype="float16")
    return where


def test_a_segmenter_goes_through_its_folder(folder, tiny_folder):
    loaded = load_segmenter(folder)
    assert loaded.name == "random"
    assert loaded.network.spec == SegmenterConfig(sample_size=32, condition_widths=(8, 16), widths=(8, 8))
    assert not loaded.network.training
    assert all(value.dtype == torch.float32 for value in loaded.network.state_dict().values())
    found = segment_array(picture(40, 50), loaded, steps=2, samples=2)
    assert np.isfinite(found.samples).all()
    assert ((found.samples >= 0) & (found.samples <= 1)).all()
    with pytest.raises(ModelError, match="random segments water, wanted one that fills gaps"):
        load_filler(folder)
    with pytest.raises(ModelError, match="tiny fills gaps, wanted one that segments water"):
        load_segmenter(tiny_folder)


def test_a_plain_segmenter_answers_to_views(tmp_path):
    network = build_segmenter(SegmenterConfig(sample_size=32, condition_widths=(8, 16), widths=(8, 8), diffusion=False))
    model = SegmentationModel(
        name="plain",
        network=network,
        schedule=NoiseSchedule.cosine(100),
        prediction="x_0",
        card=Card(summary="random", licence="none"),
    )
    save_model(tmp_path / "plain", model)
    found = segment_array(picture(40, 50), load_segmenter(tmp_path / "plain"), steps=5, samples=4)
    assert (len(found.samples), found.evaluations) == (4, 1)
    np.testing.assert_allclose(found.samples.mean(axis=0), 0.5, atol=1e-6)  # its head starts at zero


class Leftward(Bright):
    """A plain segmenter that is not the same from all sides: water is where it is darker than one pixel to the left."""

    spec = SegmenterConfig(sample_size=SIDE, condition_widths=(8, 8), widths=(8, 8), diffusion=False)

    def restore(self, x_t, t, condition):
        return self.gain * (condition.logits.roll(1, dims=3) - condition.logits)


def test_a_plain_segmenter_sees_the_square_from_all_sides():
    bands = picture(SIDE, SIDE)
    found = segment_array(bands, model(Leftward()), steps=5, samples=12)
    assert (len(found.samples), found.evaluations) == (8, 1)
    red = bands[2].astype(np.float64)
    # Darker than the pixel to the left, to the right, above or below: each by two of the eight views.
    neighbours = [np.roll(red, shift, axis) for axis in (1, 0) for shift in (1, -1)]
    wanted = [np.clip((neighbour - red) / 0.5 / 2 + 0.5, 0, 1) for neighbour in neighbours]
    matches = [sum(np.allclose(sample, want, atol=1e-5) for sample in found.samples) for want in wanted]
    assert matches == [2, 2, 2, 2]
    one = segment_array(bands, model(Leftward()), samples=1)
    np.testing.assert_allclose(one.samples[0], wanted[0], atol=1e-5)  # the first view is the image itself
    assert not one.samples.std(axis=0).any()
    assert found.samples.std(axis=0).max() > 0.01


def test_views_of_what_looks_the_same_from_all_sides_agree():
    network = Bright()
    network.spec = Leftward.spec
    found = segment_array(picture(150, 130), model(network), samples=8)
    np.testing.assert_allclose(found.samples, np.repeat(found.samples[:1], 8, axis=0), atol=1e-6)


def looking(**looks):
    return model(Relative(), Card(summary="", licence="", looks=looks))


def test_few_bands_are_looked_at_coarsely_too_and_logits_are_weighed():
    """A lake larger than a tile: in a tile that it fills nothing is darker than the rest, at a quarter it is."""
    bands = np.full((6, 256, 256), np.nan, np.float32)
    bands[:3] = 0.9
    bands[:3, 40:216, 40:216] = 0.1
    near, far = (
        segment_array(bands, looking(**looks), steps=1, samples=1).samples[0] for looks in ({}, {"1": 0, "4": 1})
    )
    assert near[120:136, 120:136] == pytest.approx(0.5, abs=0.05)
    assert far[120:136, 120:136].min() > 0.6
    assert far[:20, :20].max() < 0.4
    both = segment_array(bands, looking(**{"1": 0.5, "4": 0.25, "shift": 0.3}), steps=1, samples=1).samples[0]
    joined = 0.5 * logit(near) + 0.25 * logit(far) + 0.3
    np.testing.assert_allclose(both, expit(joined), atol=5e-3)  # sure answers are clipped


def test_coarse_looks_leave_no_seam_between_blocks():
    rng = np.random.default_rng(0)
    bands = np.full((6, 500, 90), np.nan, np.float32)
    bands[:3] = rng.random((3, 500, 90))
    bands[:, 200:210] = np.nan
    network = model(Bright(), Card(summary="", licence="", looks={"1": 0.5, "2": 0.3, "4": 0.2}))
    found = segment_array(bands, network, steps=1, samples=1).samples[0]
    assert np.isnan(found[200:210]).all()
    assert np.isfinite(found[:200]).all()
    assert np.isfinite(found[210:]).all()
    shown = bands[2, 212:, :88]
    looks = (shown, shown.reshape(144, 2, 44, 2).mean(axis=(1, 3)), shown.reshape(72, 4, 22, 4).mean(axis=(1, 3)))
    row, col, joined = 101, 41, 0.0  # the centre of no coarse pixel: between four of each
    for image, factor, weight in zip(looks, (1, 2, 4), (0.5, 0.3, 0.2), strict=True):
        place = [[(row + 0.5) / factor - 0.5], [(col + 0.5) / factor - 0.5]]
        joined += weight * ndimage.map_coordinates(logit(1 - image), place, order=1)[0]
    assert found[212 + row, col] == pytest.approx(expit(joined), abs=2e-3)


def test_of_one_visible_band_little_is_believed():
    bands = np.full((6, 64, 64), np.nan, np.float32)
    bands[2] = 0.1
    (poor,) = segment_array(bands, model(Bright()), steps=1, samples=1).samples
    bands[3] = 0.1
    (two,) = segment_array(bands, model(Bright()), steps=1, samples=1).samples
    assert two[0, 0] == pytest.approx(0.9, abs=1e-3)
    assert poor[0, 0] == pytest.approx(expit(POOR_SHARE * logit(0.9)), abs=1e-3)


def test_ndwi_is_evidence_where_bands_are_many():
    bands = np.full((6, 64, 64), 0.5, np.float32)  # the network's answer is 0.5 everywhere
    bands[3, :, :32], bands[3, :, 32:] = 0.1, 0.9
    bands[4:] = np.nan
    card = Card(summary="", licence="", ndwi=(20, 0, -4, 3), looks={"1": 0, "shift": 9})
    found = segment_array(bands, model(Bright(), card), steps=1, samples=1).samples[0]
    np.testing.assert_allclose(found[:, :32], expit(3), atol=1e-4)
    np.testing.assert_allclose(found[:, 32:], expit(-4), atol=1e-4)
    bands[0] = np.nan  # three bands: no evidence, and the looks' own shift
    assert segment_array(bands, model(Bright(), card), steps=1, samples=1).samples[0].min() > 0.99


def test_values_that_training_did_not_show_are_doubted():
    bands = np.full((6, 64, 64), np.nan, np.float32)
    bands[:3] = 0.1
    bands[2, :32] = 0.05
    card = Card(summary="", licence="", ranges={"blue": (0, 2), "red": (0.08, 2), "nir": (0, 2)})
    found = segment_array(bands, model(Bright(), card), steps=1, samples=1).samples[0]
    np.testing.assert_allclose(found[:32], expit(0.5 * logit(0.95)), atol=1e-3)
    np.testing.assert_allclose(found[32:], 0.9, atol=1e-3)
