"""Data and a network that are learnt in seconds: what the tests of training share."""

import torch
from torch import Tensor

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train.loop import TrainingConfig
from lacunar.train.objectives import DenoisingObjective

SIZE, EDGE = 8, 5  # side of an item; the columns from EDGE on are known
SCHEDULE = NoiseSchedule.cosine(100)
OBJECTIVE = DenoisingObjective(schedule=SCHEDULE, prediction="v")
SHORT = TrainingConfig(steps=52, batch_size=4, warmup_steps=5, validate_every=20, checkpoint_every=1000)


class Copies:
    """Items whose x_0 is half the mean, a plane given in the condition: trivial to learn; the left side is missing."""

    def __init__(self, count: int = 10, seed: int = 0):
        self.count, self.seed, self.asked = count, seed, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        self.asked.append(key)
        epoch, index = key
        level, slope = torch.randn(2, generator=torch.Generator().manual_seed(1000 * self.seed + index))
        mean = (level + slope * torch.linspace(-1, 1, SIZE)).expand(1, SIZE, SIZE)
        missing = torch.zeros(1, SIZE, SIZE)
        missing[..., :EDGE] = 1
        sigma = missing * (1 + 0.5 * (epoch % 2))
        weight = missing / missing.mean()
        condition = torch.cat([mean, sigma])
        return {"x_0": 0.5 * mean * missing, "condition": condition, "missing": missing, "weight": weight}


class Interrupted(Copies):
    """Raises KeyboardInterrupt when the n-th item is asked for."""

    def __init__(self, n: int, count: int = 10, seed: int = 0):
        super().__init__(count, seed)
        self.n = n

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        if len(self.asked) + 1 == self.n:
            raise KeyboardInterrupt
        return super().__getitem__(key)


def tiny(seed: int = 0) -> UNet:
    config = UNetConfig(
        sample_size=SIZE,
        in_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        middle_attention=False,
        norm_groups=4,
        patch=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(config)
