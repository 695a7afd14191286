"""What a worker of a cluster does: the first pass over a scene, and one block of it; from values that can be sent."""

import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from lacunar.errors import LacunarError
from lacunar.fill.blocks import FilledBlock, Survey, fill_block, survey
from lacunar.fill.inputs import FillInputs, open_inputs
from lacunar.fill.options import FillOptions
from lacunar.geo.windows import Block
from lacunar.models.backend import EngineName, check_engine, resolve_device, with_engine
from lacunar.models.checkpoint import Model, load_model, shipped_models
from lacunar.versions import versions, versions_used

_ONE_AT_A_TIME = threading.Lock()  # a process computes one task, whatever its threads: memory is that of one block


@dataclass(frozen=True)
class Job:
    """What a worker must know of a scene; paths are absolute."""

    inputs: FillInputs
    options: FillOptions
    sha256: str  # of the model
    versions: dict[str, str] = field(default_factory=versions)

    @classmethod
    def of(cls, inputs: FillInputs, options: FillOptions, model: Model) -> "Job":
        """What to send for a scene."""
        return cls(inputs.resolved(), sent(options), model.card.sha256)


@dataclass(frozen=True)
class Refusal:
    """Bad input that a task found: a value, so that it is not tried again as a fault of the machine would be."""

    error: LacunarError


def sent(options: FillOptions) -> FillOptions:
    """Options for a worker: the model by its absolute path; what is written where they come from stays out."""
    shipped = options.model in shipped_models()
    name = options.model if shipped else str(Path(options.model).resolve())
    return replace(options, model=name, figure=None, truth=None)


def survey_there(job: Job) -> Survey | Refusal:
    """The first pass over a scene."""
    try:
        with _ONE_AT_A_TIME, open_inputs(job.inputs) as (source, beside):
            return survey(source.lst, source.shape, beside.read if beside else None)
    except LacunarError as error:
        return Refusal(error)


def block_there(job: Job, found: Survey, block: Block) -> FilledBlock | Refusal:
    """One block of a scene."""
    options = job.options
    try:
        check_versions(versions(), job.versions, options.engine)
        with _ONE_AT_A_TIME, open_inputs(job.inputs) as (source, beside):
            return fill_block(
                source.lst,
                block,
                found,
                _model_there(options.model, _own_device(options.device), options.engine, job.sha256),
                options,
                guides=beside.read if beside else None,
            )
    except LacunarError as error:
        return Refusal(error)


@lru_cache(maxsize=1)
def _model_there(name: str, device: str, engine: str, sha256: str) -> Model:
    """The model of a worker, loaded once."""
    model = load_model(name, device=device)
    if model.card.sha256 != sha256:
        raise LacunarError(
            f"model {name} has sha256 {model.card.sha256} on a worker, wanted {sha256}: install it there"
        )
    return with_engine(model, engine)


def describe(options: FillOptions, sha256: str, wanted: dict[str, str]) -> tuple[str, EngineName, dict[str, str]]:
    """The device and the engine that a worker has for `sent` options, and its versions.

    Of the best device only the kind, for each worker takes its own. An ``auto`` engine is tried, and is the network
    itself where ``wanted`` are other versions.
    """
    device, engine = resolve_device(options.device), options.engine
    if options.device == "auto":
        device = device.split(":")[0]
    if engine == "auto":
        engine = "eager"
        if versions() == wanted:
            with _ONE_AT_A_TIME:
                engine = check_engine(_model_there(options.model, _own_device(device), "auto", sha256).engine)
    return device, engine, versions()


def _own_device(device: str) -> str:
    """The GPU of this worker among those that it sees: workers of one machine are numbered."""
    if device != "cuda":
        return device
    import torch
    from distributed import get_worker

    name = get_worker().name
    return f"cuda:{name % torch.cuda.device_count() if isinstance(name, int) else 0}"


def check_versions(found: dict[str, str], wanted: dict[str, str], engine: str) -> None:
    """Refuse a worker with other versions of what an engine uses, whose results may differ.

    Raises
    ------
    LacunarError
        They differ.
    """
    found, wanted = versions_used(engine, found), versions_used(engine, wanted)
    differ = [name for name in wanted | found if found.get(name) != wanted.get(name)]
    if differ:
        got, want = (", ".join(f"{name} {there.get(name)}" for name in differ) for there in (found, wanted))
        raise LacunarError(f"a worker has {got}, wanted {want} as here: install the same on all")
