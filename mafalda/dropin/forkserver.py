"""The forkserver: one process that has everything loaded, and forks a drop-in for each worker that is spawned.

A media server starts a worker for each core, and each would load the same modules for most of a second. The process
that the library spawned stays, keeps its pid, hands its pipes over and ends as its child ends; where there can be no
forkserver it is the drop-in itself. The forkserver ends when it has had no child for ``IDLE_S``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from mafalda.dropin.process.settings import WorkerSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

#: How long a forkserver without children waits for the next request, in seconds.
IDLE_S = 10.0
#: How long a forkserver that has just been started may load modules, in seconds.
LOADED_WITHIN_S = 10.0
_POLL_S = 0.005
#: The exit code of a forkserver that is not needed, since there is one.
_NOT_NEEDED = 3
#: For handing over, and for a child to leave its rooms, in seconds.
HAND_OVER_S, LEAVE_TIMEOUT_S = 2.0, 6.0
_FDS, _SIZE = struct.Struct("3i"), struct.Struct("<I")
_LIMIT_BYTES = 256 * 1024
_END, _READY, _BEGIN = b"E", b"R", b"B"


def socket_path() -> Path:
    """Where this user's forkserver of exactly this code listens."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or _temporary()) / f"mafalda-{os.getuid()}"
    code = _code_version(str(Path(__file__).parent.parent))
    return base / f"forkserver-{code:x}-{zlib.crc32((sys.executable + __file__).encode()):x}.sock"


def _temporary() -> str:
    import tempfile  # slow to import

    return tempfile.gettempdir()


def _code_version(folder: str) -> int:
    """A checksum of the names and times of the whole package's modules: 2 ms, where ``rglob`` takes 10 ms."""
    version = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                version ^= zlib.crc32(f"{entry.path} {entry.stat().st_mtime_ns}".encode())
            elif entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                version ^= _code_version(entry.path)
    return version


# --- the spawned process ------------------------------------------------------------------------------


def hand_over(settings: WorkerSettings, fds: tuple[int, int, int]) -> socket.socket | None:
    """Hand the pipes to a child of the forkserver, which is started if there is none; ``None`` if that fails.

    Workers that are spawned at the same time wait for the same forkserver: if each loaded everything by itself, they
    would compete for the CPUs.

    Args:
        settings: What the library started the worker with.
        fds: Where the library writes, where it reads, standard error.
    """
    path = socket_path()
    control = _hand_over_to(path, settings, fds)
    if control is not None or (starting := _start(path)) is None:
        return control
    deadline = time.monotonic() + LOADED_WITHIN_S
    while time.monotonic() < deadline and starting.poll() in (None, _NOT_NEEDED):
        time.sleep(_POLL_S)  # before any event loop; the forkserver may be another process's
        if path.exists() and (control := _hand_over_to(path, settings, fds)) is not None:
            return control
    return None


def _hand_over_to(path: Path, settings: WorkerSettings, fds: tuple[int, int, int]) -> socket.socket | None:
    """Hand the pipes to a child of a forkserver; ``None`` if there is no forkserver, or no answer in time.

    Whether the child or this process reads the pipes is decided here alone: the child waits for ``_BEGIN``.
    """
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.settimeout(HAND_OVER_S)
    try:
        if path.parent.stat().st_uid != os.getuid() or path.parent.stat().st_mode & 0o077:
            raise PermissionError("the forkserver's directory is open to other users")
        control.connect(str(path))
        what = json.dumps(
            {"settings": settings.to_dict(), "environment": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid()}
        ).encode()
        control.sendmsg([_SIZE.pack(len(what))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FDS.pack(*fds))])
        control.sendall(what)
        if control.recv(1) != _READY:
            raise ConnectionError("not taken")
        control.sendall(_BEGIN)
    except (OSError, ValueError):
        control.close()
        return None
    control.settimeout(None)
    return control


def await_child(control: socket.socket) -> int:
    """Wait until the child ends; its exit code. SIGINT and SIGTERM are passed on."""

    def end_child(*_: object) -> None:
        with contextlib.suppress(OSError):
            control.send(_END)
        control.settimeout(LEAVE_TIMEOUT_S)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_child)
    try:
        code = control.recv(1)
    except TimeoutError:
        return 0
    except OSError:
        return 1
    return code[0] if code else 1


def _start(path: Path) -> subprocess.Popen[bytes] | None:
    """Start a forkserver, without waiting for it; ``None`` if that is not possible."""
    import subprocess  # slow to import, and seldom needed

    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return subprocess.Popen(
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
        return None  # each worker is a process of its own then


# --- the forkserver -----------------------------------------------------------------------------------


def run() -> None:
    """Run the forkserver, if there is none yet."""
    import fcntl

    path = socket_path()
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(_NOT_NEEDED)
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from mafalda.dropin.lifecycle import serve_pipes

    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        starting = path.with_suffix(".starting")  # under its own name it is only once it listens
        starting.unlink(missing_ok=True)
        listener.bind(str(starting))
        starting.chmod(0o600)
        listener.listen(64)
        starting.rename(path)
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


def _receive(control: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes.

    Raises:
        ConnectionError: The other end has closed before, or there are more than anybody sends.
    """
    if size > _LIMIT_BYTES:
        raise ConnectionError(f"{size} bytes are too many")
    received = b""
    while len(received) < size:
        part = control.recv(size - len(received))
        if not part:
            raise ConnectionError(f"the socket ended after {len(received)} of {size} bytes")
        received += part
    return received


def _child(control: socket.socket, serve_pipes: Callable[..., int]) -> int:
    """Run one drop-in on the pipes that come over the socket; its exit code, which is also sent back."""
    try:
        control.settimeout(HAND_OVER_S)
        head, ancillary, _, _ = control.recvmsg(_SIZE.size, socket.CMSG_SPACE(_FDS.size), 0)
        (size,) = _SIZE.unpack(head)
        what = json.loads(_receive(control, size))
        read_fd, write_fd, error_fd = _FDS.unpack(ancillary[0][2][: _FDS.size])
        os.dup2(error_fd, 2)
        os.close(error_fd)
        os.environ.clear()
        os.environ.update(what["environment"])
        os.chdir(what["cwd"])  # credentials may be named from there
        settings = WorkerSettings(**what["settings"])
        control.sendall(_READY)
        control.settimeout(None)
        if control.recv(1) != _BEGIN:
            raise ConnectionError("the spawned process has not waited")
        code = serve_pipes(settings, read_fd, write_fd, what["pid"], control)
    except Exception as error:
        print(f"mafalda-worker: {error!r}", file=sys.stderr)
        code = 1
    with contextlib.suppress(OSError):
        control.sendall(bytes([code]))
    return code
