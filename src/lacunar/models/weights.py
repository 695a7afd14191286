"""Weights: safetensors read without running code, fitted strictly to a network, or taken over from another one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lacunar.errors import ModelError
from lacunar.networks.unet import UNet

WeightsDtype = Literal["float16", "float32"]

# A pickle of protocol 2 or later begins with its PROTO opcode; torch.save wraps it in a zip archive since 1.6.
PICKLE_MAGIC = (b"\x80", b"PK\x03\x04")
HEADER_START = 8  # bytes before the header of a safetensors file
NAMED_KEYS = 3  # how many keys an error names of each kind
HASH_BLOCK = 1 << 20  # bytes read at a time
# The layers that `extend_weights` and `transfer_weights` may widen.
HEADS = ("condition_unet.head.weight", "condition_unet.head.bias")  # of a segmenter
FIRST, FIRST_BIAS = "unet.conv_in.weight", "unet.conv_in.bias"
LAST = ("unet.conv_out.weight", "unet.conv_out.bias")


def is_pickle(path: Path) -> bool:
    """Tell a pickle by its first bytes; a safetensors file begins with eight bytes of length, then a brace."""
    with path.open("rb") as file:
        start = file.read(HEADER_START + 1)
    return start.startswith(PICKLE_MAGIC) and start[HEADER_START:] != b"{"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor; no such file, a pickle in its place (it is not opened) or a damaged file is a ModelError."""
    if not path.is_file():
        pickles = sorted(
            other.name for ending in ("*.pt", "*.pth", "*.bin", "*.ckpt") for other in path.parent.glob(ending)
        )
        found = (
            f"found the pickle {pickles[0]}: `lacunar convert` turns it into a model folder" if pickles else "missing"
        )
        raise ModelError(f"wanted the weights {path}, {found}")
    if is_pickle(path):
        raise ModelError(
            f"{path} is a pickle, which could run code, wanted safetensors: `lacunar convert` reads it safely"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a whole safetensors file ({error}): download or convert it again") from error


def fit_weights(network: nn.Module, state: Mapping[str, Tensor], *, source: Path) -> None:
    """Give a network these weights, as float32, in evaluation mode; other keys or shapes, or NaN, are a ModelError."""
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    faults = {
        "missing": [key for key in wanted if key not in state],
        "unknown": [key for key in state if key not in wanted],
        "mis-shaped": [
            f"{key} {tuple(tensor.shape)} instead of {wanted[key]}"
            for key, tensor in state.items()
            if key in wanted and tuple(tensor.shape) != wanted[key]
        ],
    }
    if any(faults.values()):
        named = [
            f"{len(keys)} {fault} ({', '.join(keys[:NAMED_KEYS])}{', ...' if len(keys) > NAMED_KEYS else ''})"
            for fault, keys in faults.items()
            if keys
        ]
        raise ModelError(f"{source}: the weights do not fit the network's configuration: {'; '.join(named)}")
    if bad := [key for key in wanted if not state[key].isfinite().all()]:
        raise ModelError(f"{source}: weight {bad[0]} is not finite: download, convert or train the model again")
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    network.eval()


def require_finite(answer: NDArray[np.floating[Any]], name: str) -> None:
    """Refuse, with a ``ModelError``, what a model gives where it is NaN or infinite."""
    if not np.isfinite(answer).all():
        raise ModelError(f"model {name} gives values that are not finite: its weights are damaged, take another model")


def as_dtype(state: Mapping[str, Tensor], dtype: WeightsDtype) -> dict[str, Tensor]:
    """Copy the weights to the CPU in the given precision."""
    if dtype not in get_args(WeightsDtype):
        raise ModelError(f"weights of type {dtype!r}, wanted one of {', '.join(get_args(WeightsDtype))}")
    # A network in channels_last holds its weights in another order: safetensors wants them plain.
    plain = {key: tensor.detach().to("cpu", getattr(torch, dtype)).contiguous() for key, tensor in state.items()}
    bad = [key for key, tensor in plain.items() if not tensor.isfinite().all()]
    if bad:
        raise ModelError(f"weight {bad[0]} is not finite in {dtype}: the training failed, or it needs float32")
    return plain


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Transfer:
    """Names of the weights that were taken over, and of those of which a part had no counterpart and became 0."""

    loaded: tuple[str, ...]
    widened: tuple[str, ...]


def transfer_weights(network: UNet, source: Mapping[str, Tensor]) -> Transfer:
    """Take over all weights of another network; what the first or last layer has more of starts at zero.

    So the network begins exactly as the other was: new (last) input channels are ignored and new output channels are
    0. ``network`` is changed in place; any other difference of architecture is a ModelError.
    """
    own = network.state_dict()
    lost, new = sorted(set(source) - set(own)), sorted(set(own) - set(source))
    if lost or new:
        raise ModelError(
            f"the two networks differ: {len(lost)} weights without a place ({', '.join(lost[:3])}), {len(new)} without "
            f"a value ({', '.join(new[:3])}): start from a model of the same architecture"
        )
    widened = []
    for name, value in own.items():
        given = source[name]
        if given.shape == value.shape:
            continue
        axis = 1 if name == FIRST else 0
        same = [n for i, n in enumerate(value.shape) if i != axis] == [
            n for i, n in enumerate(given.shape) if i != axis
        ]
        if name not in (FIRST, *LAST) or not same or given.shape[axis] > value.shape[axis]:
            raise ModelError(
                f"weight {name} has shape {tuple(given.shape)}, wanted {tuple(value.shape)}: start from a model of the "
                "same architecture"
            )
        widened.append(name)
    with torch.no_grad():
        for name, value in own.items():
            given = source[name]
            axis = 1 if name == FIRST else 0
            value.zero_()
            (value.narrow(axis, 0, given.shape[axis]) if name in widened else value).copy_(given)
    return Transfer(tuple(name for name in own if name not in widened), tuple(widened))


def blind_weights(network: UNet) -> dict[str, Tensor]:
    """Weights of a network that is told of a picture's surroundings, as those of one that is given the state alone.

    It is told that all is missing, with mean 0 and sigma 1: these constants move into the bias of the first layer. The
    answers are the same but for the outermost pixels, which the layer's padding with zeros reaches.
    """
    state, config = dict(network.state_dict()), network.config
    colours, each = config.out_channels, config.patch**2
    weight = state[FIRST]
    ones = weight[:, 2 * colours * each : (2 * colours + 2) * each]  # sigma and missing, see `network_input`
    state[FIRST_BIAS] = state[FIRST_BIAS] + ones.sum(dim=(1, 2, 3))
    return state | {FIRST: weight[:, : colours * each]}


def _lengthened(value: Tensor, wanted: Tensor | None) -> Tensor:
    """The weight with as many rows as wanted, new ones 0."""
    more = 0 if wanted is None else len(wanted) - len(value)
    return torch.cat([value, value.new_zeros(more, *value.shape[1:])]) if more > 0 else value


def extend_weights(network: nn.Module, source: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Take over all weights of a part of this network, in place; return the names of the others, which stay random.

    What the last layer of a segmenter has more of, for more classes, starts at zero. A weight without a place is a
    ModelError.
    """
    own = network.state_dict()
    source = {name: _lengthened(value, own.get(name)) if name in HEADS else value for name, value in source.items()}
    lost = [name for name, value in source.items() if name not in own or own[name].shape != value.shape]
    if lost:
        raise ModelError(
            f"{len(lost)} weights have no place in this network ({', '.join(lost[:3])}): start from a model of "
            "the same widths"
        )
    network.load_state_dict({**own, **source})
    return tuple(name for name in own if name not in source)
