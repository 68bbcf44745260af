"""The nursery: one process that has everything loaded, and forks a drop-in for each worker that is spawned.

A media server starts a worker a core, and each would load the same for most of a second. The process that the library
spawned stays, keeps its pid, hands its pipes over and ends as its child ends; without a nursery it does all by itself.
The nursery ends by itself when nobody has needed it for a while.

What does not belong here: what a drop-in does (``process``).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mafalda.dropin.process.settings import Settings

#: How long a nursery without children waits for the next, in seconds.
IDLE_S = 10.0
#: For handing over, and for a child to say goodbye, in seconds.
HAND_OVER_S, GOODBYE_S = 2.0, 6.0
_FDS = struct.Struct("3i")
_LIMIT_BYTES = 256 * 1024
END = b"E"


def socket_path() -> Path:
    """Where this user's nursery of this very code listens."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"mafalda-{os.getuid()}"
    newest = max(file.stat().st_mtime_ns for file in Path(__file__).parents[1].rglob("*.py"))
    return base / f"nursery-{newest:x}-{zlib.crc32((sys.executable + __file__).encode()):x}.sock"


# --- the spawned process ------------------------------------------------------------------------------


def hand_over(settings: Settings, fds: tuple[int, int, int]) -> socket.socket | None:
    """Give the pipes to a child of the nursery; None if there is none (yet).

    Args:
        settings: What the library said.
        fds: Where the library writes, where it reads, standard error.
    """
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.settimeout(HAND_OVER_S)
    try:
        path = socket_path()
        if path.parent.stat().st_uid != os.getuid() or path.parent.stat().st_mode & 0o077:
            raise PermissionError("the nursery's directory is not ours alone")
        control.connect(str(path))
        what = json.dumps(
            {"settings": asdict(settings), "environment": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid()}
        ).encode()
        control.sendmsg([struct.pack("<I", len(what))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FDS.pack(*fds))])
        control.sendall(what)
        if control.recv(1) != b"T":  # taken
            raise ConnectionError("not taken")
    except (OSError, ValueError):
        control.close()
        return None
    control.settimeout(None)
    return control


def await_child(control: socket.socket) -> int:
    """Wait until the child ends; its exit code. Signals ask it to end."""

    def ask_to_end(*_: object) -> None:
        with contextlib.suppress(OSError):
            control.send(END)
        control.settimeout(GOODBYE_S)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_end)
    try:
        code = control.recv(1)
    except TimeoutError:
        return 0
    except OSError:
        return 1
    return code[0] if code else 1


def start() -> None:
    """Start a nursery for those who come later; nothing is awaited."""
    try:
        socket_path().parent.mkdir(mode=0o700, exist_ok=True)
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:0] = {sys.path[:1]!r}; from {__name__} import run; run()",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            start_new_session=True,
            cwd="/",
        )
    except OSError:
        return  # each does all by itself then


# --- the nursery ----------------------------------------------------------------------------------------


def run() -> None:
    """Be the nursery, if there is none yet."""
    import fcntl

    path = socket_path()
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from mafalda.dropin.process.lifecycle import serve_pipes

    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(64)
        try:
            _serve(listener, serve_pipes)
        finally:
            path.unlink(missing_ok=True)


def _serve(listener: socket.socket, serve_pipes: Callable[..., int]) -> None:
    children: set[int] = set()
    while True:
        ready, _, _ = select.select([listener], [], [], IDLE_S)
        while children:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            children.discard(pid)
        if not ready:
            if not children:
                return
            continue
        control, _ = listener.accept()
        pid = os.fork()
        if pid == 0:
            listener.close()
            os._exit(_child(control, serve_pipes))
        children.add(pid)
        control.close()


def _child(control: socket.socket, serve_pipes: Callable[..., int]) -> int:
    """One drop-in, from the pipes it is given to its exit code, which the spawned process takes over."""
    try:
        control.settimeout(HAND_OVER_S)
        head, ancillary, _, _ = control.recvmsg(4, socket.CMSG_SPACE(_FDS.size), 0)
        (size,) = struct.unpack("<I", head)
        raw = b""
        while len(raw) < size <= _LIMIT_BYTES:
            raw += control.recv(size - len(raw))
        what = json.loads(raw)
        read_fd, write_fd, error_fd = _FDS.unpack(ancillary[0][2][: _FDS.size])
        os.dup2(error_fd, 2)
        os.close(error_fd)
        os.environ.clear()
        os.environ.update(what["environment"])
        os.chdir(what["cwd"])  # credentials may be named from there
        settings = Settings(**what["settings"])
        control.sendall(b"T")
        control.settimeout(None)
        code = serve_pipes(settings, read_fd, write_fd, what["pid"], control)
    except Exception as error:
        print(f"mafalda-worker: {error!r}", file=sys.stderr)
        code = 1
    with contextlib.suppress(OSError):
        control.sendall(bytes([code]))
    return code
