"""Which files a command names (paths, patterns, lists of them), and what their outputs are called."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lacunar.errors import LacunarError
from lacunar.geo.staging import resolved
from lacunar.limits import TEXT_BYTES, check_limit
from lacunar.sensors.scene import ARCHIVES

LIST_MARK = "@"  # before the name of a text file that lists paths or patterns, one a line
_COMMENT = "#"
_MAGIC = frozenset("*?[")  # what makes a path a pattern


def listed_paths(arguments: Iterable[str]) -> list[Path]:
    """Paths that arguments name, each once, in their order.

    An argument is a path; a pattern with ``*``, ``?`` or ``[...]``, whose matches come sorted; or ``@FILE``, a text
    file with a path or pattern on each line, relative to the working folder (blank lines and ``#`` comments are
    skipped). Raises `LacunarError`: a pattern or a list that names nothing, or a list that cannot be read.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        for path in _listed(argument) if argument.startswith(LIST_MARK) else _matching(argument):
            found.setdefault(resolved(path), path)
    return list(found.values())


def names_several(argument: str) -> bool:
    """Whether an argument may name several files: a list, or a pattern that is no path itself."""
    if argument.startswith("https:/"):
        return False
    return argument.startswith(LIST_MARK) or (not _MAGIC.isdisjoint(argument) and not Path(argument).exists())


def outputs_in(folder: Path, paths: Sequence[Path], suffix: str) -> list[Path]:
    """Outputs ``NAME_SUFFIX.tif`` in a folder, NAME being that of the input without its ending; each name once."""
    made: dict[Path, Path] = {}
    for path in paths:
        output = folder / f"{_name_of(path)}_{suffix}.tif"
        if output in made:
            raise LacunarError(
                f"{made[output]} and {path} would both become {output}: wanted inputs of different names; "
                "leave one out, or fill it by itself"
            )
        made[output] = path
    return list(made)


def _listed(argument: str) -> list[Path]:
    path = Path(argument.removeprefix(LIST_MARK))
    try:
        check_limit(path.stat().st_size, TEXT_BYTES, f"bytes in the list {path}", "part it in several")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, LacunarError):
            raise
        raise LacunarError(f"list {path} cannot be read ({error}): wanted a text file, one path a line") from error
    if bad := next((line for line in lines if "\0" in line), None):
        raise LacunarError(f"list {path} holds {bad[:40]!r}, which is no path: wanted text, one path a line")
    named = [line for line in lines if line and not line.startswith(_COMMENT)]
    if not named:
        raise LacunarError(f"list {path} names nothing: wanted one path a line")
    return [found for line in named for found in _matching(line)]


def _matching(pattern: str) -> list[Path]:
    if not names_several(pattern):
        return [Path(pattern)]
    anchor = Path(pattern).anchor
    try:
        matching = list(Path(anchor).glob(pattern.removeprefix(anchor)))
    except (ValueError, OSError, RuntimeError, NotImplementedError, re.error) as error:
        raise LacunarError(f"{pattern!r} is no pattern ({error}): wanted one such as scenes/*.tar") from error
    found = sorted(path for path in matching if not path.name.startswith("."))
    if not found:
        raise LacunarError(f"nothing matches {pattern!r}: wanted a pattern of files or folders that exist")
    return found


def _name_of(path: Path) -> str:
    """Name of a folder, or of a file without its ending."""
    name = resolved(path).name
    ending = next((end for end in sorted(ARCHIVES, key=len, reverse=True) if name.lower().endswith(end)), None)
    if ending:
        return name[: -len(ending)]
    return name if path.is_dir() else Path(name).stem
