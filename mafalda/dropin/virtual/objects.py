"""The objects that the application has made, by id: one name space, as in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from mafalda.dropin.fleet.answers import Refusal, failed, not_found
from mafalda.dropin.fleet.object_session import ObjectSession

Kind = Literal[
    "router", "webrtcserver", "transport", "observer", "producer", "consumer", "dataproducer", "dataconsumer"
]
#: Which of them take notifications too; a worker's dump lists them twice.
NOTIFIABLE = frozenset({"transport", "producer", "dataproducer"})


@dataclass(slots=True, eq=False)
class Node:
    """One object. ``held`` are notifications that came before the library knew of it."""

    id: str
    kind: Kind
    session: ObjectSession | None = None  # its own; of a producer or consumer its transport's
    parent: str | None = None  # of a transport its router, of a producer its transport
    type: str = ""  # of a transport, as the schema calls it
    producer: str | None = None  # of consumers
    sctp: bool = False
    webrtc_server: str | None = None  # of a transport
    is_remade: bool = False  # of a transport: whether it is made again when its worker dies
    listen_infos: list[dict[str, Any]] = field(default_factory=list)  # of a WebRtcServer
    is_open: bool = False
    is_gone: bool = False  # of a transport: the library knows that it has ended with its worker
    held: list[tuple[str, dict[str, Any] | None]] = field(default_factory=list)
    children: dict[str, Node] = field(default_factory=dict)


class Objects:
    """All of one virtual worker's."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def get(self, id: str) -> Node | None:
        """The object, if there is one."""
        return self._nodes.get(id)

    def require(self, id: str, method: str, *kinds: Kind) -> Node:
        """The open object of one of these kinds.

        Raises:
            Refusal: There is none.
        """
        found = self._nodes.get(id)
        if found is None or not found.is_open or (kinds and found.kind not in kinds):
            raise not_found(id, method)
        return found

    def add(self, node: Node) -> Node:
        """A new object.

        Raises:
            Refusal: The id is taken, as far as one worker is concerned.
        """
        if not isinstance(node.id, str) or not node.id:
            raise Refusal("TypeError", "an id is missing")
        if node.id in self._nodes:
            raise failed(f"Channel request handler with ID {node.id} already exists")
        self._nodes[node.id] = node
        if node.parent is not None and (parent := self._nodes.get(node.parent)):
            parent.children[node.id] = node
        return node

    def remove(self, node: Node) -> list[Node]:
        """An object and everything in it; the list begins with itself."""
        found = [node]
        for child in list(node.children.values()):
            found += self.remove(child)
        if self._nodes.get(node.id) is node:
            del self._nodes[node.id]
        if node.parent is not None and (parent := self._nodes.get(node.parent)):
            parent.children.pop(node.id, None)
        return found

    def of(self, *kinds: Kind) -> list[Node]:
        """The open ones of some kinds."""
        return [node for node in self._nodes.values() if node.kind in kinds and node.is_open]
