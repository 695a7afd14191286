"""Progressive distillation: its target by the exact Gaussian denoiser, and a student that learns from a teacher."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lacunar.diffusion.samplers import plan
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import ddim_sample
from lacunar.errors import TrainingError
from lacunar.train.loop import train
from lacunar.train.objectives import DenoisingObjective, DistillationObjective, distillation_target
from oracles import GaussianDenoiser
from trainings import SCHEDULE, SHORT, Copies, tiny

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
