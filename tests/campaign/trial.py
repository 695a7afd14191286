"""Run one command in a forked child, under limits and watched, and say everything that it did wrong."""

import contextlib
import hashlib
import io
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# Of one input, beyond any of which it is a run without end: seconds of CPU time, seconds asleep (a machine that is busy
# with other work is nobody's fault), bytes.
CPU_SECONDS, ASLEEP_SECONDS, MEMORY = 15, 60, 2 * 2**30
POLL_SECONDS = 0.02
CANARY = b"canary-7f3a9e51"  # text of a file that no input may bring into an output
CANARY_VALUE = 311.0859375  # of every pixel of the raster beside it
LONG_AGO = 1_000_000_000  # access time of the canaries before a run
# Folders whose files any program may open for reading.
SYSTEM = tuple(str(Path(name).resolve()) for name in ("/usr", "/proc", "/sys", "/dev", "/lib", "/opt", "/var/lib"))
ETC = ("/etc/mime.types", "/etc/localtime", "/etc/os-release", "/etc/ssl", "/etc/fonts", "/etc/ld.so", "/etc/apache2",
       "/etc/httpd", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/timezone", "/etc/pki")  # fmt: skip
FAULTS = ("tracebacks", "more than one line", "half-written", "inputs changed", "wrong", "leaks", "without end")


@dataclass
class Case:
    """An input that was made in a folder, the command that is given it, and what is known of the right answer."""

    kind: str
    role: str
    what: str  # was done to it
    command: list[str]  # in the folder of the case, which holds in/, out/ and elsewhere/
    # what is wrong with the outputs of an accepted run, in words; arrays that the mutator knows decide
    check: Callable[[Path], str | None] | None = None
    must_pass: bool = False  # nothing is wrong with the input
    free: bool = False  # outputs may have any name in the folder
    prepare: Callable[[], None] | None = None  # in the child, just before: limits of the disk
    replaced: tuple[str, ...] = ()  # files under in/ that the command was told to replace and that are no inputs


@dataclass
class Result:
    """What came of a case."""

    number: int
    kind: str
    role: str
    command: str
    what: str
    outcome: str  # accepted, refused, or ended otherwise
    faults: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    said: str = ""


def run(case: Case, folder: Path, number: int = 0, trap: "Trap | None" = None) -> Result:
    """Run a case and judge it."""
    for name in ("tmp", "home", "out"):
        (folder / name).mkdir(exist_ok=True)
    before = listing(folder)
    for path in (folder / "elsewhere").glob("*"):
        os.utime(path, (LONG_AGO, path.stat().st_mtime))
    begun = time.perf_counter()
    status = _forked(case, folder)
    result = Result(number, case.kind, case.role, case.command[0] if case.command else "", case.what, "")
    result.seconds = time.perf_counter() - begun
    out, err = ((folder / f"std{name}").read_bytes().decode(errors="replace") for name in ("out", "err"))
    result.said = err[-2000:]
    # Of what is only written in a file; what the command itself names may be read.
    typed = any("elsewhere" in part for part in case.command)
    read = [] if typed else [path for path in (folder / "elsewhere").glob("*") if path.stat().st_atime > LONG_AGO + 1]
    result.faults += [("leaks", f"read elsewhere/{path.name}") for path in read[:1]]
    _judge_the_end(case, result, status, out, err)
    _judge_the_files(case, result, folder, before, out + err)
    if trap and (asked := trap.asked(number)):
        result.faults.append(("leaks", f"network: {asked[0]}"))
    return result


# --- the child ---


def _forked(case: Case, folder: Path) -> int | str:
    """The wait status of the command, or why it was stopped."""
    pid = os.fork()
    if pid == 0:
        _child(case, folder)
    asleep, before, why = 0.0, time.monotonic(), ""
    handle = os.pidfd_open(pid)
    try:
        while not select.select([handle], [], [], POLL_SECONDS)[0]:
            cpu, memory, sleeps = _usage(pid)
            now = time.monotonic()
            asleep, before = asleep + sleeps * (now - before), now
            if cpu > CPU_SECONDS:
                why = f"more than {CPU_SECONDS} s of CPU time"
            elif memory > MEMORY:
                why = f"more than {MEMORY >> 30} GiB of memory"
            elif asleep > ASLEEP_SECONDS:
                why = f"more than {ASLEEP_SECONDS} s asleep"
            if why:
                break
    finally:
        os.close(handle)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL) if why else None
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what it may have started
    return why or status


