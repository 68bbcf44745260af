"""The command line and environment that a mediasoup library starts its worker with, read as the worker reads them.

Loaded before anything else, so that wrong settings end the process at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_VERSION, EXIT_SETTINGS = 41, 42
LOG_LEVELS = {"debug": 3, "warn": 2, "error": 1, "none": 0}
_OPTIONS = (
    "logLevel",
    "logTags",
    "rtcMinPort",
    "rtcMaxPort",
    "dtlsCertificateFile",
    "dtlsPrivateKeyFile",
    "libwebrtcFieldTrials",
    # Of older libraries: io_uring, and which of two SCTP stacks. A worker of ours has no such choice.
    "disableLiburing",
    "useBuiltInSctpStack",
)
#: What ends when a real worker dies: its transports; all transports of routers that had one there; the drop-in.
ON_WORKER_DEATH = ("transports", "router", "die")
#: How many WebRtcTransports a participant has in most applications: one to send, one to receive.
TRANSPORTS_PER_PEER = 2
PLACES_AHEAD = 1
_DEFAULT_PORTS = (10000, 59999)


class WrongSettings(Exception):
    """WorkerSettings with which the real worker exits with 42."""


class WorkerSettings:
    """What a worker is started with, by arguments and environment. Ports are ``None`` where the library named none.

    No dataclass: that module loads ``inspect``, which takes as long as everything else that comes before the library is
    told that its worker runs.

    Args:
        given: Attributes that differ from the defaults.
    """

    library_version: str = ""
    log_level: str = "error"
    log_tags: Sequence[str] = ()
    rtc_min_port: int | None = None
    rtc_max_port: int | None = None
    on_worker_death: str = ON_WORKER_DEATH[0]
    on_drain: str = ON_WORKER_DEATH[0]  # what ends when a server is drained by force; as ``on_worker_death``
    transports_per_peer: int = TRANSPORTS_PER_PEER
    places_ahead: int = 0  # for how many participants of a router places are at hand at first; 0: never any
    tenant: str | None = None  # of several applications on one fleet
    fleet_timeout_s: float | None = None  # how long the log may not answer; ``None``: as each use has it

    def __init__(self, **given: Any) -> None:
        if unknown := given.keys() - WorkerSettings.__annotations__.keys():
            raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
        self.__dict__.update(given)

    def to_dict(self) -> dict[str, Any]:
        """The attributes that differ from the defaults."""
        return dict(self.__dict__)

    @property
    def port_range(self) -> dict[str, int] | None:
        """The range for listen infos that name no port; ``None``: that of the servers."""
        if self.rtc_min_port is None and self.rtc_max_port is None:
            return None
        low, high = _DEFAULT_PORTS
        return {
            "min": low if self.rtc_min_port is None else self.rtc_min_port,
            "max": high if self.rtc_max_port is None else self.rtc_max_port,
        }


def read_settings(arguments: Sequence[str]) -> WorkerSettings:
    """The settings in a command line (without the program).

    Raises:
        WrongSettings: The real worker would refuse them.
    """
    settings = WorkerSettings()
    tags: list[str] = []
    files: dict[str, str] = {}
    for argument in arguments:
        if not argument.startswith("-"):
            continue
        name, value = _option(argument)
        match name:
            case "logLevel":
                settings.log_level = check_log_level(value)
            case "logTags":
                tags.append(value)
            case "rtcMinPort":
                settings.rtc_min_port = _port(value)
            case "rtcMaxPort":
                settings.rtc_max_port = _port(value)
            case "dtlsCertificateFile" | "dtlsPrivateKeyFile":
                files[name] = value
    settings.log_tags = tuple(tags)
    ports = settings.port_range
    if ports and ports["max"] < ports["min"]:
        raise WrongSettings("rtcMaxPort cannot be less than rtcMinPort")
    _check_files(files)
    return settings


def read_on_worker_death(environment: Mapping[str, str]) -> str:
    """What ends when a real worker dies; one of ``ON_WORKER_DEATH``.

    Raises:
        WrongSettings: ``MAFALDA_ON_WORKER_DEATH`` is something else.
    """
    return _read_end(environment, "MAFALDA_ON_WORKER_DEATH")


def read_on_drain(environment: Mapping[str, str]) -> str:
    """What ends when a server is drained by force; one of ``ON_WORKER_DEATH``.

    Raises:
        WrongSettings: ``MAFALDA_ON_DRAIN`` is something else.
    """
    return _read_end(environment, "MAFALDA_ON_DRAIN")


def read_transports_per_peer(environment: Mapping[str, str]) -> int:
    """How many WebRtcTransports belong to one participant.

    Raises:
        WrongSettings: ``MAFALDA_TRANSPORTS_PER_PEER`` is not a number from 1 to 16.
    """
    return _read_number(environment, "MAFALDA_TRANSPORTS_PER_PEER", TRANSPORTS_PER_PEER, 1, 16)


def read_places_ahead(environment: Mapping[str, str]) -> int:
    """For how many participants of a router places are at hand at first; 0: never any.

    Raises:
        WrongSettings: ``MAFALDA_PLACES_AHEAD`` is not a number from 0 to 8.
    """
    return _read_number(environment, "MAFALDA_PLACES_AHEAD", PLACES_AHEAD, 0, 8)


def read_tenant(environment: Mapping[str, str]) -> str | None:
    """Which of several applications on one fleet this one is; ``None`` if the environment does not say.

    Raises:
        WrongSettings: ``MAFALDA_TENANT`` is no id.
    """
    value = environment.get("MAFALDA_TENANT")
    if not value:
        return None
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise WrongSettings(f"MAFALDA_TENANT is '{value[:40]}', not 1 to 64 of the characters A-Z a-z 0-9 _ -")
    return value


def _read_number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name) or str(default)
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else -1
    if not least <= value <= most:
        raise WrongSettings(f"{name} is '{text[:40]}', not a number from {least} to {most}")
    return value


def _read_end(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name) or ON_WORKER_DEATH[0]
    if value not in ON_WORKER_DEATH:
        raise WrongSettings(f"{name} is '{value[:40]}', not one of {', '.join(ON_WORKER_DEATH)}")
    return value


def read_fleet_timeout(environment: Mapping[str, str]) -> float | None:
    """How long the fleet's log may not answer, in seconds; ``None`` if the environment does not say.

    Raises:
        WrongSettings: ``MAFALDA_FLEET_TIMEOUT_S`` is not a number from 1 to 86400.
    """
    text = environment.get("MAFALDA_FLEET_TIMEOUT_S")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86400:
        raise WrongSettings(f"MAFALDA_FLEET_TIMEOUT_S is '{text[:40]}', not a number of seconds from 1 to 86400")
    return value


def check_log_level(level: str) -> str:
    """The level in lower case.

    Raises:
        WrongSettings: There is no such level.
    """
    level = level.lower()
    if level not in LOG_LEVELS:
        raise WrongSettings(f"invalid value '{level}' for logLevel")
    return level


def _option(argument: str) -> tuple[str, str]:
    given, equals, value = argument.lstrip("-").partition("=")
    # As getopt_long_only does: any beginning that only one option has ("--logTag").
    found = [option for option in _OPTIONS if option == given] or [o for o in _OPTIONS if given and o.startswith(given)]
    if len(found) != 1:
        raise WrongSettings("unknown long option given as argument")
    if not equals:
        raise WrongSettings(f"missing value in command line argument in option '{found[0]}'")
    return found[0], value


def _port(text: str) -> int:
    try:
        return int(text) & 0xFFFF  # the worker's own conversion: 65536 is 0
    except ValueError:
        raise WrongSettings(f"not a port: {text[:40]}") from None


def _check_files(files: dict[str, str]) -> None:
    """Both or none, and readable. The servers have certificates of their own."""
    if not files:
        return
    if len(files) == 1:
        raise WrongSettings(
            "missing dtlsPrivateKeyFile" if "dtlsCertificateFile" in files else "missing dtlsCertificateFile"
        )
    for name, path in files.items():
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise WrongSettings(f"{name}: {error.strerror}") from None
