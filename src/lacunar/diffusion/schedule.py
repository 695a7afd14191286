"""Noise schedules: how much of the image is left at each step of the forward process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import ModelError
from lacunar.limits import TIMESTEPS, check_limit

ScheduleName = Literal["linear", "cosine"]
Spacing = Literal["linspace", "trailing"]  # how a schedule is thinned out
FloatArray: TypeAlias = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

LINEAR_BETA_START, LINEAR_BETA_END = 1e-4, 0.02  # Ho et al. 2020, section 4, at T = 1000
LINEAR_REFERENCE_STEPS = 1000  # the T for which the two values above hold
COSINE_OFFSET = 0.008  # s of Nichol & Dhariwal 2021, Eq. 17
COSINE_BETA_MAX = 0.999  # the clip stated below Eq. 17 there


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The variances β_t of q(x_t | x_{t-1}) = N(√(1-β_t) x_{t-1}, β_t I) and all that follows from them.

    Index 0 is the least noisy step and ``num_timesteps - 1`` the noisiest; "step -1" is the clean image, with ᾱ = 1.
    All arrays are read-only float64 of shape ``(num_timesteps,)``.

    Raises
    ------
    ModelError
        When a β leaves (0, 1) or the timesteps do not rise within ``range(original_num_timesteps)``.

    References
    ----------
    Ho, Jain & Abbeel 2020, arXiv 2006.11239, Eq. 2 to 7; Nichol & Dhariwal 2021, arXiv 2102.09672, sections 3.2 and 4.

    Examples
    --------
    >>> schedule = NoiseSchedule.cosine(1000)
    >>> fast = schedule.respaced(50)
    >>> fast.num_timesteps, int(fast.timesteps[25]), fast.original_num_timesteps
    (50, 510, 1000)
    >>> bool(fast.alphas_cumprod[25] == schedule.alphas_cumprod[510])
    True
    """

    betas: FloatArray  # β_t, each in (0, 1)
    timesteps: NDArray[np.int64]  # the network's ``t``: the index of each step in the schedule it was trained with
    original_num_timesteps: int  # of that training schedule

    def __post_init__(self) -> None:
        betas = np.array(self.betas, dtype=np.float64)
        timesteps = np.array(self.timesteps, dtype=np.int64)
        check_limit(betas.size, TIMESTEPS, "timesteps", "1000 are usual", error=ModelError)
        if betas.ndim != 1 or betas.size == 0 or not np.all((betas > 0) & (betas < 1)):
            raise ModelError(
                f"got betas of shape {betas.shape} spanning {_span(betas)}, wanted one dimension of values above 0 and "
                "below 1; build the schedule with NoiseSchedule.linear or NoiseSchedule.cosine"
            )
        rising = timesteps.shape == betas.shape and bool(np.all(np.diff(timesteps) > 0))
        if not rising or timesteps[0] < 0 or timesteps[-1] >= self.original_num_timesteps:
            raise ModelError(
                f"got timesteps of shape {timesteps.shape} spanning {_span(timesteps)}, wanted {betas.size} rising "
                f"indices within 0..{self.original_num_timesteps - 1}; derive them with respaced(n)"
            )
        for name, array in (("betas", betas), ("timesteps", timesteps)):
            object.__setattr__(self, name, _frozen(array))

    @classmethod
    def linear(cls, num_timesteps: int) -> NoiseSchedule:
        """β rising evenly from 1e-4 to 0.02 at T = 1000, both scaled by 1000/T (Ho et al. 2020, section 4).

        Fewer than 21 steps are a ModelError: the scaled β would reach 1.

        Examples
        --------
        >>> NoiseSchedule.linear(1000).betas[[0, -1]].tolist()
        [0.0001, 0.02]
        """
        check_limit(num_timesteps, TIMESTEPS, "timesteps", "1000 are usual", error=ModelError)
        scale = LINEAR_REFERENCE_STEPS / max(num_timesteps, 1)
        smallest = math.floor(LINEAR_REFERENCE_STEPS * LINEAR_BETA_END) + 1
        if num_timesteps < smallest:
            raise ModelError(
                f"got a linear schedule of {num_timesteps} steps, wanted at least {smallest}; "
                f"train with more steps and thin them out with respaced(n), or choose cosine"
            )
        return cls.from_betas(np.linspace(scale * LINEAR_BETA_START, scale * LINEAR_BETA_END, num_timesteps))

    @classmethod
    def cosine(cls, num_timesteps: int) -> NoiseSchedule:
        """ᾱ_t = f(t)/f(0), f(t) = cos²(π/2 · (t/T + s)/(1 + s)), s = 0.008, β ≤ 0.999 (Nichol & Dhariwal 2021, Eq. 17).

        Examples
        --------
        >>> round(float(NoiseSchedule.cosine(1000).betas[-1]), 3)
        0.999
        """
        check_limit(num_timesteps, TIMESTEPS, "timesteps", "1000 are usual", error=ModelError)
        if num_timesteps < 1:
            raise ModelError(f"got a cosine schedule of {num_timesteps} steps, wanted at least 1; the usual is 1000")
        time = np.arange(num_timesteps + 1) / num_timesteps
        f = np.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2) ** 2
        return cls.from_betas(np.minimum(1 - f[1:] / f[:-1], COSINE_BETA_MAX))

    @classmethod
    def named(cls, name: ScheduleName, num_timesteps: int) -> NoiseSchedule:
        """The schedule called ``name``, "linear" or "cosine"; another name is a ModelError."""
        if name not in get_args(ScheduleName):
            raise ModelError(
                f"got schedule {name!r}, wanted one of {', '.join(get_args(ScheduleName))}; correct the name"
            )
        return cls.linear(num_timesteps) if name == "linear" else cls.cosine(num_timesteps)

    @classmethod
    def from_betas(cls, betas: FloatArray) -> NoiseSchedule:
        """The training schedule with these β: its timesteps are 0..T-1."""
        return cls(betas=betas, timesteps=np.arange(betas.size), original_num_timesteps=betas.size)

    def respaced(self, n: int, *, spacing: Spacing = "linspace") -> NoiseSchedule:
        """Keep ``n`` evenly spaced steps, the last among them, and derive β anew from their ᾱ.

        β_i = 1 - ᾱ_{S_i} / ᾱ_{S_{i-1}} for the kept steps S (Nichol & Dhariwal 2021, section 4); ``timesteps`` still
        name the training schedule's steps. ``linspace`` keeps the first step too; ``trailing`` ends an even spacing at
        the clean image, better with few steps (Lin et al. 2024, arXiv 2305.08891, section 3.3). With ``n = 1`` the
        noisiest step is kept. An ``n`` outside 1..``num_timesteps`` or an unknown spacing is a ModelError.

        Examples
        --------
        >>> NoiseSchedule.linear(1000).respaced(4).timesteps.tolist()
        [0, 333, 666, 999]
        >>> NoiseSchedule.linear(1000).respaced(4, spacing="trailing").timesteps.tolist()
        [249, 499, 749, 999]
        """
        if not 1 <= n <= self.num_timesteps:
            raise ModelError(
                f"got respaced({n}), wanted 1..{self.num_timesteps} steps; a schedule can only be thinned out"
            )
        if spacing not in get_args(Spacing):
            raise ModelError(f"got spacing {spacing!r}, wanted one of {', '.join(get_args(Spacing))}; correct the name")
        last = self.num_timesteps - 1
        if spacing == "trailing":
            kept = np.rint(np.arange(1, n + 1) * self.num_timesteps / n).astype(np.int64) - 1
        else:
            kept = np.rint(np.linspace(0, last, n)).astype(np.int64) if n > 1 else np.array([last])
        alphas_cumprod = self.alphas_cumprod[kept]
        betas = 1 - alphas_cumprod / np.append(1.0, alphas_cumprod[:-1])
        return NoiseSchedule(betas, self.timesteps[kept], self.original_num_timesteps)

    def beginning(self, n: int) -> NoiseSchedule:
        """The ``n`` least noisy steps."""
        return NoiseSchedule(self.betas[:n], self.timesteps[:n], self.original_num_timesteps)

    @property
    def num_timesteps(self) -> int:
        """Number of steps T."""
        return int(self.betas.size)

    @cached_property
    def alphas(self) -> FloatArray:
        """α_t = 1 - β_t."""
        return _frozen(1 - self.betas)

    @cached_property
    def alphas_cumprod(self) -> FloatArray:
        """ᾱ_t, the product of α_0..α_t (Ho et al. 2020, Eq. 4)."""
        return _frozen(np.cumprod(self.alphas, dtype=np.float64))

    @cached_property
    def alphas_cumprod_prev(self) -> FloatArray:
        """ᾱ_{t-1}, with ᾱ_{-1} = 1: the clean image."""
        return _frozen(np.append(1.0, self.alphas_cumprod[:-1]))

    @cached_property
    def posterior_variance(self) -> FloatArray:
        """β̃_t = β_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t), 0 at t = 0 (Ho et al. 2020, Eq. 7)."""
        return _frozen(self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod))

    @cached_property
    def posterior_log_variance_clipped(self) -> FloatArray:
        """Log β̃_t, at t = 0 that of t = 1, because log 0 does not exist (log β_0 when there is one step only)."""
        finite = self.posterior_variance[1:] if self.num_timesteps > 1 else self.betas
        return _frozen(np.log(np.append(finite[0], self.posterior_variance[1:])))


def _frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Make the array read-only, because a schedule is a value."""
    array.setflags(write=False)
    return array


def _span(array: NDArray[Scalar]) -> str:
    return f"{array.min():g}..{array.max():g}" if array.size else "nothing"
