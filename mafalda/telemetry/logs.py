"""Log lines: JSON on standard error, one object a line, with the ids of the message that is being handled.

On a terminal the lines are written for people. Lines of libraries (nats-py, OpenTelemetry …) have the same form.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog
from opentelemetry import trace

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def configure_logging(level: str | None = None, *, human: bool | None = None) -> None:
    """Set up this process's log lines. Call it once, before anything logs.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``. ``None``: ``MAFALDA_LOG_LEVEL``, else info.
        human: Lines for people. ``None``: if standard error is a terminal.

    Raises:
        ValueError: No such level.
    """
    chosen = (level or os.environ.get("MAFALDA_LOG_LEVEL") or "info").lower()
    if chosen not in _LEVELS:
        raise ValueError(f"no such log level: {chosen[:40]!r}; one of {', '.join(_LEVELS)}")
    for_people = sys.stderr.isatty() if human is None else human
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        add_trace,
    ]
    # The last processors: to bytes for ``BytesLogger`` (a quarter of the cost of stdlib logging) or text for people.
    ending: list[structlog.typing.Processor]
    factory: Any
    if for_people:
        ending = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        factory = structlog.PrintLoggerFactory(sys.stderr)
    else:
        ending = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dumps)]
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[chosen]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(shared, for_people))
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[chosen], logging.WARNING), force=True)


def add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The current span's ids, as W3C writes them."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Gives lines of the standard library's loggers the form of structlog's."""

    def __init__(self, shared: list[structlog.typing.Processor], for_people: bool) -> None:
        ending: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
        if for_people:
            ending.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
        else:
            ending += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dumps_text)]
        super().__init__(foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared], processors=ending)


def _dumps(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)


def _dumps_text(event: Any, **_: Any) -> str:
    return _dumps(event).decode()
