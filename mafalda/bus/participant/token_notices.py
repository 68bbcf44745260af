"""What the auth service says of a participant's token."""

from __future__ import annotations

import structlog
from nats.aio.msg import Msg

from mafalda.bus.connection.connection import Connection
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.results import Rejected
from mafalda.errors import BadInput, PermissionDenied

_log = structlog.get_logger(__name__)


class TokenNotices:
    """A ``Sink`` for these notices: a rejection of this very token ends the connection."""

    def __init__(self, connection: Connection, token_id: str) -> None:
        self._connection = connection
        self._token_id = token_id

    def deliver(self, message: Msg, pattern: str) -> None:
        try:
            notice = decode(message.data).data
        except BadInput as error:
            _log.warning("unreadable", action="token_notice", reason=str(error))
            return
        if isinstance(notice, Rejected) and notice.error.details.get("token_id") == self._token_id:
            self._connection.end(PermissionDenied(notice.error.message))

    def interrupted(self) -> None:
        return

    def denied(self, error: PermissionDenied) -> None:
        return

    def ended(self, error: PermissionDenied) -> None:
        return
