"""One signed request to the endpoint.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
from standardwebhooks.webhooks import Webhook

from mafalda.errors import InvalidParameters
from mafalda.feed.room_events import RoomEvent
from mafalda.webhooks.config import WebhookConfig
from mafalda.webhooks.errors import EndpointGone, NotDelivered

SEQ_HEADER = "mafalda-seq"
_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_SECRET_BYTES = range(24, 65)


class Endpoint:
    """Posts events. Get one from ``open_endpoint``."""

    def __init__(self, client: httpx.AsyncClient, webhook: Webhook, url: str) -> None:
        self._client = client
        self._webhook = webhook
        self._url = url

    async def post(self, event: RoomEvent) -> None:
        """Send one event; every attempt has the event's id and a signature of its own time.

        Raises:
            NotDelivered: The endpoint did not answer with a status of success.
            EndpointGone: It answered that it is not there any more (410).
        """
        now = datetime.now(tz=UTC)
        body = event.data.decode()
        headers = {
            "content-type": _CONTENT_TYPE,
            "webhook-id": event.message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(event.message.id, now, body),
            SEQ_HEADER: str(event.seq),
        }
        try:
            response = await self._client.post(self._url, content=event.data, headers=headers)
        except httpx.HTTPError as error:
            raise NotDelivered("the endpoint cannot be reached", reason=f"{type(error).__name__}: {error}") from None
        if response.status_code == httpx.codes.GONE:
            raise EndpointGone("the endpoint answered 410 Gone: it wants no events any more", url=self._url)
        if not response.is_success:
            raise NotDelivered("the endpoint refused an event", status=response.status_code)


@asynccontextmanager
async def open_endpoint(config: WebhookConfig) -> AsyncIterator[Endpoint]:
    """The endpoint, with a pool of connections to it.

    Raises:
        InvalidParameters: The secret is none.
    """
    webhook = _webhook(config.secret.get_secret_value())
    async with httpx.AsyncClient(timeout=config.timeout_s, follow_redirects=False) as client:
        yield Endpoint(client, webhook, str(config.url))


def _webhook(secret: str) -> Webhook:
    """What signs. The library itself takes secrets of any length, and skips what is no base64."""
    kind, _, encoded = secret.partition("_")
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        size = 0
    if kind != "whsec" or size not in _SECRET_BYTES:
        raise InvalidParameters("a webhook secret is whsec_ and 24 to 64 bytes in base64")
    return Webhook(secret)
