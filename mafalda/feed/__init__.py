"""Room events for application servers: an ordered feed of the log with a cursor that is kept in NATS."""

from mafalda.feed.cursor import Cursor as Cursor
from mafalda.feed.cursor import CursorMoved as CursorMoved
from mafalda.feed.room_events import EventFollower as EventFollower
from mafalda.feed.room_events import RoomEvent as RoomEvent
from mafalda.feed.room_events import Selection as Selection
from mafalda.feed.room_events import follow_events as follow_events
from mafalda.feed.room_events import read_event as read_event
