"""The keys of a closed fleet in one folder, and nats-server's configuration for them.

issuer.nk            signs participants' permissions; for the auth service alone
tokens.json          JSON Web Key Set that signs and verifies tokens
{role}.nk            one user's nkey for each role; auth-system.nk is the auth service's in NATS' system account
accounts.conf        accounts, users and auth callout, for `include` in a nats-server's configuration
nats.conf            a configuration of a nats-server: Mafalda's own, and the accounts
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from nkeys import NkeysError

from mafalda.auth import nats_jwt
from mafalda.auth.tokens import generate_key
from mafalda.bus.config import read_seed
from mafalda.bus.nats.server import default_conf
from mafalda.contract.channels import QUERY_CHANNEL
from mafalda.contract.permissions import (
    FLEET_ACCOUNT,
    PARTICIPANT_ACCOUNT,
    ROLES,
    FleetRole,
    Permissions,
    role_permissions,
)
from mafalda.errors import BadInput

SYSTEM_ACCOUNT = "SYS"
ISSUER, TOKENS, SYSTEM_USER = "issuer.nk", "tokens.json", "auth-system.nk"
ACCOUNTS_CONF, NATS_CONF = "accounts.conf", "nats.conf"

_KICK = Permissions(("$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.KICK", "_INBOX.>"), ("_INBOX.>",))


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """The paths in a folder of keys."""

    folder: Path

    def role(self, role: str) -> Path:
        """The file with a role's seed."""
        return self.folder / f"{role}.nk"

    @property
    def issuer(self) -> Path:
        """The file with the seed that signs participants' permissions."""
        return self.folder / ISSUER

    @property
    def tokens(self) -> Path:
        """The key set of tokens."""
        return self.folder / TOKENS

    @property
    def system_user(self) -> Path:
        """The file with the auth service's seed in the system account."""
        return self.folder / SYSTEM_USER

    @property
    def accounts_conf(self) -> Path:
        """Accounts, users and auth callout for a nats-server's configuration."""
        return self.folder / ACCOUNTS_CONF

    @property
    def nats_conf(self) -> Path:
        """The configuration of a nats-server."""
        return self.folder / NATS_CONF


def create_keys(folder: Path) -> KeyFolder:
    """Make all keys and the configuration, readable by their owner alone.

    Args:
        folder: Made if it is missing.

    Raises:
        BadInput: The folder has keys already: a running fleet would be locked out.
    """
    keys = KeyFolder(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if keys.issuer.exists():
        raise BadInput("the folder has keys already", folder=str(folder))
    seeds = {role: nats_jwt.new_user_seed() for role in ROLES}
    system_seed, issuer_seed = nats_jwt.new_user_seed(), nats_jwt.new_account_seed()
    for role, seed in seeds.items():
        _write(keys.role(role), f"{seed}\n")
    _write(keys.system_user, f"{system_seed}\n")
    _write(keys.tokens, orjson.dumps({"keys": [generate_key("k1")]}, option=orjson.OPT_INDENT_2).decode() + "\n")
    users = {role: nats_jwt.public_key(seed) for role, seed in seeds.items()}
    accounts = accounts_conf(users, nats_jwt.public_key(system_seed), nats_jwt.public_key(issuer_seed))
    _write(folder / ACCOUNTS_CONF, accounts)
    _write(keys.nats_conf, f"{default_conf().read_text()}\ninclude '{ACCOUNTS_CONF}'\n")
    _write(keys.issuer, f"{issuer_seed}\n")  # last: with it the folder is whole
    return keys


def ensure_keys(folder: Path) -> KeyFolder:
    """The keys in a folder, made if there are none; the configuration is written anew for this version's permissions.

    Raises:
        BadInput: The folder has some keys only, or a file that is none.
    """
    keys = KeyFolder(folder)
    if not keys.issuer.exists():
        return create_keys(folder)
    users = {role: _public(keys.role(role)) for role in ROLES}
    _write(keys.accounts_conf, accounts_conf(users, _public(keys.system_user), nats_jwt.public_key(read_issuer(keys))))
    return keys


def _public(file: Path) -> str:
    return nats_jwt.public_key(read_seed(file).get_secret_value())


def read_issuer(keys: KeyFolder) -> str:
    """The seed that signs participants' permissions.

    Raises:
        BadInput: It cannot be read, or is none.
    """
    try:
        seed = keys.issuer.read_text().strip()
        if nats_jwt.public_key(seed).startswith("A"):
            return seed
    except (OSError, ValueError, NkeysError):
        pass
    raise BadInput("no account's nkey seed (SA…)", file=str(keys.issuer))


def accounts_conf(users: Mapping[FleetRole, str], system_user: str, issuer: str) -> str:
    """The accounts, users and auth callout, in nats-server's configuration language (JSON is one of its forms).

    Args:
        users: The public nkey of each role.
        system_user: The public nkey of the auth service in the system account.
        issuer: The public nkey that signs participants' permissions.
    """
    services = ["mafalda.room.*.peer.*.intent.*", _query_pattern()]
    streams = ["live.mafalda.room.>", "_INBOX.*.*.>"]
    fleet = {
        "jetstream": "enabled",
        "users": [{"nkey": nkey, "permissions": _permissions(role_permissions(role))} for role, nkey in users.items()],
        "exports": [{"service": it, "accounts": [PARTICIPANT_ACCOUNT]} for it in services]
        + [{"stream": it, "accounts": [PARTICIPANT_ACCOUNT]} for it in streams],
    }
    imports = [{"service": {"account": FLEET_ACCOUNT, "subject": it}} for it in services]
    imports += [{"stream": {"account": FLEET_ACCOUNT, "subject": it}} for it in streams]
    accounts = {
        FLEET_ACCOUNT: fleet,
        PARTICIPANT_ACCOUNT: {"imports": imports},
        SYSTEM_ACCOUNT: {"users": [{"nkey": system_user, "permissions": _permissions(_KICK)}]},
    }
    callout = {
        "issuer": issuer,
        "account": FLEET_ACCOUNT,
        "auth_users": [*users.values(), system_user],
    }
    parts = {
        "accounts": accounts,
        "system_account": SYSTEM_ACCOUNT,
        "authorization": {"timeout": 5, "auth_callout": callout},
    }
    return "".join(
        f"{name}: {orjson.dumps(part, option=orjson.OPT_INDENT_2).decode()}\n" for name, part in parts.items()
    )


def _query_pattern() -> str:
    return ".".join("*" if token.startswith("{") else token for token in QUERY_CHANNEL.pattern.split("."))


def _permissions(permissions: Permissions) -> dict[str, list[str]]:
    return {"publish": list(permissions.publish), "subscribe": list(permissions.subscribe)}


def _write(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
