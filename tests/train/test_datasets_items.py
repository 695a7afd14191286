"""Items of the LST data set: decided by their key, varied by symmetries, and what an unconditional one is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lacunar.train.lst_data import NEGATED_SHARE, LstDataset, LstExamples

COUNT, SIZE = 24, 16


@pytest.fixture(scope="module")
def examples() -> LstExamples:
    """Examples as `make_examples` gives them, with a gap that no symmetry keeps."""
    rng = np.random.default_rng(0)
    z, base, spread, guide = rng.standard_normal((4, COUNT, SIZE, SIZE))
    gap = np.zeros((SIZE, SIZE), bool)
    gap[1:12, 2:6] = gap[1:4, 2:13] = True
    return LstExamples(*(part.astype(np.float16) for part in (z * gap, base, (0.1 + np.abs(spread)) * gap, guide)))


def test_an_item_is_decided_by_seed_epoch_and_index(examples: LstExamples):
    first, again = (LstDataset(examples, unconditional_share=0.3, augment=True, seed=4) for _ in range(2))
    other = LstDataset(examples, unconditional_share=0.3, augment=True, seed=5)
    keys = [(epoch, index) for epoch in range(3) for index in range(len(first))]
    forward = {key: first[key] for key in keys}
    for key in reversed(keys):
        for name, value in again[key].items():
            torch.testing.assert_close(value, forward[key][name], rtol=0, atol=0)
    assert any(not torch.equal(forward[key]["x_0"], other[key]["x_0"]) for key in keys)
    epochs = [torch.stack([forward[epoch, i]["x_0"] for i in range(len(first))]) for epoch in range(3)]
    assert not torch.equal(epochs[0], epochs[1])


def test_an_item_without_variation_is_its_example(examples: LstExamples):
    dataset = LstDataset(examples, unconditional_share=0.0, augment=False, seed=0)
    assert len(dataset) == COUNT
    for index in range(COUNT):
        item = dataset[7, index]
        assert {name: tuple(value.shape) for name, value in item.items()} == {
            "x_0": (1, SIZE, SIZE),
            "condition": (3, SIZE, SIZE),
            "missing": (1, SIZE, SIZE),
            "weight": (1, SIZE, SIZE),
        }
        assert {value.dtype for value in item.values()} == {torch.float32}
        parts = (examples.z, examples.mean, examples.sigma, examples.guide)
        z, base, spread, guide = (part[index].astype(np.float32) for part in parts)
        np.testing.assert_array_equal(item["x_0"][0], z)
        np.testing.assert_array_equal(item["condition"], np.stack([base, spread, guide]))
        np.testing.assert_array_equal(item["missing"][0], spread > 0)
        np.testing.assert_allclose(item["weight"][0], spread / spread.mean(), rtol=1e-6)


def test_an_unconditional_item_is_the_standardised_field_in_one_gap(examples: LstExamples):
    dataset = LstDataset(examples, unconditional_share=1.0, augment=False, seed=0)
    for index in range(COUNT):
        item = dataset[0, index]
        assert not item["condition"][0].any()
        assert torch.all(item["condition"][1] == 1)
        assert not item["condition"][2].any()  # other dates are not heard either
        assert torch.all(item["missing"] == 1)
        assert torch.all(item["weight"] == 1)
        assert abs(float(item["x_0"].mean())) < 1e-4
        assert float(item["x_0"].std(correction=0)) == pytest.approx(1, abs=1e-3)
        field = examples.mean[index] + examples.sigma[index].astype(float) * examples.z[index]
        correlation = np.corrcoef(item["x_0"].flatten(), field.ravel())[0, 1]
        assert correlation == pytest.approx(1, abs=1e-4)


def test_the_share_of_unconditional_items(examples: LstExamples):
    dataset = LstDataset(examples, unconditional_share=0.25, augment=True, seed=0)
    everything = [bool(dataset[epoch, i]["missing"].all()) for epoch in range(20) for i in range(COUNT)]
    assert np.mean(everything) == pytest.approx(0.25, abs=0.06)


def test_variations_are_the_eight_symmetries_and_the_sign(examples: LstExamples):
    plain = LstDataset(examples, unconditional_share=0.0, augment=False, seed=0)[0, 0]
    varied = LstDataset(examples, unconditional_share=0.0, augment=True, seed=0)
    seen = set()
    for epoch in range(200):
        item = varied[epoch, 0]
        assert torch.equal(item["missing"], (item["condition"][1:2] > 0).float())
        matches = []
        for turn in range(8):
            for sign in (1, -1):
                turned = {
                    name: torch.rot90(value.flip(2) if turn // 4 else value, turn % 4, (1, 2))
                    for name, value in plain.items()
                }
                turned["x_0"] = turned["x_0"] * sign
                turned["condition"] = turned["condition"] * torch.tensor([sign, 1.0, sign])[:, None, None]
                if all(torch.equal(turned[name], item[name]) for name in item):
                    matches.append((turn, sign))
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 16
    negative = sum(
        float((varied[epoch, 0]["x_0"].sum() * plain["x_0"].sum()).sign() < 0) for epoch in range(200)
    )  # a symmetry keeps the sum
    assert negative / 200 == pytest.approx(NEGATED_SHARE, abs=0.08)


def test_an_item_from_a_constant_field_is_finite(examples: LstExamples):
    still = replace(examples, z=np.zeros_like(examples.z), mean=np.ones_like(examples.mean))
    item = LstDataset(still, unconditional_share=1.0, augment=True, seed=0)[0, 0]
    assert all(value.isfinite().all() for value in item.values())
    assert not item["x_0"].any()
