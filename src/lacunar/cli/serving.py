"""The page in the browser: `serve`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lacunar.errors import LacunarError

_GIB = 2**30
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_ON_THE_PAGE = ("lst", "fill", "water", "inpaint", "face")  # commands whose options the page links to


def serve_command(
    root: Annotated[
        Path | None, typer.Option(help="Folder whose files the page may open; without it, uploads.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8420,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than 127.0.0.1 opens it to others.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Further name under which browsers reach this server; repeatable.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for uploads, jobs and results; by default in the cache.")
    ] = None,
    keep: Annotated[float, typer.Option(min=0, help="Days that uploads and results are kept.")] = 7.0,
    most: Annotated[float, typer.Option(min=0.1, help="GiB that they may take; the oldest go first.")] = 20.0,
    max_upload: Annotated[float, typer.Option(min=0.001, help="GiB of one upload at most.")] = 4.0,
) -> None:
    """Open a page in the browser for the three jobs: see, mask, preview, run, download. Ctrl-C ends it."""
    try:
        from lacunar.web.server import default_store, serve
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise LacunarError(f"{error.name} is not installed: wanted `pip install 'lacunar[serve]'`") from error

    if host not in _LOCAL_HOSTS:
        typer.echo(f"warning: {host} is open to other machines, unencrypted: whoever has the token sees all", err=True)
    store = default_store(state, root, keep=keep, most_bytes=most * _GIB)
    try:
        serve(
            store,
            host=host,
            port=port,
            hosts=allow_host or (),
            upload_bytes=int(max_upload * _GIB),
            tell=lambda address: typer.echo(f"open {address}"),
            help_of=options_page,
        )
    finally:
        store.close()


def options_page(name: str) -> str | None:
    """What the options of a command mean, as a page of HTML with a place for each; None for one that the page has not.

    >>> 'id="--preset"' in options_page("fill")
    True
    """
    from html import escape

    from typer.main import get_command

    from lacunar.cli import app

    if name not in _ON_THE_PAGE:
        return None
    command: Any = get_command(app)
    command = command.commands[name]
    rows = []
    for one in command.params:
        if one.param_type_name != "option" or one.name == "help":
            continue
        label = ", ".join([*one.opts, *one.secondary_opts])
        rows.append(
            f'<dt id="{escape(one.opts[-1] if one.opts[-1].startswith("--") else one.opts[0])}">'
            f"<code>{escape(label)}</code></dt><dd>{escape(one.help or '')}</dd>"
        )
    paragraphs = "".join(f"<p>{escape(part)}</p>" for part in (command.help or "").split("\n\n"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>lacunar {name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/static/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/static/app.css"><body class="help"><main>'
        f"<h1>lacunar {name}</h1>{paragraphs}<dl>{''.join(rows)}</dl></main></body></html>"
    )
