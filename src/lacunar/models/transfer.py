"""Transfer learning: start a network from the weights of another whose inputs or outputs may be fewer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lacunar.errors import ModelError
from lacunar.networks.unet import UNet

FIRST, LAST = "unet.conv_in.weight", ("unet.conv_out.weight", "unet.conv_out.bias")


@dataclass(frozen=True)
class Transfer:
    """Names of the weights that were taken over, and of those of which a part had no counterpart and became 0."""

    loaded: tuple[str, ...]
    widened: tuple[str, ...]


def transfer_weights(network: UNet, source: Mapping[str, Tensor]) -> Transfer:
    """Take over all weights of another network; what the first or last layer has more of starts at zero.

    New input channels (the last ones) are then not listened to at first, and new output channels (a learned variance)
    say nothing: the network begins exactly as the other was. The sizes of their images may differ; nothing else may.

    Parameters
    ----------
    network
        Changed in place.
    source
        State of a network of the same architecture, with as many or fewer input and output channels.

    Returns
    -------
    Transfer

    Raises
    ------
    ModelError
        A weight that only one of the two has, or of another shape.
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


def extend_weights(network: nn.Module, source: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Take over all weights of a network that is a part of this one; the rest keeps its random start.

    Parameters
    ----------
    network
        Changed in place.
    source
        State of the part, under the same names: of the condition U-Net alone, for example.

    Returns
    -------
    tuple of str
        Names of the weights that are new.

    Raises
    ------
    ModelError
        A weight that this network does not have, or has in another shape.
    """
    own = network.state_dict()
    lost = [name for name, value in source.items() if name not in own or own[name].shape != value.shape]
    if lost:
        raise ModelError(
            f"{len(lost)} weights have no place in this network ({', '.join(lost[:3])}): start from a model of "
            "the same widths"
        )
    network.load_state_dict({**own, **source})
    return tuple(name for name in own if name not in source)
