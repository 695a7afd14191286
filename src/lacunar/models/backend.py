"""Load a model for a device and a backend: what computes its answers, PyTorch as it is or something faster.

``eager``
    The network itself, in float32.
``onnx``
    ONNX Runtime on the CPU, in float32: the same answers to 1e-4. The graph is exported once and kept in a cache.
``int8``
    ONNX Runtime on the CPU, with weights and activations in 8 bits, for conditional models that fill gaps. Ranges are
    those of inputs that need no data (`lacunar.models.in_use`). Faster where the CPU multiplies bytes (VNNI,
    AMX). Answers differ a little, and from one kind of CPU to another: ``auto`` never takes it.
``bf16``
    PyTorch with bfloat16 where that is safe (autocast), channels last: answers with 8 significant bits. For GPUs, and
    CPUs that compute in bfloat16 (AVX-512 BF16, AMX).
``compiled``
    As ``bf16``, through ``torch.compile``; on a GPU with CUDA graphs. Compiling takes minutes.
``auto``
    ``onnx`` where it is installed, the network lies on the CPU and is worth an export; else ``eager``.

A backend takes over inference on tiles of the network's own size. With gradients, or on other sizes, the network itself
answers, whatever the backend.
"""

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError, ModelError, first_line
from lacunar.models.checkpoint import Model, SegmentationModel, read_model
from lacunar.models.onnx import InUse, graph_of
from lacunar.networks.layers import BANDS_IN, Condition
from lacunar.networks.segdiff import Segmenter
from lacunar.networks.ssformer import FourierCrossAttention
from lacunar.networks.unet import UNet

BackendName = Literal["auto", "eager", "onnx", "int8", "bf16", "compiled"]
BACKEND_NAMES: tuple[BackendName, ...] = get_args(BackendName)

AUTO_PARAMETERS = 1_000_000  # of a network that is worth an export; a smaller one has answered before it is done
MOST_PARAMETERS = 500_000_000  # a file of ONNX holds 2 GiB at most
AT_ONCE = 32  # tiles in one call of ONNX Runtime; more are no faster
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

Run = Callable[..., tuple[Tensor, ...]]
AnyModel = TypeVar("AnyModel", bound=Model | SegmentationModel)

_log = logging.getLogger(__name__)


