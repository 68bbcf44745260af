"""Guests: peers of an application that speaks the worker's own channel (``docs/dropin.md``)."""

from mafalda.workers.guests.calls import handle_any_intent
from mafalda.workers.guests.house import Guests
from mafalda.workers.guests.reading import answer_any_query

__all__ = ["Guests", "answer_any_query", "handle_any_intent"]
