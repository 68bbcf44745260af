"""The file that says what the environment does not: some libraries give their worker an empty one.

Lines are ``NAME=value`` under the names of the environment, as ``docker --env-file`` and systemd's ``EnvironmentFile=``
read them; what the environment has, stays. Read before anything else is loaded, so no library does it: importing
python-dotenv takes as long as everything else that runs before the library is told that its worker runs.

What does not belong here: what the settings mean.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

NAME = "mafalda-worker.env"


class WrongConfig(Exception):
    """A file that cannot be read; the text says which one and why."""


def config_paths(program: str, environment: Mapping[str, str]) -> list[str]:
    """Where a file is looked for; the first one that is there counts.

    Args:
        program: As the library called it; the file may lie beside it (beside a link to it, if it is one).
        environment: As the library gave it; it may be empty.
    """
    # An absolute path of a program; Python's own "-m" and "-c" have no file beside them that would be ours.
    folder, name = os.path.split(program)
    beside = [os.path.join(os.getcwd(), folder, NAME)] if name.startswith("mafalda-worker") else []
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(_home(environment), ".config")
    return [*beside, os.path.join(base, "mafalda", NAME)]


def read_config(program: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What the file says and the environment does not.

    Raises:
        WrongConfig: There is one, and it cannot be read.
    """
    for path in config_paths(program, environment):
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise WrongConfig(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        return {name: value for name, value in _parse(path, text).items() if name not in environment}
    return {}


def _parse(path: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name.isidentifier():
            raise WrongConfig(f"{path}, line {number}: not NAME=value")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name] = value
    return found


def _home(environment: Mapping[str, str]) -> str:
    try:
        return environment.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user without a name
        return "/"
