"""A network exported to ONNX once, kept in a cache, and run by ONNX Runtime.

A graph is named by the sha256 of the weights it holds, of the code and versions that made it and of the shapes that it
takes, so it is never used for another network. Before it is used its answer is held beside the network's own; one that
is damaged or answers otherwise is made anew.

A graph in 8 bits is made from it by ONNX Runtime's own tools: weights by channel, activations by the range that they
have on inputs made for it (`lacunar.models.in_use`). Its answers differ a little, and from one kind of CPU to another.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import lacunar
from lacunar.errors import ModelError, RasterError
from lacunar.geo.staging import Staging, temporary_room

CACHE_VARIABLE = "LACUNAR_CACHE"  # environment variable: folder of what can be made again
TOLERANCE = 1e-4  # largest difference between the answers of a graph and of its network, in units of the larger of 1
INT8_TOLERANCE = 0.25  # root mean square difference of a graph in 8 bits, where its answers count
INT8_OPERATORS = ["Conv", "MatMul", "Gemm"]
LARGEST_BATCH = 63  # what torch.export proves of these networks
OPSET = 20

Graph = Callable[..., tuple[Tensor, ...]]


class InUse(NamedTuple):
    """What a network is given in use, each tensor (N, ...), and how much its answer counts, which broadcasts to it."""

    given: tuple[Tensor, ...]
    weight: Tensor


_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where graphs are kept: ``$LACUNAR_CACHE``, or ``lacunar`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lacunar"


def graph_of(
    network: nn.Module,
    part: str,
    example: Sequence[Tensor],
    *,
    at_once: int,
    in_use: InUse | None = None,
) -> Graph:
    """Return a function (Tensor, ...) -> tuple of Tensor that answers as a network does, by ONNX Runtime on the CPU.

    The network is in evaluation mode and on the CPU. ``part`` begins the name of its file in the cache, ``example`` is
    what it takes, with a batch of two (other batches are taken too, other sides are not), and ``at_once`` the items
    that the runtime is given in one call, at most `LARGEST_BATCH`. It runs on as many threads as PyTorch has now.
    With ``in_use`` the graph computes in 8 bits, in the ranges that these inputs take. A new graph that does not answer
    as the network does is a ModelError; errors of the exporter and of the runtime pass through.
    """
    tried, weight = (example, None) if in_use is None else in_use
    tolerance = TOLERANCE if in_use is None else INT8_TOLERANCE
    with torch.no_grad():
        answer: Any = network(*tried)
    answers = (answer,) if isinstance(answer, Tensor) else tuple(answer)
    kept = cache_folder() / f"{part}-{_digest(network, example, () if in_use is None else in_use.given)}.onnx"
    if kept.is_file():
        try:
            graph = _Session(kept, at_once)
            if graph.differs(tried, answers, weight) <= tolerance:
                return graph
        except Exception as error:  # the runtime's own errors have no common type; the graph is made anew
            _log.info("%s cannot be used: %s", kept, error)
    with temporary_room("onnx") as room:
        made = _export(network, example, room.path / kept.name)
        if in_use is not None:
            made = in_8_bits(made, room.path / f"int8-{kept.name}", _Session(made, 1).named(in_use.given))
        graph = _Session(made, at_once)
        if (difference := graph.differs(tried, answers, weight)) > tolerance:
            raise ModelError(f"the graph differs from the network by {difference:.2g}, wanted {tolerance:g} or less")
        _keep(made, kept)
    return graph


class _Session:
    """A graph that is open in ONNX Runtime."""

    def __init__(self, path: Path, at_once: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._names = [given.name for given in self._session.get_inputs()]
        self._at_once = at_once

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Answer for a batch of any size."""
        answers = [self._run(part) for part in self.named(tensors)]
        return answers[0] if len(answers) == 1 else tuple(torch.cat(same) for same in zip(*answers, strict=True))

    def named(self, tensors: Sequence[Tensor]) -> Iterator[dict[str, NDArray[Any]]]:
        """What the graph is given for a batch, by name, in parts that it takes in one call."""
        for part in zip(*(torch.split(tensor.contiguous(), self._at_once) for tensor in tensors), strict=True):
            yield {name: tensor.numpy() for name, tensor in zip(self._names, part, strict=True)}

    def _run(self, given: Mapping[str, NDArray[Any]]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(answer) for answer in self._session.run(None, dict(given)))

    def differs(self, example: Sequence[Tensor], answers: Sequence[Tensor], weight: Tensor | None = None) -> float:
        """Largest difference from these answers, in units of the larger of 1 and the largest answer.

        With a weight the root mean square difference, weighted.
        """
        pairs = zip(self(*example), answers, strict=True)
        if weight is not None:
            return max(float(((one - other) * weight).norm() / weight.expand_as(one).norm()) for one, other in pairs)
        return max(float((one - other).abs().max() / max(1.0, float(other.abs().max()))) for one, other in pairs)


def _digest(network: nn.Module, example: Sequence[Tensor], given: Sequence[Tensor]) -> str:
    """sha256 of all that a graph depends on: weights, architecture, versions, shapes, and what sets its ranges."""
    import onnxruntime
    import onnxscript

    versions = (lacunar.__version__, torch.__version__, onnxruntime.__version__, onnxscript.__version__, OPSET)
    digest = hashlib.sha256(f"{versions} {network!r} {[tuple(tensor.shape) for tensor in example]}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    for tensor in given:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _export(network: nn.Module, example: Sequence[Tensor], path: Path) -> Path:
    batch = torch.export.Dim("batch", max=LARGEST_BATCH)
    _log.info("exporting %s, once", path.stem)
    with _quiet(), torch.no_grad():
        program = torch.export.export(network, tuple(example), dynamic_shapes=tuple({0: batch} for _ in example))
        exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        if exported is None:
            raise ModelError(f"the export of {path.stem} gave nothing")
        exported.save(path)
    return path


def in_8_bits(graph: Path, path: Path, given: Iterable[Mapping[str, NDArray[Any]]]) -> Path:
    """Write a graph with weights and activations in 8 bits, in the ranges that they have on what is given by name."""
    from onnxruntime import quantization

    left = iter(given)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Mapping[str, NDArray[Any]] | None:
            return next(left, None)

    with _quiet():
        quantization.quantize_static(
            graph,
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=INT8_OPERATORS,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the remarks of the exporter and of the quantiser, which speaks to the root, from the user, here only."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _keep(made: Path, kept: Path) -> None:
    """Put a graph into the cache, whole or not at all; a cache that cannot be written costs an export each time."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with Staging(overwrite=True) as staging:
            staging.stage(kept).write_bytes(made.read_bytes())
    except (OSError, RasterError) as error:
        _log.info("%s cannot be kept: %s", kept, error)
