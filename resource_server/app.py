"""The example service: one open and one protected route, guarded as the settings say."""

import os
import sys

import falcon

from resource_server.config import Config
from resource_server.errors import ConfigError
from resource_server.metrics import Metrics
from resource_server.middleware import ProtectedApp, ResourceServer
from resource_server.scope import PUBLIC
from resource_server.stats import Stats

_BOOT_FAILED = 4  # gunicorn's APP_LOAD_ERROR: stop, do not start another worker


class Public:
    """Anyone may read this."""

    auth = PUBLIC

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with a greeting."""
        resp.media = {"message": "This is public."}


class Protected:
    """Needs REQUIRED_SCOPE, as every resource does that declares nothing else."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with what is known about the caller."""
        token = req.context.token
        resp.cache_control = ["no-store"]
        resp.media = {
            "message": "This is protected.",
            "subject": token.subject,
            "client_id": token.client_id,
            "scopes": sorted(token.scopes),
            "expires_at": token.expires_at,
        }


class Status:
    """Alive and ready are the same here.

    Readiness does not depend on the authorization server: its outage would take every replica out of service,
    public routes included, where a 503 on the protected ones tells the truth and heals by itself.
    """

    auth = PUBLIC

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer that the service runs and is configured: otherwise it would not have started."""
        resp.media = {"status": "ok"}


class MetricsPage:
    """Numbers for Prometheus. They name no caller and no token."""

    auth = PUBLIC

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer in the text format."""
        resp.content_type, resp.data = self._metrics.text()


def create_app(config: Config, server: ResourceServer | None = None) -> ProtectedApp:
    """Build the WSGI application; `server` replaces the guard that `config` describes."""
    metrics = Metrics()
    app = (server or ResourceServer.from_config(config, Stats(metrics.record))).app()
    app.add_route("/public", Public())
    app.add_route("/protected", Protected())
    app.add_route("/health", Status())
    app.add_route("/ready", Status())
    app.add_route("/metrics", MetricsPage(metrics))
    return app


def get_app() -> ProtectedApp:
    """Build the application from the environment; a bad setting ends the process with one line."""
    try:
        return create_app(Config.from_environ(os.environ))
    except ConfigError as error:
        sys.stderr.write(f"resource_server: {error}\n")
    raise SystemExit(_BOOT_FAILED)
