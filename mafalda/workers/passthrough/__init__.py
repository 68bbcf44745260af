"""Passthrough peers: peers of an application that speaks the worker's own channel (``docs/dropin.md``)."""

from mafalda.workers.passthrough.intents import handle_any_intent
from mafalda.workers.passthrough.queries import answer_any_query
from mafalda.workers.passthrough.registry import PassthroughPeers

__all__ = ["PassthroughPeers", "answer_any_query", "handle_any_intent"]
