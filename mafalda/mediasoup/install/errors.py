"""Why there is no worker, by cause. Each says what to do next.

WorkerInstallError
├── WorkerBinInvalid   MEDIASOUP_WORKER_BIN names something that cannot be run
├── ToolsMissing       Debian packages or Python tools that the build needs
├── SourceUnavailable  mediasoup's npm package could not be had, or is not the pinned one
├── BuildFailed        meson, the compiler or the linker said no; ``details`` hold the log and its tail
├── SelfTestFailed     it was built, but does not forward media
└── InstallBusy        another process has been installing for too long
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from mafalda.errors import Broken


class WorkerInstallError(Broken):
    """The root: no usable mediasoup-worker, and why."""

    code: ClassVar[str] = "worker-install-failed"


class WorkerBinInvalid(WorkerInstallError):
    code = "worker-bin-invalid"


class ToolsMissing(WorkerInstallError):
    """``command`` is what installs them, ready to paste."""

    code = "worker-tools-missing"

    def __init__(self, reason: str, *, command: str, missing: list[str]) -> None:
        super().__init__(reason, command=command, missing=missing)
        self.command = command
        self.missing = missing

    def __str__(self) -> str:
        return f"{self.reason}: {', '.join(self.missing)}\nInstall with:\n    {self.command}"


class SourceUnavailable(WorkerInstallError):
    code = "worker-source-unavailable"


class BuildFailed(WorkerInstallError):
    """``log_path`` is the whole log, ``tail`` its last lines."""

    code = "worker-build-failed"

    def __init__(self, reason: str, *, log_path: Path, tail: str) -> None:
        super().__init__(reason, log_path=str(log_path), tail=tail)
        self.log_path = log_path
        self.tail = tail

    def __str__(self) -> str:
        return f"{self.reason}\n{self.tail}\nThe whole log: {self.log_path}"


class SelfTestFailed(WorkerInstallError):
    code = "worker-self-test-failed"


class InstallBusy(WorkerInstallError):
    code = "worker-install-busy"
