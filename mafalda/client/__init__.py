"""The Python SDK: join a room, send and receive media and data. See ``docs/python-sdk.md``."""

from mafalda.client.client import Client, connect
from mafalda.client.config import ClientConfig
from mafalda.client.events import EventStream, GaveUp, Reconnected, Reconnecting, RoomEvent
from mafalda.client.resources.consumer import Consumer
from mafalda.client.resources.data import DataConsumer, DataProducer
from mafalda.client.resources.producer import Producer
from mafalda.client.room import Room
from mafalda.client.webrtc.tracks import IncomingTrack

__all__ = [
    "Client",
    "ClientConfig",
    "Consumer",
    "DataConsumer",
    "DataProducer",
    "EventStream",
    "GaveUp",
    "IncomingTrack",
    "Producer",
    "Reconnected",
    "Reconnecting",
    "Room",
    "RoomEvent",
    "connect",
]
