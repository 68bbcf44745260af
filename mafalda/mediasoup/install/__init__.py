"""Getting a real mediasoup-worker of the pinned version: find one, or build one from the npm package's source.

Here: where a worker may come from, how it is built without downloading dependencies, the cache, and the
self-test. Not here: driving a worker (``mafalda.mediasoup``) and the command line (``mafalda.cli.commands.worker``).
"""

from mafalda.mediasoup.install.built import Lack, lacks
from mafalda.mediasoup.install.errors import (
    BuildFailed,
    InstallBusy,
    SelfTestFailed,
    SourceUnavailable,
    ToolsMissing,
    WorkerBinInvalid,
    WorkerInstallError,
)
from mafalda.mediasoup.install.installer import Installed, install_worker
from mafalda.mediasoup.install.locate import Found, find_worker, find_worker_bin
from mafalda.mediasoup.install.pin import WORKER_VERSION
from mafalda.mediasoup.install.progress import Progress, Step
from mafalda.mediasoup.install.system import missing_system_packages

__all__ = [
    "WORKER_VERSION",
    "BuildFailed",
    "Found",
    "InstallBusy",
    "Installed",
    "Lack",
    "Progress",
    "SelfTestFailed",
    "SourceUnavailable",
    "Step",
    "ToolsMissing",
    "WorkerBinInvalid",
    "WorkerInstallError",
    "find_worker",
    "find_worker_bin",
    "install_worker",
    "lacks",
    "missing_system_packages",
]
