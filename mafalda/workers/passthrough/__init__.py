"""Guests: peers of an application that speaks the worker's own channel (``docs/dropin.md``)."""

from mafalda.workers.passthrough.calls import handle_any_intent
from mafalda.workers.passthrough.queries import answer_any_query
from mafalda.workers.passthrough.registry import Guests

__all__ = ["Guests", "answer_any_query", "handle_any_intent"]
