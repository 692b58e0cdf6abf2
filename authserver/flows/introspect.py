"""Tell a caller what it may know about a token (RFC 7662)."""

from __future__ import annotations

from typing import Any

from authserver.flows.server import AuthorizationServer
from authserver.oauth.access_token import INACTIVE, introspection_response, may_introspect
from authserver.oauth.client import Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.credentials import hash_credential, read_opaque_token
from authserver.oauth.forms import Form
from authserver.store.access_tokens import StaleClient


def introspect(server: AuthorizationServer, credential: ClientCredential, form: Form) -> dict[str, Any]:
    """Authenticate the caller and give the introspection response (RFC 7662 §2.2).

    A token that is unknown, malformed, expired, revoked or none of the caller's business is just inactive.
    Raises OAuthError, Unavailable.
    """
    now = server.now()
    return server.client_cache.authenticated(credential, now, lambda caller: _look_up(server, caller, form, now))


def _look_up(server: AuthorizationServer, caller: Client, form: Form, now: int) -> dict[str, Any]:
    # token_type_hint is not read: the token says itself what it is, and a wrong hint must not hide it (§2.1).
    value = form.require("token")
    expires_at = read_opaque_token(value)
    if expires_at is None or expires_at <= now:
        if not server.clients.is_current(caller):
            raise StaleClient
        return INACTIVE
    token = server.access_tokens.find(hash_credential(value), expires_at, caller)
    if token is None or not may_introspect(caller, token):
        return INACTIVE
    return introspection_response(token, server.policy.issuer)
