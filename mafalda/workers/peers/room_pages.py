"""A room's peers and producers, as its peers may see them, in pages that fit a message. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from mafalda.contract.messages.queries import DataProducerInfo, PeerInfo, ProducerInfo, RoomSnapshot
from mafalda.projection.state import RoomState

Item = PeerInfo | ProducerInfo | DataProducerInfo

#: A quarter of the largest message. One item more, with at most 16 KiB of application data, fits into the rest.
PAGE_BYTES = 128 * 1024


def room_page(
    room: RoomState | None,
    seq: int,
    *,
    after: str | None = None,
    audience: bool = False,
    page_bytes: int = PAGE_BYTES,
) -> RoomSnapshot:
    """A page of a room's peers and producers, as of a log sequence.

    Items are sorted by kind and id. So the next page begins where this one ends, even if items were added or removed
    in between.

    Args:
        room: The room's state; ``None`` is an empty room.
        seq: The log sequence of that state.
        after: The ``next`` of the page before; ``None``: the first page.
        audience: The peers of the audience, instead of the other peers and producers.
        page_bytes: A page ends after the item with which it exceeds this size of JSON, in bytes.
    """
    page: list[Item] = []
    size_bytes, last = 0, None
    items = _items(room, audience=audience) if room else ()
    for key, item in items:
        if after is not None and key <= after:
            continue
        if size_bytes > page_bytes:
            return _page(room, seq, page, last)
        page.append(item)
        size_bytes += len(orjson.dumps(item.to_json_dict()))
        last = key
    return _page(room, seq, page, None)


def _page(room: RoomState | None, seq: int, items: list[Item], last: str | None) -> RoomSnapshot:
    return RoomSnapshot(
        seq=seq,
        peers=[item for item in items if isinstance(item, PeerInfo)],
        producers=[item for item in items if isinstance(item, ProducerInfo)],
        data_producers=[item for item in items if isinstance(item, DataProducerInfo)],
        audience=sum(peer.audience for peer in room.peers.values()) if room else 0,
        next=last,
    )


def _items(room: RoomState, *, audience: bool) -> Iterator[tuple[str, Item]]:
    """All items, each with a key that sorts by kind and then by id."""
    for peer_id in sorted(peer.peer for peer in room.peers.values() if peer.audience == audience):
        yield f"1/{peer_id}", PeerInfo(peer=peer_id, app_data=room.peers[peer_id].app_data)
    if audience:
        return
    for producer_id in sorted(room.producers):
        it = room.producers[producer_id]
        if not it.data:
            kind = "audio" if it.media_kind == "audio" else "video"
            yield (
                f"2/{producer_id}",
                ProducerInfo(
                    producer=producer_id, peer=it.peer, media_kind=kind, paused=it.paused, app_data=it.app_data
                ),
            )
    for producer_id in sorted(room.producers):
        it = room.producers[producer_id]
        if it.data:
            yield (
                f"3/{producer_id}",
                DataProducerInfo(
                    data_producer=producer_id,
                    peer=it.peer,
                    label=it.label,
                    protocol=it.protocol,
                    app_data=it.app_data,
                ),
            )
