"""What networks are trained towards, by hand: masks, what is missing, whole images, a teacher's answers."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lacunar.diffusion.losses import l_hybrid, l_vlb
from lacunar.diffusion.process import q_sample
from lacunar.diffusion.samplers import plan
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import ddim_sample
from lacunar.errors import TrainingError
from lacunar.train.loop import Ema, train
from lacunar.train.objectives import (
    DenoisingObjective,
    DistillationObjective,
    SegmentationObjective,
    anchor_loss,
    cover_loss,
    distillation_target,
    draw_noise,
    logit_calibration,
    seeded,
)
from oracles import GaussianDenoiser
from trainings import EDGE, SCHEDULE, SHORT, SIZE, Copies, Interrupted, tiny

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


def test_what_is_not_water_is_told_apart_where_that_is_known():
    cover = torch.full((1, 1, 2, 2), -1.0)
    logits = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert float(cover_loss(logits, cover)) == 0
    cover[0, 0, 0] = torch.tensor([2.0, 0.0])
    shares = torch.softmax(logits, dim=1)[0, :, 0]
    assert float(cover_loss(logits, cover)) == pytest.approx(-float(shares[2, 0].log() + shares[0, 1].log()), rel=1e-5)

    part = batch() | {"cover": torch.zeros(2, 1, 4, 4)}
    every = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    plain = replace(OBJECTIVE, diffuses=False)
    loss = plain.loss(lambda image, x_t, t: (x_t, every), part, step=1, generator=torch.Generator())
    wanted = anchor_loss(every[:, :1], part["mask"], part["valid"]) + cover_loss(every[:, 1:], part["cover"])
    assert torch.equal(loss, wanted)


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


# --- restoring what is missing ---


class Gain(nn.Module):
    """Predicts gain * base on the left of a column and zero on the right of it."""

    def __init__(self, gain: float, column: int = SIZE):
        super().__init__()
        self.gain, self.column = nn.Parameter(torch.tensor(gain)), column

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        left = (torch.arange(SIZE) < self.column).float()
        return self.gain * x[:, 1:2] * left


def score(network, examples, *, schedule=SCHEDULE, prediction="x_0"):
    objective = DenoisingObjective(schedule=schedule, prediction=prediction)
    return objective.score(network, examples, device=torch.device("cpu"))


def test_predicting_zero_scores_one():
    network = Gain(0.0)
    exact = score(network, Copies(5), schedule=NoiseSchedule.cosine(1000))
    assert exact["rmse_ratio"] == 1
    # v = 0 at the noisiest step means x_0 = sqrt(abar) x_T, and sqrt(abar) = 5e-5 there.
    nearly = score(network, Copies(5), schedule=NoiseSchedule.cosine(1000), prediction="v")
    assert nearly["rmse_ratio"] == pytest.approx(1, abs=1e-3)
    everything = torch.stack([Copies(5)[0, i]["x_0"][..., :EDGE] for i in range(5)])
    assert exact["loss"] == pytest.approx(float(everything.square().mean()), rel=1e-5)


def test_scores_by_hand_with_a_spread_that_varies():
    class Steps(Copies):
        def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
            item = super().__getitem__(key)
            item["weight"] = torch.ones_like(item["missing"])  # the known side does not count all the same
            item["condition"][1, :, 2:EDGE] *= 3  # spread 1 in the columns 0 and 1, 3 in the others
            return item

    network = Gain(0.3, column=2)  # x_0 is 0.5 base: a residual of 0.2 base is left there
    scores = score(network, Steps(40))
    base = torch.stack([Copies(40)[0, i]["condition"][0] for i in range(40)]).double()
    near, far = (float((base[..., cols] ** 2).sum()) for cols in (slice(0, 2), slice(2, EDGE)))
    ratio = (0.2**2 * near + 0.5**2 * 9 * far) / (0.5**2 * near + 0.5**2 * 9 * far)
    assert scores["rmse_ratio"] == pytest.approx(math.sqrt(ratio), rel=1e-5)
    assert scores["loss"] == pytest.approx((0.2**2 * near + 0.5**2 * far) / (40 * SIZE * EDGE), rel=1e-5)


def test_it_is_the_moving_average_that_is_scored_and_the_network_stays():
    network = Gain(0.5)
    ema = Ema(network, 0.9)
    with torch.no_grad():
        network.gain.fill_(7.0)
    scores = score(ema.smoothed(network), Copies(5))
    assert scores == {"loss": 0.0, "rmse_ratio": 0.0}
    with pytest.raises(KeyboardInterrupt):
        score(ema.smoothed(network), Interrupted(3))
    assert float(network.gain.detach()) == 7.0


# --- L_hybrid ---


class TwoPlanes(nn.Module):
    """Says a constant and a range parameter for every pixel, whatever it is given."""

    def __init__(self, prediction: float = 0.2, o: float = 0.4):
        super().__init__()
        self.said = nn.Parameter(torch.tensor([prediction, o]))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.said[:, None, None].expand(len(x), 2, SIZE, SIZE)


@pytest.mark.parametrize("conditional", [True, False])
def test_the_hybrid_objective_is_l_hybrid_and_scores_its_bound(conditional: bool):
    items = [Copies(8)[0, index] for index in range(8)]
    batch = {name: torch.stack([item[name] for item in items]) for name in (items[0] if conditional else ("x_0",))}
    objective = DenoisingObjective(schedule=SCHEDULE, prediction="v", objective="hybrid", last_step_share=0.0)
    network = TwoPlanes()
    loss = objective.loss(network, batch, step=0, generator=seeded(5))
    t, eps = draw_noise(batch["x_0"], 100, 0.0, seeded(5))
    region = batch["missing"] * batch["weight"] if conditional else None
    said, given = network(eps, t), {"prediction": "v", "discretised": False, "region": region}
    by_hand = l_hybrid(said, batch["x_0"], eps, t, SCHEDULE, **given).mean()
    torch.testing.assert_close(loss, by_hand)
    loss.backward()
    assert (network.said.grad != 0).all()

    class Items:
        def __len__(self):
            return 8

        def __getitem__(self, key):
            return {name: value[key[1]] for name, value in batch.items()}

    scores = objective.score(network, Items(), device=torch.device("cpu"))
    assert set(scores) == {"loss", "vlb"} | ({"rmse_ratio"} if conditional else set())
    eps, t = torch.randn(batch["x_0"].shape, generator=seeded(0)), torch.arange(8) * 100 // 8
    terms = l_vlb(said, batch["x_0"], q_sample(batch["x_0"], t, eps, SCHEDULE), t, SCHEDULE, **given)
    assert scores["vlb"] == pytest.approx(100 * terms.mean().item(), rel=1e-5)


# --- progressive distillation ---

MEAN = torch.tensor([0.3, -1.0, 2.0, 0.0])
COVARIANCE = torch.tensor([[1.0, 0.4, 0.1, 0.0], [0.4, 0.8, 0.2, 0.1], [0.1, 0.2, 1.5, 0.3], [0.0, 0.1, 0.3, 0.6]])


def constant(x_0: torch.Tensor):
    """A denoiser that always says this x_0."""
    return lambda x_t, t: x_0.expand_as(x_t)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x_0"])
def test_one_step_to_the_target_ends_where_two_of_the_teacher_do(prediction):
    schedule = NoiseSchedule.cosine(101)
    teacher = GaussianDenoiser(MEAN, COVARIANCE, schedule, prediction)
    x_T = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    two = ddim_sample(teacher, x_T, schedule.respaced(3), prediction=prediction)  # steps 100, 50, 0
    t = torch.full((6,), 100)
    x_0 = distillation_target(teacher, x_T, (t, t // 2, t * 0), schedule, prediction)
    alpha_bar = schedule.alphas_cumprod
    eps = (x_T - alpha_bar[100] ** 0.5 * x_0) / (1 - alpha_bar[100]) ** 0.5
    x_next = alpha_bar[0] ** 0.5 * x_0 + (1 - alpha_bar[0]) ** 0.5 * eps
    clean = teacher(x_next, t * 0)
    found = {
        "x_0": clean,
        "epsilon": (x_next - (1 - alpha_bar[0]) ** 0.5 * clean) / alpha_bar[0] ** 0.5,
        "v": alpha_bar[0] ** 0.5 * x_next - (1 - alpha_bar[0]) ** 0.5 * clean,
    }[prediction]
    torch.testing.assert_close(found, two, rtol=1e-9, atol=1e-9)


def test_steps_differ_from_image_to_image():
    schedule = NoiseSchedule.cosine(101)
    teacher = GaussianDenoiser(MEAN, COVARIANCE, schedule, "v")
    x_t = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    times = torch.tensor([[100, 60, 20], [50, 30, 10], [0, 10, -1]])
    together = distillation_target(teacher, x_t, tuple(times), schedule, "v")
    alone = [distillation_target(teacher, x_t[i : i + 1], tuple(times[:, i : i + 1]), schedule, "v") for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_teacher_that_never_changes_its_mind_is_the_target():
    x_0 = torch.tensor([[[[1.5, -2.0]]]])
    t = torch.tensor([80])
    found = distillation_target(
        constant(x_0), torch.ones_like(x_0), (t, t // 2, t * 0 - 1), NoiseSchedule.cosine(101), "x_0"
    )
    torch.testing.assert_close(found, x_0)


def trained_teacher(folder: Path):
    """A network that has learnt something, whose answers in few steps differ from those in many."""
    network, examples = tiny(), Copies(24)
    config = replace(SHORT, steps=80, batch_size=8, learning_rate=3e-3)
    train(
        network,
        examples,
        None,
        objective=DenoisingObjective(schedule=SCHEDULE, prediction="v"),
        config=config,
        folder=folder,
    )
    return network.eval()


def test_a_student_comes_nearer_to_its_teacher_who_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    teacher = trained_teacher(tmp_path / "teacher")
    before, student = copy.deepcopy(teacher.state_dict()), tiny()
    student.load_state_dict(before)
    objective = DistillationObjective(schedule=SCHEDULE, prediction="v", teacher=teacher, steps=2)
    config = replace(SHORT, steps=150, batch_size=8, learning_rate=3e-3, warmup_steps=10, ema_decay=0.95)
    held_out = Copies(16, seed=1)
    ema, _ = train(student, Copies(24), held_out, objective=objective, config=config, folder=tmp_path / "student")
    scores = objective.score(ema.smoothed(student), held_out, device=torch.device("cpu"))
    assert scores["from_teacher"] < 0.85 * scores["unchanged_from_teacher"]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_the_teacher_as_its_own_student_scores_what_is_unchanged():
    teacher = tiny()
    torch.nn.init.normal_(teacher.unet.conv_out.weight, std=0.05, generator=torch.Generator().manual_seed(3))
    objective = DistillationObjective(schedule=SCHEDULE, prediction="v", teacher=teacher, steps=4)
    scores = objective.score(teacher, Copies(6), device=torch.device("cpu"))
    assert scores["from_teacher"] == scores["unchanged_from_teacher"] > 0
    assert scores["loss"] > 0


class Asked(torch.nn.Module):
    """A network that says nothing and keeps the steps that it is asked at."""

    def __init__(self):
        super().__init__()
        self.times = set()

    def forward(self, x, t):
        self.times.update(t.tolist())
        return torch.zeros_like(x[:, :1])


@pytest.mark.parametrize("chain", [(4, 2, 1), (12, 6, 3)])
def test_students_learn_at_the_steps_that_they_are_sampled_at_and_teachers_are_asked_where_they_learnt(chain):
    taught, examples = set(range(SCHEDULE.num_timesteps)), Copies(12)
    batch = {name: torch.stack([value] * 200) for name, value in examples[(0, 0)].items()}
    for steps in chain:
        teacher, learning, scored = Asked(), Asked(), Asked()
        objective = DistillationObjective(schedule=SCHEDULE, prediction="v", teacher=teacher, steps=steps)
        objective.loss(learning, batch, step=0, generator=torch.Generator().manual_seed(4))
        objective.score(scored, examples, device=torch.device("cpu"))
        sampled = [set(plan("ddim", count).thinned(SCHEDULE).timesteps.tolist()) for count in (steps, 2 * steps)]
        assert [learning.times, scored.times, teacher.times] == [sampled[0], *sampled]
        assert teacher.times <= taught
        taught = learning.times


@pytest.mark.parametrize("steps", [0, 51])
def test_a_student_without_room_for_a_teacher_is_refused(steps: int):
    with pytest.raises(TrainingError, match=f"a student of {steps} steps: wanted 1 to 50"):
        DistillationObjective(schedule=SCHEDULE, prediction="v", teacher=tiny(), steps=steps)
