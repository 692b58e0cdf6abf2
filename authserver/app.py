"""The WSGI application: built from arguments by `create_app`, from the environment by `get_app`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import falcon

from authserver.config import Config, ConfigError, read_config, unreadable
from authserver.fetch.documents import Fetcher
from authserver.flows.issue import issue
from authserver.flows.read_feed import read_feed
from authserver.flows.remote_keys import RemoteKeys
from authserver.flows.revoke import revoke
from authserver.flows.server import AuthorizationServer, Policy, make_server
from authserver.oauth import metadata
from authserver.oauth.credentials import hash_credential
from authserver.observe.audit import Audit, write_to
from authserver.observe.tracing import WSGI, trace
from authserver.store.database import Database
from authserver.store.prepared import PreparedStatements
from authserver.watch import pass_on, settle_and_pass_on
from authserver.web.client_address import ClientAddress
from authserver.web.docs import DOCUMENTATION, DocumentationEndpoint
from authserver.web.errors import add_error_handlers
from authserver.web.form_endpoint import FormEndpoint
from authserver.web.health import Health, Ready
from authserver.web.held_answers import HeldAnswers
from authserver.web.introspect import IntrospectionEndpoint
from authserver.web.jwks import JWKSEndpoint
from authserver.web.metadata import MetadataEndpoint
from authserver.web.observation import Observation
from authserver.web.openapi import DESCRIPTION, DescriptionEndpoint, describe
from authserver.web.register import ClientConfigurationEndpoint, RegistrationEndpoint
from authserver.web.request_id import CommonHeaders
from authserver.web.revocation_feed import RevocationFeedEndpoint

if TYPE_CHECKING:
    from authserver.observe.metrics import Metrics

WSGIApp = falcon.App[Any, Any]

_log = logging.getLogger("authserver.start")


class _Configured:
    """What `configure` has read last, in this process or in the one that it was forked from."""

    config: Config | None = None


def create_app(server: AuthorizationServer, *, api_docs: bool = False, metrics: Metrics | None = None) -> WSGIApp:
    """The application for one authorization server, with a page that documents it if the operator wants one.

    Connects to nothing until the first request needs it.
    """
    observation = Observation(server.audit, ClientAddress(server.policy.trusted_proxies), metrics)
    app: WSGIApp = falcon.App(middleware=[observation, HeldAnswers(server.database), CommonHeaders()])
    add_error_handlers(app)
    # A method that a resource has no responder for goes to its on_request, where it has one.
    app.router_options.default_to_on_request = True
    issuer = server.policy.issuer
    path = urlsplit(issuer).path
    endpoints: dict[str, object] = {
        metadata.TOKEN: FormEndpoint(server, issue),
        metadata.INTROSPECT: IntrospectionEndpoint(server),
        metadata.REVOKE: FormEndpoint(server, revoke),
        metadata.REVOCATIONS: RevocationFeedEndpoint(server, read_feed),
        metadata.REGISTER: RegistrationEndpoint(server),
        f"{metadata.REGISTER}/{{client_id}}": ClientConfigurationEndpoint(server),
    }
    if server.policy.signs:
        endpoints[metadata.JWKS] = JWKSEndpoint(server)
    probes: dict[str, object] = {"/health": Health(), "/ready": Ready(server)}
    at_root = {well_known: well_known + path for well_known in metadata.WELL_KNOWN} | {probe: probe for probe in probes}
    description = describe(issuer, [*endpoints, DESCRIPTION, *([DOCUMENTATION] if api_docs else [])], at_root)
    endpoints[DESCRIPTION] = DescriptionEndpoint(description)
    if api_docs:
        endpoints[DOCUMENTATION] = DocumentationEndpoint(description)
    # An issuer with a path advertises URLs below it; a proxy in front may or may not strip it.
    for prefix in dict.fromkeys(("", path)):
        for route, endpoint in endpoints.items():
            app.add_route(prefix + route, endpoint)
        for well_known in metadata.WELL_KNOWN:
            app.add_route(well_known + prefix, MetadataEndpoint(server.policy))
    for route, probe in probes.items():
        app.add_route(route, probe)
    return app


def _make_database(config: Config, observe: Callable[[float], None] | None) -> Database:
    """The database that the settings name. Raises ConfigError."""
    try:
        return Database(
            config.database_url, pooled=bool(config.database_pooler), observe=observe, before_waiting=pass_on
        )
    except ValueError as error:
        raise ConfigError(f"AUTHSERVER_DATABASE_URL is {error}") from None


def make_configured_server(config: Config, metrics: Metrics | None = None) -> AuthorizationServer:
    """The authorization server that the settings describe. Raises ConfigError."""
    initial = config.initial_access_token
    policy = Policy(
        issuer=config.issuer,
        access_token_lifetime=config.access_token_lifetime,
        initial_access_token_hash=hash_credential(initial) if initial else None,
        key_encryption=config.key_encryption_key,
        signing_algorithm=config.signing_algorithm,
        tokens_per_minute=config.tokens_per_minute,
        trusted_proxies=config.forwarded_allow_ips,
    )
    database = _make_database(config, metrics.round_trip if metrics else None)
    fetcher = Fetcher(config.jwks_allowed_networks, config.jwks_allow_http == "yes", config.jwks_ca_bundle)
    # Of the threads that serve requests, a quarter may wait for keys of clients and a quarter for those of issuers:
    # never all, whatever the other servers do.
    waiting = max(1, config.threads // 4)
    listeners = [metrics.event] if metrics else []
    return make_server(
        policy,
        database,
        fetcher=fetcher,
        make_remote_keys=lambda: RemoteKeys(max_waiting=waiting, before_waiting=settle_and_pass_on),
        audit=Audit(*listeners, introspections=config.audit_introspections),
    )


def configure() -> Config:
    """Read the settings for this process and for those that it forks, and open the file for audit events.

    At a reload, keep the former if one is wrong.

    Raises ConfigError where there are none to keep.
    """
    try:
        config = read_config(os.environ)
        make_configured_server(config)  # for the connection string; it connects to nothing
        _open_audit(config.audit_file)
        _Configured.config = config
    except ConfigError as error:
        if _Configured.config is None:
            raise
        _log.error("not reloaded, the settings of before are in force: %s", error)
    return _Configured.config


def _open_audit(path: str | None) -> None:
    try:
        write_to(path)
    except OSError as error:
        raise ConfigError(f"AUTHSERVER_AUDIT_FILE cannot be opened: {unreadable(error)}") from None


def get_app() -> WSGI:
    """For gunicorn: read the environment, build the application, or end the process with one line that says why not."""
    try:
        config = _Configured.config or read_config(os.environ)
        metrics = _metrics() if config.metrics_bind else None
        server = make_configured_server(config, metrics)
        if metrics:
            metrics.watch(server.database.connections, config.threads)
        app = create_app(server, api_docs=config.api_docs, metrics=metrics)
        return trace(app, PreparedStatements) if config.opentelemetry else app
    except ConfigError as error:
        sys.exit(f"authserver: {error}")


def _metrics() -> Metrics:
    # Only now: prometheus_client looks at its import for the variable that the gunicorn configuration sets.
    from authserver.observe.metrics import process_metrics  # noqa: PLC0415

    return process_metrics()
