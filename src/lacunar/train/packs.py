"""Arrays in ``.npz`` files: the packs that recipes train from, and what a run draws once and keeps in its folder."""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import TrainingError, one_line
from lacunar.geo.staging import Staging

Arrays = Mapping[str, NDArray[Any]]

_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, BadZipFile, zlib.error, MemoryError)


def write_arrays(file: Path, arrays: Arrays, *, compress: bool = True, max_bytes: int | None = None) -> None:
    """Write arrays into one ``.npz``, whole or not at all; more than ``max_bytes`` is a ``TrainingError``."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with Staging(overwrite=True) as staging:
            hidden = staging.stage(file)
            with hidden.open("wb") as stream:
                (np.savez_compressed if compress else np.savez)(stream, allow_pickle=False, **arrays)
            size = hidden.stat().st_size
            if max_bytes is not None and size > max_bytes:
                raise TrainingError(
                    f"{file} would have {size / 2**20:.0f} MiB, more than {max_bytes / 2**20:.0f} MiB: give less data"
                )
    except OSError as error:
        raise TrainingError(f"{file} cannot be written ({one_line(error)}): free some space") from error


@contextmanager
def open_arrays(file: Path, *, advice: str = "write it again with `lacunar train --pack`") -> Iterator[Arrays]:
    """Open the arrays of a ``.npz``; whatever is missing or damaged while they are read is a ``TrainingError``."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            yield stored
    except _UNREADABLE as error:
        raise TrainingError(f"{file} is not a whole pack ({error}): {advice}") from error


def drawn_once(file: Path, origin: Mapping[str, object], draw: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
    """Arrays that a run draws once: from its folder where they are there already, else drawn and kept.

    A damaged file, or one drawn from another ``origin``, is a ``TrainingError``.
    """
    wanted = json.dumps(origin)
    if not file.exists():
        write_arrays(file, {"origin": np.array(wanted), **draw()}, compress=False)
    with open_arrays(file, advice="delete it, and it is drawn again") as stored:
        arrays = {name: stored[name] for name in stored}
        found = str(arrays.pop("origin"))
    if found != wanted:
        raise TrainingError(
            f"{file} was drawn for another recipe or from other data: give another --run folder, or delete it"
        )
    return arrays
