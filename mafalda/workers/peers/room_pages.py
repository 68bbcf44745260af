"""What a room holds, as its peers may know it, in pages that fit a message. Pure.

What does not belong here: who asks (``queries``), the state itself (``mafalda.projection.state``).
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from mafalda.contract.messages.queries import DataProducerInfo, PeerInfo, ProducerInfo, RoomSnapshot
from mafalda.projection.state import RoomState

Item = PeerInfo | ProducerInfo | DataProducerInfo

#: Half of what a message may be; an item, of which the application's data is at most 16 KiB, fits the other half.
PAGE_BYTES = 128 * 1024


def snapshot(
    room: RoomState | None, seq: int, *, after: str | None = None, page_bytes: int = PAGE_BYTES
) -> RoomSnapshot:
    """Who is in a room and what can be consumed, as of a log sequence.

    Items come in the order of their kinds and ids, so that a page goes on where the one before ended, whatever came or
    went meanwhile.

    Args:
        room: As the fold has it; ``None`` is an empty one.
        seq: The sequence that it is as of.
        after: The ``next`` of the page before.
        page_bytes: A page ends when it is larger than this.
    """
    page: list[Item] = []
    size_bytes, last = 0, None
    for key, item in _items(room) if room else ():
        if after is not None and key <= after:
            continue
        if size_bytes > page_bytes:
            return _page(seq, page, last)
        page.append(item)
        size_bytes += len(orjson.dumps(item.to_json_dict()))
        last = key
    return _page(seq, page, None)


def _page(seq: int, items: list[Item], last: str | None) -> RoomSnapshot:
    return RoomSnapshot(
        seq=seq,
        peers=[item for item in items if isinstance(item, PeerInfo)],
        producers=[item for item in items if isinstance(item, ProducerInfo)],
        data_producers=[item for item in items if isinstance(item, DataProducerInfo)],
        next=last,
    )


def _items(room: RoomState) -> Iterator[tuple[str, Item]]:
    """Everything, each under a key that sorts by kind and then by id."""
    for peer_id in sorted(room.peers):
        yield f"1/{peer_id}", PeerInfo(peer=peer_id, app_data=room.peers[peer_id].app_data)
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
