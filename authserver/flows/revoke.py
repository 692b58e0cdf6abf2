"""Revoke a token (RFC 7009)."""

from __future__ import annotations

from typing import Any

from authserver.flows.server import AuthorizationServer
from authserver.oauth.client import Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.credentials import hash_credential, read_opaque_token
from authserver.oauth.forms import Form
from authserver.store.access_tokens import StaleClient


def revoke(server: AuthorizationServer, credential: ClientCredential, form: Form) -> dict[str, Any]:
    """Authenticate the client and revoke the token if it is the client's own; committed when this returns.

    Gives the response, which is empty: whether there was such a token is not told (RFC 7009 §2.2).
    Raises OAuthError, Unavailable.
    """
    now = server.now()
    return server.client_cache.authenticated(credential, now, lambda client: _revoke(server, client, form, now))


def _revoke(server: AuthorizationServer, client: Client, form: Form, now: int) -> dict[str, Any]:
    value = form.require("token")
    expires_at = read_opaque_token(value)
    if expires_at is not None and expires_at > now:
        server.access_tokens.revoke(hash_credential(value), expires_at, client, now)
    elif not server.clients.is_current(client):
        raise StaleClient
    return {}
