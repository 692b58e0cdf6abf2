"""gunicorn's access log as JSON lines. Paths without query strings: those may hold tokens by mistake."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from gunicorn.glogging import Logger


class JsonAccessLog(Logger):  # type: ignore[misc]  # gunicorn is not typed
    """Writes one JSON object per request."""

    def access(self, resp: Any, _req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one request; gunicorn calls this after the answer has been sent."""
        if not self.access_log_enabled:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "remote": environ.get("REMOTE_ADDR"),
            "method": environ.get("REQUEST_METHOD"),
            "path": environ.get("PATH_INFO"),
            "status": int(str(resp.status).split(maxsplit=1)[0]),
            "bytes": getattr(resp, "sent", None),
            "ms": round(request_time.total_seconds() * 1000, 3),
        }
        self.access_log.info("%s", json.dumps(line))
