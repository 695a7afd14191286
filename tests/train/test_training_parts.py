"""The parts of a training run by hand: learning rate, moving average, order of the examples, refusals."""

import itertools

import pytest
import torch
from torch import nn

from lacunar.errors import TrainingError
from lacunar.train import loop as training
from lacunar.train.loop import Ema, TrainingConfig


def test_processes_share_the_batches_of_one():
    config = TrainingConfig(steps=7, batch_size=6)
    alone = list(training._Order(10, config, start=0, process=0, processes=1))
    parts = [list(training._Order(10, config, start=0, process=process, processes=3)) for process in range(3)]
    for step, batch in enumerate(alone):
        shares = [part[step] for part in parts]
        assert [len(share) for share in shares] == [2, 2, 2]
        assert sorted(itertools.chain(*shares)) == sorted(batch)
    later = training._Order(10, config, start=4, process=1, processes=3)
    assert len(later) == 3
    assert list(later) == parts[1][4:]


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.1), (4, 0.5), (9, 1), (10, 1), (50, 1), (70, 1), (85, 0.5), (99, 1 / 30), (120, 0)]
)
def test_learning_rate_by_hand(step: int, share: float):
    config = TrainingConfig(steps=100, learning_rate=2e-3, warmup_steps=10, decay_share=0.3)
    assert config.rate_at(step) == pytest.approx(2e-3 * share, rel=1e-12)
    constant = TrainingConfig(steps=100, learning_rate=2e-3, warmup_steps=0, decay_share=0)
    assert constant.rate_at(min(step, 99)) == 2e-3


def test_moving_average_by_hand():
    network = nn.Linear(1, 1, bias=False)
    network.register_buffer("count", torch.tensor(3))
    with torch.no_grad():
        network.weight.fill_(1.0)
    ema, expected = Ema(network, decay=0.3), 1.0
    # (1 + step) / (10 + step) = 0.1, 0.1818, 0.25, then 0.3077, of which no more than 0.3 is taken.
    for step, decay, value in [(0, 0.1, 5.0), (1, 2 / 11, -2.0), (2, 0.25, 4.0), (3, 0.3, 8.0), (10**6, 0.3, 0.0)]:
        with torch.no_grad():
            network.weight.fill_(value)
        network.count += 1
        ema.update(network, step)
        expected = decay * expected + (1 - decay) * value
        assert float(ema.weights["weight"]) == pytest.approx(expected, rel=1e-5)
        assert float(network.weight.detach()) == value
    assert int(ema.weights["count"]) == 8


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *[(name, 0, "wanted a whole number from 1") for name in ("steps", "batch_size", "checkpoint_every")],
        *[(name, 1.5, r"wanted a share in \[0, 1\]") for name in ("decay_share", "ema_decay")],
        *[(name, 0.0, "must be above 0") for name in ("learning_rate", "gradient_clip")],
    ],
)
def test_settings_out_of_range(name: str, value: float, wanted: str):
    with pytest.raises(TrainingError, match=rf"training: .*{name}.*{wanted}"):
        TrainingConfig(**{"steps": 10, name: value})


@pytest.mark.parametrize("value", ["fp16", "yes", "", None, True])
def test_another_precision_is_refused(value: object):
    with pytest.raises(TrainingError, match=rf"training: mixed_precision is {value!r}, wanted no or bf16"):
        TrainingConfig(steps=10, mixed_precision=value)
    assert TrainingConfig(steps=10).mixed_precision == "no"
