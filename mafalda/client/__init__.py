"""The Python SDK: join a room, send and receive media and data. See ``docs/python-sdk.md``."""

from mafalda.client.client import Client, connect
from mafalda.client.config import ClientConfig
from mafalda.client.events import EventStream, GaveUp, Reconnected, Reconnecting, RoomEvent
from mafalda.client.resources.consumer import Consumer
from mafalda.client.resources.data import DataConsumer, DataProducer
from mafalda.client.resources.producer import Producer
from mafalda.client.resources.subscription import Subscription
from mafalda.client.room import Room
from mafalda.client.webrtc.tracks import IncomingTrack
from mafalda.contract.messages.subscriptions import ProducerSelector

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
    "ProducerSelector",
    "Reconnected",
    "Reconnecting",
    "Room",
    "RoomEvent",
    "Subscription",
    "connect",
]