def _usage(pid: int) -> tuple[float, int, bool]:
    """Seconds of CPU time, bytes of memory beyond those of this process, which it shares, and whether it sleeps."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0, 0, False
    own = int(Path("/proc/self/statm").read_text().split()[1])
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, (pages - own) * os.sysconf("SC_PAGE_SIZE"), fields[0] != "R"


def _child(case: Case, folder: Path) -> None:
    """Run the command and leave, whatever happens."""
    code = 70
    try:
        os.setpgid(0, 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(n, "w"), line_buffering=True, errors=("strict", "backslashreplace")[n - 1])
            for n in (1, 2)
        )
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_DFL if name != signal.SIGINT else signal.default_int_handler)
        import tempfile

        tempfile.tempdir = None
        os.environ |= {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "LACUNAR_CACHE": str(folder / "tmp"),
            "LACUNAR_TRACEBACK": "1",  # a fault is a fault, however it is told
        }
        os.chdir(folder)
        warnings.resetwarnings()
        _watch(folder)
        if case.prepare:
            case.prepare()
        code = as_typed(case.command)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def as_typed(command: list[str]) -> int:
    """Run a command in this process as it is typed; its exit code."""
    from lacunar.cli import main

    sys.argv = ["lacunar", *command]
    try:
        main()
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    return 0


LISTING = ["/sbin/ldconfig", "-p"]  # ctypes asks for the system's own libraries, when diffusers is imported


def _watch(folder: Path) -> None:
    """Note every file that Python opens outside, every connection and every program it starts, in a file of the case.

    What GDAL and other libraries open is seen by the canaries' access times and by the trap.
    """
    notes = os.open(folder / "noted", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    own = (str(folder), *SYSTEM, *(str(Path(one).resolve()) for one in {sys.prefix, sys.base_prefix, *sys.path} if one))
    busy = False

    def hook(event: str, arguments: tuple) -> None:
        nonlocal busy
        if busy or not event.startswith(
            ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system")
        ):
            return
        if event.startswith("os.") and event != "os.system":
            return
        busy = True
        try:
            if event == "open":
                said = _opened_outside(arguments, own)
            elif event == "subprocess.Popen" and arguments[1] == LISTING:
                said = ""
            else:
                said = f"{event} {arguments[:2]!r}"
                if event == "socket.connect" and isinstance(arguments[1], str | bytes):
                    said = ""  # a socket of this machine's own
            if said:
                os.write(notes, f"{said}\n".encode(errors="replace"))
        finally:
            busy = False

    sys.addaudithook(hook)


def _opened_outside(arguments: tuple, own: tuple[str, ...]) -> str:
    path, mode, flags = arguments
    if not isinstance(path, str | bytes | os.PathLike):
        return ""
    try:
        place = os.path.realpath(os.fsdecode(path))
    except (OSError, ValueError):
        return ""
    writes = (
        bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(flags, int) else "r" not in (mode or "r")
    )
    if place.startswith((own[0], "/dev/null", "/dev/tty", "/dev/urandom")) or place.startswith(ETC):
        return ""
    if writes:
        return f"writes {place}"
    return "" if place.startswith(own) else f"reads {place}"


# --- the judgement ---


def _judge_the_end(case: Case, result: Result, status: int | str, out: str, err: str) -> None:
    """What the exit code and the streams say."""
    lines = [line for line in err.splitlines() if line.strip()]
    if isinstance(status, str):
        result.outcome = "stopped"
        result.faults.append(("without end", status))
        return
    code = os.waitstatus_to_exitcode(status)
    if "Traceback (most recent call last)" in err or code not in (0, 1, 2):
        result.outcome = "died"
        where = f"signal {-code}" if code < 0 else lines[-1] if lines else f"exit code {code}"
        result.faults.append(("tracebacks", _where(err, where)))
        return
    if code == 2 or (code == 1 and not out):
        result.outcome = "refused"
        if len(lines) != 1 or not lines[0].startswith("lacunar: "):
            odd = next((line for line in lines if not line.startswith("lacunar: ")), "nothing")
            result.faults.append(("more than one line", odd))
        if case.must_pass:
            result.faults.append(("wrong", f"refused though nothing is wrong: {err.strip()}"))
        return
    result.outcome = "accepted" if code == 0 else "refused"  # some scenes of several failed: each is refused by a line
    if any(word in line for line in lines for word in ("Warning", "ERROR", "Error")):
        result.faults.append(("more than one line", lines[0]))
    if code == 1 and (raw := [line for line in out.splitlines() if "failed: " in line and _is_raw(line)]):
        result.faults.append(("tracebacks", raw[0]))


def _is_raw(line: str) -> bool:
    """Whether a failed scene is told by another library's exception."""
    name = line.partition("failed: ")[2].partition(":")[0]
    return name.endswith(("Error", "Exception", "Interrupt")) and " " not in name


