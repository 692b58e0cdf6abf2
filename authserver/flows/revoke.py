"""Revoke an access token (RFC 7009)."""

from __future__ import annotations

from typing import Any

from authserver.flows.introspect import read_jwt, require_current
from authserver.flows.server import AuthorizationServer
from authserver.oauth.client import Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.credentials import read_opaque_token, short_hash
from authserver.oauth.forms import Form
from authserver.oauth.jwt_access_token import looks_like_jwt
from authserver.oauth.signing_keys import KeyRing
from authserver.observe.audit import token_id
from authserver.observe.events import TOKEN_REVOKED


def revoke(server: AuthorizationServer, credential: ClientCredential, form: Form) -> dict[str, Any]:
    """Authenticate the client and revoke the token if it is the client's own (RFC 7009 §2.1).

    When this returns, the revocation is committed. A token that is unknown, expired or another client's gives the
    same empty answer (§2.2, and so that nothing is learnt). Raises OAuthError, Unavailable.
    """
    now = server.now()
    return server.client_cache.authenticated(credential, now, lambda client: _revoke(server, client, form, now))


def _revoke(server: AuthorizationServer, client: Client, form: Form, now: int) -> dict[str, Any]:
    value = form.require("token")
    if looks_like_jwt(value):
        server.key_ring.proved(lambda ring: _revoke_jwt(server, client, ring, value, now))
        return {}
    expires_at = read_opaque_token(value)
    if expires_at is not None and expires_at > now:
        server.access_tokens.revoke(short_hash(value), expires_at, client, now)
        _tell(server, client, value)
    else:
        require_current(server, client)
    return {}


def _revoke_jwt(server: AuthorizationServer, client: Client, ring: KeyRing, value: str, now: int) -> None:
    token = read_jwt(server, ring, value, now)
    if token is not None and token.client_id == client.client_id:
        server.revocations.revoke_jwt(short_hash(value), token, client, ring.version)
        _tell(server, client, value)
    else:
        require_current(server, client)


def _tell(server: AuthorizationServer, client: Client, value: str) -> None:
    server.audit.tell(TOKEN_REVOKED, client_id=client.client_id, token_id=token_id(short_hash(value)))
