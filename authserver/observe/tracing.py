"""OpenTelemetry traces by the ecosystem's own instrumentation, for those who install the extra `otel`.

What is sent where is for the standard OTEL_... variables to say. What stands in a span is looked through as log lines
are: clients put secrets into URLs and headers where none belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from authserver.oauth.credentials import conceal

TRACE_ID, ROUTE = "authserver.trace_id", "authserver.route"
_WITH_QUERY = ("http.url", "http.target", "url.full")
_QUERY = "url.query"
_HEADER = "http.request.header."

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def trace(app: WSGI, statements: Any) -> WSGI:
    """The application, traced, and with it what the class `statements` runs.

    Call it after the fork: exporting takes a thread.
    """
    from opentelemetry import trace as api  # noqa: PLC0415 - only where it is wanted and installed
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - likewise
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - likewise

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are heeded first.
    provider = TracerProvider(resource=Resource({SERVICE_NAME: "authserver"}).merge(Resource.create()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    api.set_tracer_provider(provider)
    _trace_statements(statements, api.get_tracer(__name__), api.StatusCode.ERROR, api.SpanKind.CLIENT)
    traced: WSGI = OpenTelemetryMiddleware(app, _begin, _name)
    return traced


def _trace_statements(statements: Any, tracer: Any, failed: Any, kind: Any) -> None:
    # They go by psycopg's cursors, which are all that the ecosystem's instrumentation of psycopg sees.
    run = statements.run
    # What PostgreSQL says of an error can hold values: the span says only that there was one.
    quiet = {"record_exception": False, "set_status_on_exception": False}

    def traced(self: Any, query: str, *rest: Any) -> Any:
        attributes = {"db.system": "postgresql", "db.statement": query}
        with tracer.start_as_current_span("postgresql", kind=kind, attributes=attributes, **quiet) as span:
            try:
                return run(self, query, *rest)
            except BaseException:
                span.set_status(failed)
                raise

    statements.run = traced


def _begin(span: Any, environ: dict[str, Any]) -> None:
    # One trace id in spans, lines and events, also where the caller named none.
    environ[TRACE_ID] = f"{span.get_span_context().trace_id:032x}"
    if span.is_recording():
        span.set_attributes(_harmless(span.attributes))


def _harmless(attributes: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in attributes.items():
        if name.startswith(_HEADER):
            changed[name] = ["…"]  # whatever OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_... asks for
        elif name == _QUERY:
            changed[name] = "…"
        elif isinstance(value, str):
            changed[name] = conceal(value.partition("?")[0] if name in _WITH_QUERY else value)
    return changed


def _name(span: Any, environ: dict[str, Any], _status: str, _headers: object) -> None:
    """By the route, not the path: names are to be few, and paths hold names of clients."""
    route = environ.get(ROUTE) or "other"
    span.update_name(f"{environ.get('REQUEST_METHOD', '')} {route}")
    span.set_attribute("http.route", route)