def _where(err: str, where: str) -> str:
    """The exception and the last place of ours in a traceback."""
    ours = [line.strip() for line in err.splitlines() if "/lacunar/" in line and line.strip().startswith("File ")]
    place = ours[-1].rpartition("/lacunar/")[2].replace('", line ', ":").replace(", in ", " ") if ours else ""
    return f"{where[:160]} [{place}]"


def _judge_the_files(case: Case, result: Result, folder: Path, before: dict[str, str], said: str) -> None:
    """What the run left, changed, read and wrote."""
    after, faults = listing(folder), result.faults
    mine = ("stdout", "stderr", "noted")
    new = [name for name in after if name not in before and name not in mine]
    changed = [name for name in before if after.get(name) != before[name] and name not in mine]
    killed = result.outcome == "stopped"
    asked = {Path(word).stem for word in case.command}  # a name that begins with a point may be what was asked for
    hidden = [
        name for name in new if _is_hidden(name) and not (killed or ".blocks" in name or Path(name).stem in asked)
    ]
    faults += [("half-written", f"left {name}") for name in hidden[:1]]
    inside = tuple(f"{name}/" for name in case.replaced)
    kept = [name for name in changed if name not in case.replaced and not name.startswith(inside)]
    lost = [name for name in kept if name.startswith(("in", "elsewhere"))]
    faults += [("inputs changed", f"{name} {'changed' if name in after else 'is gone'}") for name in lost[:1]]
    strays = [name for name in new if not name.startswith("out/") and name not in hidden and not case.free]
    strays = [name for name in strays if not (killed and name.startswith("tmp"))]
    faults += [("leaks", f"wrote {name}") for name in strays[:1]]
    if result.outcome == "refused" and not result.said.count("failed"):
        kept = [name for name in new if name.startswith("out/") and name not in hidden and ".blocks" not in name]
        if kept and not case.free and "lacunar_summary" not in " ".join(kept):
            faults.append(("half-written", f"refused, but left {kept[0]}"))
    finals = [folder / name for name in (*new, *changed) if after.get(name, "folder") not in ("folder", "link")]
    finals = [path for path in finals if not _is_hidden(str(path.relative_to(folder))) and path.name not in mine]
    for path in finals:
        if path.is_relative_to(folder / "elsewhere") or path.is_relative_to(folder / "in"):
            continue
        if broken := invalid(path):
            faults.append(("half-written", f"{path.suffix or path.name}: {broken}"))
        if leaked := _holds_canary(path):
            faults.append(("leaks", f"{path.suffix} holds {leaked}"))
    if CANARY.decode() in said:
        faults.append(("leaks", "the canary is printed"))
    noted = (folder / "noted").read_text(errors="replace").splitlines() if (folder / "noted").exists() else []
    typed_out = [line for line in noted if not any(len(part) > 1 and part in line for part in case.command)]
    faults += [("leaks", line) for line in typed_out[:1]]
    if result.outcome == "accepted" and case.check:
        try:
            wrong = case.check(folder / "out")
        except Exception as error:
            wrong = f"the outputs cannot be judged: {type(error).__name__} {error}"
        faults += [("wrong", wrong)] if wrong else []


