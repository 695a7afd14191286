"""Start the server: one address on this machine, one token, one state folder."""

import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from lacunar.errors import LacunarError
from lacunar.web.app import Service, make_app
from lacunar.web.security import LOCAL, Guard
from lacunar.web.store import Store

CONNECTIONS = 256
LAST_WORDS = 2  # seconds that open connections get when the server ends
ANY = ("0.0.0.0", "::")  # every interface of the machine


def serve(
    store: Store,
    *,
    host: str,
    port: int,
    hosts: Sequence[str] = (),
    upload_bytes: int,
    tell: Callable[[str], None],
    help_of: Callable[[str], str | None] | None = None,
) -> None:
    """Serve until Ctrl-C; ``tell`` gets the address of the page. A port that is taken is a `LacunarError`.

    ``hosts`` are further names under which a browser may ask for the page; ``help_of`` gives the options of a command
    as HTML.
    """
    token = secrets.token_urlsafe(24)
    with _bound(host, port) as listening:
        port = listening.getsockname()[1]
        named = f"[{host}]" if ":" in host else host
        allowed = {*LOCAL, *hosts, *([socket.gethostname()] if host in ANY else [named])}
        service = Service(store, upload_bytes=upload_bytes, help_of=help_of)
        guarded = Guard(make_app(service), token=token, hosts=allowed, port=port)
        shown = "127.0.0.1" if host in ANY else named
        tell(f"http://{shown}:{port}/?token={token}")
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,  # it would write the token
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=LAST_WORDS,
        )
        _Server(config, service).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends the streams of events before it waits for connections to close."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        self._service.ending = True
        super().handle_exit(sig, frame)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio sends small answers at once; else each waits 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(CONNECTIONS)  # a browser that is faster than the server waits
    except OSError as error:
        listening.close()
        raise LacunarError(f"{host}:{port} cannot be used ({error.strerror}): give another --port, or 0") from error
    return listening


def default_store(state: Path | None, root: Path | None, *, keep: float, most_bytes: float) -> Store:
    """The state folder, swept."""
    from lacunar.web.store import default_folder

    store = Store(state or default_folder(), root, keep=keep, most_bytes=most_bytes)
    store.tidy()
    return store