class BackendUNet(UNet):
    """A U-Net whose inference on tiles is another's work; its weights are those of the network that it is made from."""

    def __init__(self, network: UNet, run: Run) -> None:
        nn.Module.__init__(self)  # the parts are there already
        self.config, self.unet = network.config, network.unet
        self.train(network.training)
        self._run = run

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict as `UNet.forward` does."""
        tile = (self.in_channels, self.config.sample_size, self.config.sample_size)
        if torch.is_grad_enabled() or x.shape[1:] != tile or t.shape != x.shape[:1]:
            return super().forward(x, t)
        return self._run(x, t)[0]


class BackendSegmenter(nn.Module):
    """A segmenter whose inference on tiles is another's work."""

    def __init__(self, network: Segmenter, condition: Run, restore: Run | None) -> None:
        super().__init__()
        self.network, self.spec = network, network.spec
        self._condition, self._restore = condition, restore

    def condition(self, image: Tensor) -> Condition:
        """Read images, as `Segmenter.condition` does."""
        if self._elsewhere(image):
            return self.network.condition(image)
        return Condition(*self._condition(image))

    def restore(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict, as `Segmenter.restore` does."""
        if self._restore is None or self._elsewhere(x_t):
            return self.network.restore(x_t, t, condition)
        return self._restore(x_t, t, *condition)[0]

    def _elsewhere(self, planes: Tensor) -> bool:
        """Tell what is left to the network itself."""
        return torch.is_grad_enabled() or planes.shape[2:] != (self.spec.sample_size, self.spec.sample_size)


def load_model(folder_or_name: str | Path, *, device: str = "cpu", backend: str = "eager") -> Model | SegmentationModel:
    """Load a model folder, or a shipped model by its name (``lacunar models`` lists them).

    Parameters
    ----------
    folder_or_name
        A shipped model's name, which is looked up first, or a model folder. No code of the folder is ever run.
    device
        ``auto`` (the best there is), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    backend
        ``auto``, ``eager``, ``onnx``, ``int8``, ``bf16`` or ``compiled``: see the head of this module.

    Returns
    -------
    Model or SegmentationModel
        One that fills (temperature, pictures) or one that segments.

    Raises
    ------
    LacunarError
        An unknown name, device or backend, a damaged folder, or one that says what inference cannot honour.

    Examples
    --------
    >>> load_model("lst-small").prediction
    'v'
    """
    check_backend(backend)
    model = read_model(folder_or_name, device=resolve_device(device))
    return with_backend(model, backend)


def load_filler(folder_or_name: str | Path, *, device: str = "cpu", backend: str = "eager") -> Model:
    """As `load_model`; a model that segments is a ``ModelError``."""
    return _loaded(folder_or_name, device, backend, Model)


def load_segmenter(folder_or_name: str | Path, *, device: str = "cpu", backend: str = "eager") -> SegmentationModel:
    """As `load_model`; a model that fills is a ``ModelError``."""
    return _loaded(folder_or_name, device, backend, SegmentationModel)


def resolve_device(name: str) -> str:
    """The device to use; ``auto`` takes the best there is, and one that is not here is a ``LacunarError``."""
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return [*there, "cpu"][0]
    try:
        torch.zeros(1, device=name).item()  # "meta" makes a tensor, but holds no value
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError, ImportError: each backend its own
        raise LacunarError(f"no device {name!r} here: choose one of {', '.join(['auto', 'cpu', *there])}") from error
    return name


def check_backend(name: str, preset: Preset | None = None) -> BackendName:
    """Return the name; one that is unknown, or that a preset cannot be trusted with, is a ``LacunarError``."""
    if name not in BACKEND_NAMES:
        raise LacunarError(f"unknown backend {name!r}: choose one of {', '.join(BACKEND_NAMES)}")
    if name == "int8" and preset is not None and not preset.conditional:
        raise LacunarError(
            f"backend int8 with {preset.sampler}, whose many evaluations add up the errors of 8 bits: choose --backend "
            "onnx, or preset fast or balanced"
        )
    return name


def with_backend(model: AnyModel, name: str = "auto") -> AnyModel:
    """Return a model whose network computes its answers by a backend; the one given stays as it is.

    ``auto`` never fails: where an export does, one warning is logged and the network answers itself. The result's
    ``backend`` tells what it is, never ``auto``.

    Raises `LacunarError`: an unknown backend, or a model that has one already; ONNX Runtime that is not installed, not
    on the CPU or that cannot run the network; a network that cannot be compiled here.
    """
    check_backend(name)
    if model.backend != "eager":
        raise LacunarError(f"{model.name} has the backend {model.backend} already: load it anew for another")
    if name == "eager":
        return model
    device = next(model.network.parameters()).device
    chosen = backend_for(model, name, device.type)
    if chosen in ("onnx", "int8"):
        _require_onnx(device, chosen)
        in_use = _in_use(model) if chosen == "int8" else None
        try:
            parts = _parts(model).items()
            graphs = {part: graph_of(own, part, given, at_once=AT_ONCE, in_use=in_use) for part, (own, given) in parts}
            return _joined(model, chosen, graphs)
        except Exception as error:  # the exporter and the runtime have no common error
            reason = f"ONNX Runtime cannot run {model.name} ({_reason(error)})"
            if name != "auto":
                raise LacunarError(f"{reason}: choose --backend eager") from error
            _log.warning("%s: PyTorch does", reason)  # an optional gain never costs a job
            return model
    if chosen == "bf16":
        return _joined(model, "bf16", {part: _autocast(network) for part, (network, _) in _parts(model).items()})
    return _compiled(model) if chosen == "compiled" else model


def backend_for(model: Model | SegmentationModel, name: str, device: str) -> BackendName:
    """Return the backend that ``name`` means for a model on a device of this type; ``auto`` is decided here."""
    backend = check_backend(name)
    if backend != "auto":
        return backend
    worth = AUTO_PARAMETERS <= sum(weight.numel() for weight in model.network.parameters()) <= MOST_PARAMETERS
    return "onnx" if worth and device == "cpu" and not missing_packages() else "eager"


def missing_packages() -> list[str]:
    """Packages of the extra ``onnx`` that are not installed."""
    return [package for package in ONNX_PACKAGES if find_spec(package) is None]


def _loaded(folder_or_name: str | Path, device: str, backend: str, kind: type[AnyModel]) -> AnyModel:
    """Read a model, refuse one of another kind, and give it its backend."""
    check_backend(backend)
    model = read_model(folder_or_name, device=resolve_device(device))
    if not isinstance(model, kind):
        jobs = {Model: "fills gaps", SegmentationModel: "segments water"}
        raise ModelError(f"model {model.name} {jobs[type(model)]}, wanted one that {jobs[kind]}: see `lacunar models`")
    return with_backend(model, backend)


def _require_onnx(device: torch.device, name: BackendName) -> None:
    if missing := missing_packages():
        raise LacunarError(
            f"backend {name} wants {', '.join(missing)}, not installed: pip install 'lacunar[onnx]', or --backend eager"
        )
    if device.type != "cpu":
        raise LacunarError(
            f"backend {name} runs on the cpu, the network is on {device}: give --device cpu, or --backend compiled"
        )


def _in_use(model: Model | SegmentationModel) -> InUse:
    """What the network of a model that fills is given, which ranges of 8 bits are taken from."""
    if isinstance(model, SegmentationModel):
        raise LacunarError(f"backend int8 is for models that fill gaps, {model.name} segments: choose --backend onnx")
    from lacunar.models.in_use import inputs_in_use

    return inputs_in_use(model)


def _compiled(model: AnyModel) -> AnyModel:
    """The model through ``torch.compile``; each part answers once, so that what fails does so now."""
    try:
        made = {part: (_compile(network), example) for part, (network, example) in _parts(model).items()}
        with torch.inference_mode():
            for run, example in made.values():
                run(*example)
    except Exception as error:  # the compiler's errors have no common type
        reason = f"backend compiled: {model.name} cannot be compiled here ({_reason(error)})"
        raise LacunarError(f"{reason}: wanted a C++ compiler or a GPU; choose --backend bf16 or eager") from error
    return _joined(model, "compiled", {part: run for part, (run, _) in made.items()})


def _parts(model: Model | SegmentationModel) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """What a backend takes over: part -> a copy of it, and an example of two tiles."""
    device, t = next(model.network.parameters()).device, torch.tensor([0, 500])
    examples: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {}
    if isinstance(model, Model):
        size = model.network.config.sample_size
        examples["unet"] = copy.deepcopy(model.network), (_noise(model.network.in_channels, size), t)
    else:
        size, network = model.network.spec.sample_size, copy.deepcopy(model.network)
        for module in network.modules():
            if isinstance(module, FourierCrossAttention):
                module.as_matrices = True  # neither ONNX nor the compiler takes complex numbers
        image = _noise(BANDS_IN, size).abs().to(device)
        examples["condition"] = _Condition(network), (image,)
        if network.spec.diffusion:
            with torch.no_grad():
                read = network.condition(image)
            examples["restore"] = _Restore(network), (_noise(1, size), t, *read)
    return {
        part: (network, tuple(tensor.to(device) for tensor in example)) for part, (network, example) in examples.items()
    }


def _joined(model: AnyModel, name: BackendName, parts: dict[str, Run]) -> AnyModel:
    network: Any  # of a segmenter it offers all that inference asks for
    if isinstance(model, Model):
        network = BackendUNet(model.network, parts["unet"])
    else:
        network = BackendSegmenter(model.network, parts["condition"], parts.get("restore"))
    return replace(model, network=network, backend=name)


class _Condition(nn.Module):
    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Read images."""
        return tuple(self.network.condition(image))


class _Restore(nn.Module):
    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x_t: Tensor, t: Tensor, features: Tensor, embedding: Tensor, logits: Tensor, shown: Tensor
    ) -> Tensor:
        """Predict x_0."""
        return self.network.restore(x_t, t, Condition(features, embedding, logits, shown))


def _autocast(network: nn.Module) -> Run:
    """Run a network in bfloat16 where autocast holds that safe, channels last; answers are float32."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(tensors[0].device.type, dtype=torch.bfloat16):
            answer = network(*tensors)
        return tuple(part.float() for part in ((answer,) if isinstance(answer, Tensor) else answer))

    return run


def _compile(network: nn.Module) -> Run:
    """Compile a network in bfloat16 for batches of powers of four; others are filled up with their first item.

    Each size is compiled anew, and torch gives up after eight of them.
    """
    device = next(network.parameters()).device
    compiled = torch.compile(
        _autocast(network), dynamic=False, mode="reduce-overhead" if device.type == "cuda" else "default"
    )

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(tensors[0])
        more = 4 ** math.ceil((count - 1).bit_length() / 2) - count
        answers = compiled(*(torch.cat([part, part[:1].expand(more, *part.shape[1:])]) for part in tensors))
        return tuple(part[:count].clone() for part in answers)  # CUDA graphs use their memory again

    return run


def _noise(channels: int, size: int) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def _reason(error: BaseException) -> str:
    """The first line of what the first of a chain of errors says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
