"""Pages that are made from the code at every build: public functions, commands, model cards."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from typer.main import get_command

import lacunar
from lacunar.cli import app as cli
from lacunar.models.checkpoint import shipped_models

API = """# Python API

Everything public is a name of the package: `import lacunar as lc`. Arrays are `xarray.DataArray` or numpy; NaN =
missing. Bad input raises `lacunar.errors.LacunarError` with one line: what was got, what was wanted and what to do.

"""
HERE = Path(__file__).parent
TARGET = HERE / "generated"


def commands(group: Any, prefix: str) -> list[tuple[str, Any]]:  # noqa: ANN401  # click's own types differ by version
    """Every command below `group` with its full name, in the order of the help."""
    found = []
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        found += commands(command, full) if hasattr(command, "commands") else [(full, command)]
    return found


def cell(text: object) -> str:
    """Return a text that can stand in a cell of a Markdown table."""
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def command_page(name: str, command: Any) -> str:  # noqa: ANN401
    """One section: what the command does, its arguments and options."""
    lines = [f"## `{name}`", "", command.help or "", ""]
    context = command.make_context(name, [], resilient_parsing=True)
    rows = [parameter for parameter in command.params if parameter.name != "help"]
    if rows:
        lines += ["| option | meaning |", "|---|---|"]
    for parameter in rows:
        option = parameter.param_type_name == "option"
        label = ", ".join([*parameter.opts, *parameter.secondary_opts]) if option else parameter.name.upper()
        default = parameter.get_default(context, call=False)
        text = cell(getattr(parameter, "help", "") or "")
        if parameter.required:
            text += " **Required.**"
        elif default not in (None, False, (), [], ""):
            text += f" Default: `{default}`."
        lines.append(f"| `{label}` | {text} |")
    return "\n".join([*lines, ""])


def write(path: Path, text: str) -> None:
    """Write a page if it changed, so that a second build has nothing to do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def make_pages(_app: Sphinx) -> None:
    """Write the pages; Sphinx calls this before it reads any."""
    root = get_command(cli)
    head = "# Commands\n\nMade from the parser: this is what `lacunar COMMAND --help` prints.\n\n"
    write(TARGET / "cli.md", head + "\n".join(command_page(*item) for item in commands(root, "lacunar")))
    names = [f".. autofunction:: {lacunar._MODULES[name]}.{name}" for name in lacunar.__all__]
    names += [f".. automethod:: lacunar.sensors.scene.Scene.{name}" for name in ("lst", "valid", "bands")]
    directives = "\n\n".join(names)
    write(TARGET / "api.md", f"{API}```{{eval-rst}}\n{directives}\n```\n")
    names = []
    for name, folder in sorted(shipped_models().items()):
        card = (folder / "README.md").read_text()
        write(TARGET / "models" / f"{name}.md", card)
        names.append(name)
    toc = "\n".join(names)
    head = "# Model cards\n\nEvery model that comes with the package: data, licence, command, scores.\n\n"
    write(TARGET / "models" / "index.md", f"{head}```{{toctree}}\n:maxdepth: 1\n\n{toc}\n```\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", make_pages)
    return {"parallel_read_safe": True}
