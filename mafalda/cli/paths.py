"""The folders of the command line's files, by the XDG base directory specification."""

from __future__ import annotations

import os
from pathlib import Path


def state_dir() -> Path:
    """``$XDG_STATE_HOME/mafalda``: the log of the embedded nats-server, the components' logs, the demo's clip."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "mafalda"


#: In the store folder: the keys of a closed fleet.
KEYS_FOLDER = "keys"


def default_store_dir() -> Path:
    """The default store folder of the embedded nats-server."""
    return state_dir() / "nats"
