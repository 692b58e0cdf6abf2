"""Logs as JSON lines on standard error: one object a line, never a query string, a body, a secret or a token."""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from authserver.oauth.credentials import conceal
from authserver.observe.timestamp import timestamp
from authserver.observe.tracing import TRACE_ID
from authserver.web.request_id import REQUEST_ID

_encode = json.JSONEncoder().encode
_EXTRA = ("request_id", "error_code")


class JsonFormatter(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Clients put secrets where none belong, and paths, names and errors then carry them here.
        return json.dumps({name: conceal(value) if isinstance(value, str) else value for name, value in line.items()})


class JsonLogger(Logger):  # type: ignore[misc] # gunicorn is not typed
    """gunicorn's logger, and with it the root logger, as JSON lines."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        # Or logging would print what could not be written as it is, with what the formatter conceals.
        logging.raiseExceptions = False
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        root = logging.getLogger()
        root.handlers = [handler]
        root.setLevel(self.error_log.level)
        for log in (self.error_log, self.access_log):
            log.handlers = [handler]
            log.propagate = False
        self._access = handler.stream if self.access_log_enabled else None

    def debug(self, msg: str, *_args: Any, **_kwargs: Any) -> None:
        """Log the constant part of what gunicorn says at this level: the rest quotes requests, heads included."""
        super().debug("%s", msg)

    def access(self, resp: Any, _req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one request; gunicorn calls this when the answer has been sent."""
        if self._access is None:
            return
        line = {
            "time": timestamp(time.time()),
            "logger": self.access_log.name,
            "request_id": environ.get(REQUEST_ID),
            "trace_id": environ.get(TRACE_ID),
            "remote": environ.get("REMOTE_ADDR"),
            "method": conceal(environ["REQUEST_METHOD"]),
            "path": conceal(environ["PATH_INFO"]),
            "status": resp.status_code,
            "bytes": resp.sent,
            "ms": round(request_time.total_seconds() * 1000, 3),
        }
        # Not as a record: to make one and to take it apart again takes as long as to authenticate a client.
        with suppress(OSError, ValueError):  # a full disk, or a stream that was closed
            self._access.write(f"{_encode(line)}\n")
            self._access.flush()
