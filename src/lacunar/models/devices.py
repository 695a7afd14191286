"""Which device computes."""

from lacunar.errors import LacunarError


def resolve_device(name: str) -> str:
    """The device to use; ``auto`` takes the best there is.

    Raises
    ------
    LacunarError
        A device that is not here.
    """
    import torch

    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return [*there, "cpu"][0]
    try:
        torch.zeros(1, device=name).item()  # "meta" makes a tensor, but holds no value
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError, ImportError: each backend its own
        raise LacunarError(f"no device {name!r} here: choose one of {', '.join(['auto', 'cpu', *there])}") from error
    return name
