"""What segmenters are trained towards, by hand; and recipes from a pack to a model folder."""

from dataclasses import replace

import pytest
import torch

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.train.objectives import SegmentationObjective, anchor_loss, logit_calibration, seeded

OBJECTIVE = SegmentationObjective(schedule=NoiseSchedule.cosine(100), mask_scale=0.5)


def batch():
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    valid = torch.ones(2, 1, 4, 4)
    valid[:, :, :, 3] = 0
    return {"image": torch.zeros(2, 6, 4, 4), "mask": mask, "valid": valid}


def test_the_anchor_loss_is_dice_and_ten_times_cross_entropy_where_valid():
    part = batch()
    logits = torch.where(part["mask"] > 0, 1.0, -2.0)
    logits[part["valid"] == 0] = 100.0
    share, other = 1 / (1 + torch.e**-1), 1 / (1 + torch.e**2)
    entropy = -(torch.log(torch.tensor(share)) + torch.log(torch.tensor(1 - other))) / 2
    dice = 1 - (2 * 12 * share + 1) / (12 * share + 12 * other + 12 + 1)
    assert float(anchor_loss(logits, part["mask"], part["valid"])) == pytest.approx(
        float(dice + 10 * entropy), rel=1e-5
    )


@pytest.mark.parametrize("step", [0, 1, 5])
def test_the_noise_loss_is_in_units_of_the_mask_and_the_anchor_joins_every_fifth_step(step):
    part = batch()
    logits = torch.zeros(2, 1, 4, 4)

    def network(image, x_t, t):
        return torch.full_like(x_t, 0.25), logits  # half as sure as the truth in water, wrong on land

    loss = OBJECTIVE.loss(network, part, step=step, generator=seeded(1))
    anchor = float(anchor_loss(logits, part["mask"], part["valid"])) if step % 5 == 0 else 0.0
    assert float(loss) == pytest.approx((0.5**2 + 1.5**2) / 2 + anchor)


def test_a_plain_segmenter_is_trained_on_its_logits_alone():
    part, logits = batch(), torch.full((2, 1, 4, 4), 0.3)
    loss = replace(OBJECTIVE, diffuses=False).loss(
        lambda image, x_t, t: (x_t, logits), part, step=1, generator=seeded(1)
    )
    assert torch.equal(loss, anchor_loss(logits, part["mask"], part["valid"]))


def test_the_noisy_mask_is_the_forward_process():
    part, seen = batch(), []

    def network(image, x_t, t):
        seen.append((x_t, t))
        return x_t, x_t

    OBJECTIVE.loss(network, part, step=1, generator=seeded(4))
    (x_t, t) = seen[0]
    abar = torch.tensor(OBJECTIVE.schedule.alphas_cumprod)[t].float()[:, None, None, None]
    eps = (x_t - abar.sqrt() * (part["mask"] - 0.5)) / (1 - abar).sqrt()
    again = []
    OBJECTIVE.loss(lambda *given: again.append(given) or (given[1], given[1]), part, step=1, generator=seeded(4))
    assert torch.equal(again[0][1], x_t)
    assert 0.5 < float(eps.std()) < 1.5


def test_scores_count_overlap_where_valid():
    class Items:
        def __len__(self):
            return 3

        def __getitem__(self, key):
            return {name: value[0] for name, value in batch().items()}

    def network(image, x_t, t):
        assert (t == 99).all()
        pred_x_0 = torch.full_like(x_t, -0.5)
        pred_x_0[:, :, :1] = 0.5  # the first of the two rows of water
        return pred_x_0, torch.full_like(x_t, 1.0)

    scores = OBJECTIVE.score(network, Items(), device=torch.device("cpu"))
    assert scores == {"loss": pytest.approx(1.0), "iou": pytest.approx(0.5), "anchor_iou": pytest.approx(0.5)}


def test_calibration_finds_what_the_logits_were_changed_by():
    """Pixels are water with probability sigmoid(2 z - 1); a network that answers z is told scale 2 and shift -1."""
    generator = torch.Generator().manual_seed(0)

    class Items:
        def __len__(self):
            return 16

        def __getitem__(self, key):
            image = 2 * torch.randn(6, 64, 64, generator=generator)
            mask = torch.bernoulli(torch.sigmoid(2 * image[:1] - 1), generator=generator)
            valid = torch.ones(1, 64, 64)
            valid[:, :8], mask[:, :8] = 0, 1
            return {"image": image, "mask": mask, "valid": valid}

    found = logit_calibration(lambda image: image[:, :1], Items(), device=torch.device("cpu"))
    assert found == pytest.approx((2, -1), abs=0.2)
