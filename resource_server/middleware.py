"""The guard as Falcon middleware: routes are protected unless declared public."""

import logging
from collections.abc import Callable
from typing import Any, Final, Self

import falcon
import falcon.inspect

from resource_server.config import Config
from resource_server.errors import AccessError, ConfigError
from resource_server.guard import Answer, Guard
from resource_server.scope import PUBLIC, Scope, declared
from resource_server.stats import Stats
from resource_server.trace import begin

_log: Final = logging.getLogger(__name__)
_CHECKED: Final = "resource_server.checked"
_TRACE_ID: Final = "resource_server.trace_id"


class ResourceServer:
    """Middleware that lets a request reach its resource only with a token that suffices.

    A resource says `auth = Scope("read", DELETE="admin")` or `auth = PUBLIC`; one that says nothing needs the
    guard's own scopes. Handlers find the `AccessToken` as `req.context.token`. OPTIONS always passes: a CORS
    preflight carries no token, so `on_options` must not give anything away.

    Use `ResourceServer.app()`: it refuses what would bypass the check while the routes are being added. With
    a plain `falcon.App(middleware=[...])` put this first in the list and call `verify(app)` after the last
    route; without that call an answer that no check preceded is withheld: 500, though its sink did run.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.default = Scope(*guard.scopes)
        self._verified = False

    @classmethod
    def from_config(cls, config: Config, stats: Stats | None = None) -> Self:
        """Build the middleware from settings; `stats` counts what happens."""
        return cls(Guard.from_config(config, stats))

    def app(self, **options: Any) -> "ProtectedApp":
        """Make a Falcon app guarded by this; `options` are those of `falcon.App`."""
        self._verified = True
        middleware = options.pop("middleware", [])
        others = middleware if isinstance(middleware, list | tuple) else [middleware]
        return ProtectedApp(self, middleware=[self, *others], **options)

    def verify(self, app: falcon.App[Any, Any]) -> None:
        """Raise `ConfigError` if `app` has a sink or a static route: Falcon checks no resource for them."""
        for sink in falcon.inspect.inspect_sinks(app):
            raise ConfigError(f"sink {sink.name} at {sink.prefix} bypasses the token check")
        for static in falcon.inspect.inspect_static_routes(app):
            raise ConfigError(f"static route {static.prefix} bypasses the token check")
        self._verified = True

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Note the trace that the request belongs to; serve the resource's own metadata (RFC 9728 §3)."""
        req.env[_TRACE_ID] = begin(req.env.get("HTTP_TRACEPARENT", ""), req.env.get("HTTP_TRACESTATE", ""))
        metadata = self.guard.metadata
        if metadata and req.path == metadata.path and req.method in {"GET", "HEAD"}:
            req.env[_CHECKED] = True
            resp.media = metadata.document()
            resp.complete = True

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Check the token, or end the request with the refusal."""
        auth = declared(resource, self.default)
        need = None if auth is PUBLIC or req.method == "OPTIONS" else auth.needs(req.method)
        if need is not None:
            req.context.token = self._check(req, need)
        req.env[_CHECKED] = True

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Withhold an answer that no check has preceded."""
        declared_public = self._verified and resource is None
        if req_succeeded and not declared_public and _CHECKED not in req.env:
            _log.critical("an answer without a token check was withheld: a sink, a static route or middleware")
            _withhold(resp)

    def _check(self, req: falcon.Request, need: frozenset[str]) -> Any:
        try:
            return self.guard.check(req.get_header("Authorization"), req.query_string, need)
        except AccessError as error:
            answer = self.guard.answer(error)
        raise _as_status(answer)


class ProtectedApp(falcon.App[falcon.Request, falcon.Response]):
    """A `falcon.App` that refuses, at the line that adds it, what the guard could not protect.

    Raises `ConfigError` for a wrong `auth`, and for a sink or static route without `auth=PUBLIC`.
    """

    def __init__(self, server: ResourceServer, **options: Any) -> None:
        super().__init__(**options)
        self._default = server.default
        self.add_error_handler(Exception, _unexpected)

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:
        """Add a route after looking at its `auth`."""
        declared(resource, self._default)
        # Falcon runs no resource middleware for a resource that is false, as an empty container is
        if hasattr(type(resource), "__bool__") or hasattr(type(resource), "__len__"):
            raise ConfigError(f"{type(resource).__qualname__}: a resource must not define __bool__ or __len__")
        super().add_route(uri_template, resource, **kwargs)

    def add_sink(self, sink: Callable[..., Any], prefix: Any = r"/", *, auth: object = None) -> None:
        """Add a sink for everyone, as `auth=PUBLIC` says. A `{path:path}` route could be protected."""
        _require_public(f"sink at {prefix}", auth)
        super().add_sink(sink, prefix)

    def add_static_route(self, prefix: str, directory: Any, *args: Any, auth: object = None, **kwargs: Any) -> None:
        """Add files that everyone may read; `auth=PUBLIC` says so."""
        _require_public(f"static route {prefix}", auth)
        super().add_static_route(prefix, directory, *args, **kwargs)


def _require_public(what: str, auth: object) -> None:
    if auth is not PUBLIC:
        raise ConfigError(f"{what}: bypasses the token check; declare auth=PUBLIC or use a resource")


def _as_status(answer: Answer) -> falcon.HTTPStatus:
    # unlike an HTTPError this is not negotiated: the body is JSON whatever the request accepts
    return falcon.HTTPStatus(answer.status, headers=dict(answer.headers), text=answer.body)


def _unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    # in place of Falcon's own handler, which logs the query string
    _log.error("%s %s failed", req.method, req.path, exc_info=error)
    _withhold(resp)


def _withhold(resp: falcon.Response) -> None:
    resp.status = falcon.HTTP_500
    if close := getattr(resp.stream, "close", None):
        close()
    resp.stream = resp.data = resp.text = None
    resp.media = {"error": "server_error", "error_description": "The request could not be completed."}
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")
