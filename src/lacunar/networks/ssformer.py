"""The semantic condition of MedSegDiff-V2: the spectrum-space transformer (SS-Former)."""

import math

import torch
from torch import Tensor, nn

HEADS = 4
FILTER_CHANNELS = 32  # hidden channels of the filter's network
SINE_FREQUENCY = 6.0  # of its first layer, in units of the coordinates (Sitzmann et al. 2020: w_0)


class NeuralBandPass(nn.Module):
    """A gain in (0, 2), at first 1, for every pair of frequencies: a small sine network modulated by the time (AdaIN).

    The coordinates of an entry of the affinity's spectrum are the two spatial frequencies (cycles per token) of the
    query and the two of the key, so that the filter is one function whatever the size of the image.
    """

    def __init__(self, time_channels: int, heads: int = HEADS) -> None:
        super().__init__()
        self.first = nn.Linear(4, FILTER_CHANNELS)
        self.second = nn.Linear(FILTER_CHANNELS, FILTER_CHANNELS)
        self.adapt = nn.Linear(time_channels, 2 * FILTER_CHANNELS)
        self.out = nn.Linear(FILTER_CHANNELS, heads)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, shape: tuple[int, int], embedding: Tensor) -> Tensor:
        """Gains (B, heads, N, N) for a map of this height and width, N = height * width."""
        rows, cols = (_frequencies(length, embedding.device) for length in shape)
        each = torch.stack(torch.meshgrid(rows, cols, indexing="ij"), dim=-1).reshape(-1, 2)
        count = len(each)
        pairs = torch.cat([each[:, None].expand(-1, count, -1), each[None].expand(count, -1, -1)], dim=-1)
        hidden = self.second(torch.sin(SINE_FREQUENCY * self.first(pairs)))
        deviation, mean = torch.std_mean(hidden, dim=(0, 1), correction=0, keepdim=True)
        hidden = (hidden - mean) / (deviation + 1e-5)
        scale, shift = self.adapt(embedding)[:, None, None].chunk(2, dim=-1)
        gain = 1 + torch.tanh(self.out(torch.sin(hidden * (1 + scale) + shift)))
        return gain.permute(0, 3, 1, 2)


class FourierCrossAttention(nn.Module):
    """Tokens of one map ask those of another; their affinity is filtered in the Fourier domain.

    The affinity of the 2-D Fourier transforms, F(q) F(k)^H, is the spectrum of q k^T; it is weighted by the neural
    band-pass filter and transformed back before the softmax. A gain of one is plain attention.
    """

    as_matrices = False  # transforms as real products, the same to rounding, for graphs without complex numbers

    def __init__(self, width: int, asked_width: int, time_channels: int) -> None:
        super().__init__()
        self.norm, self.asked_norm = nn.LayerNorm(width), nn.LayerNorm(asked_width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(asked_width, width)
        self.value = nn.Linear(asked_width, width)
        self.filter = NeuralBandPass(time_channels)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def affinity(self, query: Tensor, key: Tensor, shape: tuple[int, int], embedding: Tensor) -> Tensor:
        """Filtered affinity (B, heads, N, N) of queries and keys (B, heads, N, D)."""
        gain = self.filter(shape, embedding).float()
        if self.as_matrices:
            return _filtered(query.float() @ key.float().mT, gain, shape)
        spectra = [
            torch.fft.fft2(part.float().reshape(*part.shape[:2], *shape, -1), dim=(2, 3), norm="ortho").flatten(2, 3)
            for part in (query, key)
        ]
        spectrum = gain * (spectra[0] @ spectra[1].mH)
        height, width = shape
        grid = spectrum.reshape(*spectrum.shape[:2], *shape, *shape)  # rows and columns of queries, then of keys
        # F M F^H: the queries come back by the inverse transform, the keys by the forward one.
        back = torch.fft.fft2(torch.fft.ifft2(grid, dim=(2, 3), norm="ortho"), dim=(4, 5), norm="ortho")
        count = height * width
        filtered: Tensor = back.real.reshape(*back.shape[:2], count, count)
        return filtered

    def forward(self, own: Tensor, asked: Tensor, embedding: Tensor) -> Tensor:
        """Update own (B, width, h, w) by asked (B, asked_width, h, w); embedding (B or 1, time_channels)."""
        shape = (own.shape[2], own.shape[3])
        tokens = own.flatten(2).transpose(1, 2)
        other = self.asked_norm(asked.flatten(2).transpose(1, 2))
        parts = (self.query(self.norm(tokens)), self.key(other), self.value(other))
        query, key, value = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts)
        affinity = self.affinity(query, key, shape, embedding) / query.shape[-1] ** 0.5
        heard = affinity.softmax(dim=-1).to(value.dtype) @ value
        tokens = tokens + self.project(heard.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp(tokens)
        updated: Tensor = tokens.transpose(1, 2).reshape(own.shape)
        return updated


def _filtered(affinity: Tensor, gain: Tensor, shape: tuple[int, int]) -> Tensor:
    """The real part of F^H (gain . (F A F^H)) F for real A (B, heads, N, N), F the matrix of the 2-D transform.

    With F = C + i S, both real and symmetric: F A F^H = (C A C + S A S) + i (S A C - C A S).
    """
    rows, cols = (_phases(length, affinity.device) for length in shape)
    phases = (rows[:, None, :, None] + cols[None, :, None, :]).flatten(2).flatten(0, 1)
    cosine, sine = (part / len(phases) ** 0.5 for part in (phases.cos(), -phases.sin()))
    real = gain * (cosine @ affinity @ cosine + sine @ affinity @ sine)
    imaginary = gain * (sine @ affinity @ cosine - cosine @ affinity @ sine)
    # F^H M F with F^H = C - i S: its real part.
    back: Tensor = cosine @ real @ cosine + sine @ real @ sine + sine @ imaginary @ cosine - cosine @ imaginary @ sine
    return back


def _frequencies(length: int, device: torch.device) -> Tensor:
    """Cycles per token of each entry of a spectrum (n,), as ``torch.fft.fftfreq`` gives them, which no graph holds."""
    return ((torch.arange(length, device=device) + length // 2) % length - length // 2) * (1 / length)


def _phases(length: int, device: torch.device) -> Tensor:
    """2 pi j k / n (n, n) of the discrete Fourier transform of n values; j k modulo n, so that rounding stays small."""
    at = torch.arange(length, device=device)
    return 2 * math.pi * ((at[:, None] * at) % length).float() / length


class SSFormer(nn.Module):
    """The condition asks the noise, then the noise the condition (Wu et al. 2023, arXiv 2301.11798, section 3.3)."""

    def __init__(self, width: int, condition_width: int, time_channels: int) -> None:
        super().__init__()
        self.into_condition = FourierCrossAttention(condition_width, width, time_channels)
        self.into_noise = FourierCrossAttention(width, condition_width, time_channels)

    def forward(self, noise: Tensor, condition: Tensor, embedding: Tensor) -> Tensor:
        """TransF(E_t^I, E_t^x) of Eq. 9: the noise embedding (B, width, h, w) that has heard the condition."""
        heard: Tensor = self.into_noise(noise, self.into_condition(condition, noise, embedding), embedding)
        return heard
