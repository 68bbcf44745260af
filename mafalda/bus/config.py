"""Configuration of a connection to the bus. Built once by the command line; each component gets its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from mafalda.errors import BadInput

#: The environment variable that names a file with the seed of a role's nkey.
NKEY_FILE_VARIABLE = "MAFALDA_NKEY_FILE"
#: All environment variables that give a credential.
CREDENTIAL_VARIABLES = (NKEY_FILE_VARIABLE, "MAFALDA_NKEY", "MAFALDA_TOKEN", "MAFALDA_NATS_CREDS")
#: The environment variable with the number of copies of each stream, for a cluster of nats-servers.
REPLICAS_VARIABLE = "MAFALDA_NATS_REPLICAS"
DEFAULT_URL = "nats://127.0.0.1:4222"
_USER_SEED = re.compile(r"SU[A-Z2-7]{56}")


def server_urls(text: str | None) -> tuple[str, ...]:
    """The URLs in a list that is separated by commas, blanks allowed; the embedded server's if there are none."""
    return tuple(url for part in (text or "").split(",") if (url := part.strip())) or (DEFAULT_URL,)


def read_seed(file: Path) -> SecretStr:
    """The seed of a user's nkey in a file.

    Raises:
        BadInput: The file cannot be read, or holds no such seed.
    """
    try:
        lines = file.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("the nkey file cannot be read", file=str(file), reason=type(error).__name__) from None
    for line in lines:
        if _USER_SEED.fullmatch(line):
            return SecretStr(line)
    raise BadInput("the nkey file holds no seed of a user (SU…)", file=str(file))


class BusConfig(BaseModel):
    """How to reach NATS, how long to wait for it, and how the streams must be configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: tuple[str, ...] = Field(
        (DEFAULT_URL,), min_length=1, description="URLs (nats, tls, ws, wss). Default: the embedded server's."
    )
    name: str = Field("mafalda", max_length=256, description="Name of the connection in NATS' monitoring.")
    user: str | None = Field(None, description="None: no user, or the one in the URL.")
    password: SecretStr | None = Field(None, description="None: no password, or the one in the URL.")
    token: SecretStr | None = Field(None, description="None: no token.")
    credentials_file: Path | None = Field(None, description="A NATS .creds file (JWT and key). None: no JWT.")
    nkey_seed: SecretStr | None = Field(None, description="The nkey of a role (`mafalda keys init`). None: no nkey.")
    inbox_prefix: str = Field(
        "_INBOX",
        pattern=r"^_INBOX[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$",
        description="Prefix of reply subjects. A credential may permit only a prefix of its own.",
    )

    refused_for_s: float | None = Field(
        None,
        gt=0,
        description="Seconds for which NATS may refuse the credential again and again after it was accepted; then "
        "the connection ends. While NATS restarts, the auth service is away for seconds. None: for ever.",
    )
    connect_timeout_s: float = Field(10, gt=0, description="Seconds until the first connection, all servers together.")
    reconnect_wait_s: float = Field(
        0.1, gt=0, description="Seconds between attempts. nats-py's 2 s would be the outage of a restart."
    )
    ping_interval_s: float = Field(
        5, gt=0, description="Seconds between pings; two unanswered ones are a dead connection, found in 15 s."
    )
    append_timeout_s: float = Field(
        15, gt=0, description="Seconds until an append gives up. Losing a stream's leader pauses it 4.5 to 9 s."
    )
    append_attempt_s: float = Field(
        1, gt=0, description="Seconds to the first repetition (same id); doubled each time up to 4."
    )
    api_timeout_s: float = Field(5, gt=0, description="Seconds for one call of JetStream's API; then it is repeated.")
    audit_interval_s: float = Field(
        30,
        gt=0,
        description="Seconds between a follower's audits: comparisons of what it received with the log. A participant, "
        "who needs an agent for each, makes one in 2 to 6 times as long.",
    )
    follow_buffer: int = Field(
        65536, ge=16, description="Messages that wait for one follower before it reads the log instead: 40 MB of 600 B."
    )
    serve_concurrency: int = Field(256, ge=1, description="Requests that one `serve` works on at once; more wait.")

    ensure_streams: bool = Field(
        True, description="Create missing streams and update differing ones. False: for credentials without that right."
    )
    replicas: int | None = Field(
        None, ge=1, le=5, description="Copies of each stream. None: as it is; 1 where it is created (a lone server)."
    )
    log_max_bytes: int | None = Field(
        None, gt=0, description="Size at which the log refuses more. None: as it is; no limit where it is created."
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, *, name: str = "mafalda") -> BusConfig:
        """``MAFALDA_NATS_URL`` (several by comma), ``MAFALDA_NATS_REPLICAS``, a credential; the rest keeps its default.

        The credential is one of ``MAFALDA_TOKEN``, ``MAFALDA_NKEY`` (a seed), ``MAFALDA_NKEY_FILE`` (a file with one),
        or ``MAFALDA_NATS_CREDS`` (a .creds file).

        Raises:
            BadInput: The file with the seed cannot be read, or holds none; or the replicas are no number from 1 to 5.
        """
        environ = os.environ if environ is None else environ
        urls = server_urls(environ.get("MAFALDA_NATS_URL"))
        creds = environ.get("MAFALDA_NATS_CREDS")
        token, seed, file = (environ.get(f"MAFALDA_{part}") for part in ("TOKEN", "NKEY", "NKEY_FILE"))
        replicas = environ.get(REPLICAS_VARIABLE)
        if replicas and replicas not in ("1", "2", "3", "4", "5"):
            raise BadInput(f"{REPLICAS_VARIABLE} is a number from 1 to 5", value=replicas)
        return cls(
            servers=urls,
            replicas=int(replicas) if replicas else None,
            name=name,
            credentials_file=Path(creds) if creds else None,
            token=SecretStr(token) if token else None,
            nkey_seed=SecretStr(seed) if seed else read_seed(Path(file)) if file else None,
        )
