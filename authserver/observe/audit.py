"""Audit events (docs/audit.md): who did what, one JSON line each on the logger `authserver.audit`, never a secret."""

from __future__ import annotations

import json
import logging
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from logging.handlers import WatchedFileHandler
from typing import Any

from authserver.observe.events import TOKEN_INTROSPECTED, VERSION, bounded
from authserver.observe.timestamp import timestamp

LOGGER = "authserver.audit"

Origin = Mapping[str, str | None]
Listener = Callable[[str, Mapping[str, Any]], None]

_trouble = logging.getLogger("authserver.observe")
_NOWHERE: Origin = {"request_id": None, "trace_id": None, "address": None, "operator": None}
_origin: ContextVar[Callable[[], Origin]] = ContextVar("authserver.origin", default=lambda: _NOWHERE)


def begin_request(describe: Callable[[], Mapping[str, str]]) -> None:
    """What this thread does from now on is a request. `describe` gives its request_id, trace_id and address."""
    _origin.set(lambda: {**_NOWHERE, **describe()})


def begin_command(operator: str) -> None:
    """What this process does from now on, the operator does, whom the operating system calls so."""
    _origin.set(lambda: {**_NOWHERE, "operator": operator})


class Audit:
    """Takes events, and tells them to the log and to `listeners`; introspections, which are many, only if asked to."""

    def __init__(self, *listeners: Listener, introspections: bool = False) -> None:
        self._listeners, self.introspections = listeners, introspections

    def tell(self, event: str, **fields: Any) -> None:
        """Tell of something that has been done. The fields are those of `EVENTS`."""
        for listener in self._listeners:
            listener(event, fields)
        if _handler is not None and (event != TOKEN_INTROSPECTED or self.introspections):
            line = {"event": event, "version": VERSION, **_origin.get()(), **fields}
            line = {"time": timestamp(time.time()), "logger": LOGGER, **bounded(line)}
            _handler.handle(_Line(json.dumps(line)))


def token_id(token_hash: bytes) -> str:
    """What a token is called: as the revocation feed calls it. No secret, and no way back to the token."""
    return urlsafe_b64encode(token_hash[:16]).rstrip(b"=").decode()


class _Line(logging.LogRecord):
    """One event, one line, as it is written. What else logging gathers for a record takes longer than all the rest."""

    def __init__(self, line: str) -> None:
        self.msg = line


class _Lines(logging.Handler):
    """Says that an event could not be written, and not what was in it, as logging would."""

    def format(self, record: logging.LogRecord) -> str:
        return str(record.msg)

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        _trouble.critical("an audit event could not be written: %s", type(sys.exc_info()[1]).__name__)


class _File(_Lines, WatchedFileHandler):
    """What was done is not undone because it could not be told: the service goes on, and says so."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the file is to be opened anew and cannot be
            self.handleError(record)


class _Stream(_Lines, logging.StreamHandler[Any]):
    pass


_handler: _Lines | None = None


def write_to(path: str | None) -> None:
    """Let this process write events to a file, which may be renamed under it, or to standard error."""
    global _handler  # noqa: PLW0603 - one for the process, as its standard error is
    handler = _File(path, encoding="utf-8") if path else _Stream()
    if _handler is not None:
        _handler.close()
    _handler = handler
