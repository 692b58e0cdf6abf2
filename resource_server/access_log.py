"""gunicorn's logs. Nothing of a request but method and path: queries and fields may hold tokens, by mistake or not."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gunicorn.glogging import Logger

# JWTs, and the tokens and secrets of a server that marks them; others cannot be recognised
_CREDENTIAL: Final = re.compile(
    r"(as(?:at|cs|ra|ia)_)[A-Za-z0-9_-]+|(eyJ)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*", re.IGNORECASE
)


class JsonFormatter(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; of what looks like a token or a secret only the marker is left."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": conceal(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = conceal(self.formatException(record.exc_info))
        return json.dumps(line)


class JsonAccessLog(Logger):  # type: ignore[misc]  # gunicorn is not typed
    """Writes JSON lines: one per request to standard output, one per event to standard error."""

    def setup(self, cfg: Any) -> None:
        """Let gunicorn, and all that has no handler of its own, log so; called at the start and at a reload."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
        root = logging.getLogger()
        if not root.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(JsonFormatter())
            root.addHandler(handler)

    def debug(self, msg: str, *_args: Any, **_kwargs: Any) -> None:
        """Log the constant part of what gunicorn says at this level: the rest quotes requests, heads included."""
        super().debug("%s", msg)

    def exception(self, msg: str, *_args: Any, **kwargs: Any) -> None:
        """Log an error with its traceback but without the URI that gunicorn adds."""
        super().exception("%s", msg.partition("%")[0].strip(), **kwargs)

    def access(self, resp: Any, _req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one request; gunicorn calls this after the answer has been sent."""
        if not self.access_log_enabled:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "trace_id": environ.get("resource_server.trace_id"),
            "remote": environ.get("REMOTE_ADDR"),
            "method": environ.get("REQUEST_METHOD"),
            "path": conceal(environ.get("PATH_INFO", "")),
            "status": int(str(resp.status).split(maxsplit=1)[0]),
            "bytes": getattr(resp, "sent", None),
            "ms": round(request_time.total_seconds() * 1000, 3),
        }
        self.access_log.info("%s", json.dumps(line))


def conceal(text: str) -> str:
    """The text with nothing but the marker left of what looks like a token or a secret."""
    return _CREDENTIAL.sub(lambda match: f"{match[1] or match[2]}…", text)
