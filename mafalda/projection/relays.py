"""How relay commands and relay events change the state."""

from __future__ import annotations

from mafalda.contract.messages import commands, events
from mafalda.contract.subjects import Address
from mafalda.projection.removal import remove_relays
from mafalda.projection.state import RelayState, RoomState, State


def open_relay(state: State, _: Address, command: commands.OpenRelay) -> None:
    """Add a relay that is being opened, if its producer is there and both of its workers live."""
    if room := state.rooms.get(command.room):
        relay = RelayState(command.producer, command.data, command.source, command.target, "opening")
        _add(state, room, relay, command.generation)


def open_relays(state: State, _: Address, command: commands.OpenRelays) -> None:
    """Add relays that are being opened, each as by ``open_relay``."""
    if room := state.rooms.get(command.room):
        for it in command.relays:
            relay = RelayState(it.producer, it.data, it.source, command.target, "opening")
            _add(state, room, relay, it.generation)


def _add(state: State, room: RoomState, relay: RelayState, generation: int) -> None:
    producer = room.producers.get(relay.producer)
    if producer is None or (producer.generation, producer.data) != (generation, relay.data):
        return
    if relay.target in (relay.source, producer.place) or (relay.producer, relay.target) in room.relays:
        return
    if state.worker(relay.source) and state.worker(relay.target):
        state.add_relay(room, relay)


def relay_opened(state: State, address: Address, event: events.RelayOpened) -> None:
    """Mark a relay as open."""
    if relay := _relay(state, address, event):
        relay.status = "open"


def relay_ended(state: State, address: Address, event: events.RelayClosed | events.RelayFailed) -> None:
    """Remove a relay with the consumers and relays that depend on it."""
    if relay := _relay(state, address, event):
        remove_relays(state, state.rooms[address.room or ""], [relay])


def _relay(
    state: State, address: Address, event: events.RelayOpened | events.RelayClosed | events.RelayFailed
) -> RelayState | None:
    room = state.rooms.get(address.room or "")
    relay = room.relays.get((event.producer, event.target)) if room else None
    return relay if relay and relay.source == event.source else None
