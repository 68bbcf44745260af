"""The keys of a closed fleet in one folder, and nats-server's configuration for them.

issuer.nk            signs participants' permissions; for the auth service alone
tokens.json          JSON Web Key Set that signs and verifies tokens
{role}.nk            one user's nkey for each role; auth-system.nk is the auth service's in NATS' system account
agent-{server}.nk    the nkey of one server's agent, with which nobody can speak for another server; agent.nk is for all
accounts.conf        accounts, users and auth callout, for `include` in a nats-server's configuration
nats.conf            a configuration of a nats-server: Mafalda's own, and the accounts
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from nkeys import NkeysError

from mafalda.auth import nats_jwt
from mafalda.auth.tokens import generate_key
from mafalda.bus.config import read_seed
from mafalda.bus.nats.server import default_conf
from mafalda.contract.channels import QUERY_CHANNEL
from mafalda.contract.ids import check_id
from mafalda.contract.permissions import (
    FLEET_ACCOUNT,
    PARTICIPANT_ACCOUNT,
    ROLES,
    Permissions,
    role_permissions,
)
from mafalda.errors import BadInput

SYSTEM_ACCOUNT = "SYS"
ISSUER, TOKENS, SYSTEM_USER = "issuer.nk", "tokens.json", "auth-system.nk"
ACCOUNTS_CONF, NATS_CONF = "accounts.conf", "nats.conf"
_AGENT = "agent-"

_KICK = Permissions(("$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.KICK", "_INBOX.>"), ("_INBOX.>",))


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """The paths in a folder of keys."""

    folder: Path

    def role(self, role: str) -> Path:
        """The file with a role's seed."""
        return self.folder / f"{role}.nk"

    def agent(self, server: str) -> Path:
        """The file with the seed of a server's agent: its own, or that of all agents if there is no such."""
        own = self.agent_of(server)
        return own if own.exists() else self.role("agent")

    def agent_of(self, server: str) -> Path:
        """The file with the seed of one server's agent alone."""
        return self.folder / f"{_AGENT}{server}.nk"

    def servers(self) -> list[str]:
        """The servers whose agent has a seed of its own."""
        return sorted(it.name.removeprefix(_AGENT).removesuffix(".nk") for it in self.folder.glob(f"{_AGENT}*.nk"))

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


def create_keys(folder: Path, servers: Iterable[str] = ()) -> KeyFolder:
    """Make all keys and the configuration, readable by their owner alone.

    Args:
        folder: Made if it is missing.
        servers: Make a key for the agent of each of these servers, and none for all agents.

    Raises:
        BadInput: The folder has keys already: a running fleet would be locked out. Or a server's id is none.
    """
    keys, servers = KeyFolder(folder), [check_id("server", server) for server in servers]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if keys.issuer.exists():
        raise BadInput("the folder has keys already", folder=str(folder))
    for role in ROLES:
        if role != "agent" or not servers:
            _write(keys.role(role), f"{nats_jwt.new_user_seed()}\n")
    _write_agents(keys, servers)
    _write(keys.system_user, f"{nats_jwt.new_user_seed()}\n")
    _write(keys.tokens, orjson.dumps({"keys": [generate_key("k1")]}, option=orjson.OPT_INDENT_2).decode() + "\n")
    issuer_seed = nats_jwt.new_account_seed()
    _write_accounts(keys, issuer_seed)
    _write(keys.nats_conf, f"{default_conf().read_text()}\ninclude '{ACCOUNTS_CONF}'\n")
    _write(keys.issuer, f"{issuer_seed}\n")  # last: with it the folder is whole
    return keys


def ensure_keys(folder: Path, servers: Iterable[str] = ()) -> KeyFolder:
    """The keys in a folder, made if there are none; the configuration is written anew for this version's permissions.

    Args:
        folder: Made if it is missing.
        servers: Make a key for the agent of each of these servers that has none.

    Raises:
        BadInput: The folder has some keys only, or a file that is none. Or a server's id is none.
    """
    keys = KeyFolder(folder)
    if not keys.issuer.exists():
        create_keys(folder)
    _write_agents(keys, servers)
    _write_accounts(keys, read_issuer(keys))
    return keys


def _write_agents(keys: KeyFolder, servers: Iterable[str]) -> None:
    for server in servers:
        if not keys.agent_of(check_id("server", server)).exists():
            _write(keys.agent_of(server), f"{nats_jwt.new_user_seed()}\n")


def _write_accounts(keys: KeyFolder, issuer_seed: str) -> None:
    """Write the configuration of the keys that the folder has; that of all agents may be missing."""
    agents = {_public(keys.agent_of(server)): role_permissions("agent", server) for server in keys.servers()}
    needed = [role for role in ROLES if role != "agent" or not agents or keys.role(role).exists()]
    users = {_public(keys.role(role)): role_permissions(role) for role in needed}
    text = accounts_conf({**users, **agents}, _public(keys.system_user), nats_jwt.public_key(issuer_seed))
    _write(keys.accounts_conf, text)


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


def accounts_conf(users: Mapping[str, Permissions], system_user: str, issuer: str) -> str:
    """The accounts, users and auth callout, in nats-server's configuration language (JSON is one of its forms).

    Args:
        users: What each role's or server's public nkey may do.
        system_user: The public nkey of the auth service in the system account.
        issuer: The public nkey that signs participants' permissions.
    """
    services = ["mafalda.room.*.peer.*.intent.*", _query_pattern()]
    streams = ["live.mafalda.room.>", "_INBOX.*.*.>"]
    fleet = {
        "jetstream": "enabled",
        "users": [{"nkey": nkey, "permissions": _permissions(may)} for nkey, may in users.items()],
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
        "auth_users": [*users, system_user],
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