def _is_hidden(name: str) -> bool:
    parts = Path(name).parts
    return any(part.startswith(".") or part.endswith((".partial", ".old", ".tmp")) for part in parts[-3:])


def listing(folder: Path) -> dict[str, str]:
    """Every path under a folder with what it holds."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = "link"
            elif path.is_dir():
                found[str(path.relative_to(folder))] = "folder"
            elif not path.is_file():
                found[str(path.relative_to(folder))] = "no file"
            elif path.stat().st_size > 2**24:
                found[str(path.relative_to(folder))] = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
            else:
                with contextlib.suppress(PermissionError):
                    found[str(path.relative_to(folder))] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return found


def invalid(path: Path) -> str | None:
    """Why a finished output cannot be read, by the library that other people read it with."""
    import rasterio
    from PIL import Image

    ending = path.suffix.lower()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if ending in (".tif", ".tiff"):
                with rasterio.open(path) as dataset:
                    dataset.read()
            elif ending == ".json":
                json.loads(path.read_text())
            elif ending in (".png", ".jpg", ".webp"):
                with Image.open(path) as picture:
                    picture.load()
            elif ending in (".gpkg", ".geojson"):
                import pyogrio

                pyogrio.read_dataframe(path)
            elif ending == ".npz":
                with np.load(path, allow_pickle=False) as stored:
                    _ = [stored[name].shape for name in stored]
            elif ending == ".safetensors":
                from safetensors.numpy import load_file

                load_file(path)
    except Exception as error:
        return f"{type(error).__name__} {str(error)[:80]}"
    return None


def _holds_canary(path: Path) -> str | None:
    """What of the canaries is in an output."""
    import rasterio

    if path.stat().st_size < 2**26 and CANARY in path.read_bytes():
        return "the canary's text"
    if path.suffix.lower() in (".tif", ".tiff"):
        with contextlib.suppress(Exception), rasterio.open(path) as dataset:
            if (dataset.read(1) == np.float32(CANARY_VALUE)).any():
                return "the canary's pixels"
    return None


# --- a trap for requests ---


class Trap:
    """A listener on this machine that writes down what is asked of it; a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._log, self._server = folder / "asked", socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._log.touch()
        self._pid = os.fork()
        if self._pid == 0:
            self._listen()

    def _listen(self) -> None:
        while True:
            connection, _ = self._server.accept()
            connection.settimeout(1)
            asked = b""
            with contextlib.suppress(OSError):
                asked = connection.recv(2000)
                connection.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            with self._log.open("ab") as file:
                file.write(asked.partition(b"\r\n")[0] + b"\n")
            connection.close()

    def url(self, number: int, name: str = "s.tif") -> str:
        """An address that tells which input asks."""
        return f"http://127.0.0.1:{self.port}/case-{number}-/{name}"

    def asked(self, number: int) -> list[str]:
        """What was asked because of one input."""
        return [line for line in self._log.read_text(errors="replace").splitlines() if f"case-{number}-" in line]

    def close(self) -> None:
        """End it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._server.close()


def full_disk(limit: int) -> Callable[[], None]:
    """No file may grow beyond so many bytes, as on a disk that is full."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for file in (sys.stdout, sys.stderr):
            file.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return prepare


def as_nobody() -> None:
    """Give up the rights of root, whom no permission stops."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def emptied(folder: Path) -> Path:
    """A new, empty folder in place of what is there."""
    for path in folder.glob("**/*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
