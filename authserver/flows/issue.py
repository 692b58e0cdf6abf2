"""Issue an access token by the client credentials grant (RFC 6749 §4.4)."""

from __future__ import annotations

from typing import Any

from authserver.flows.server import AuthorizationServer
from authserver.oauth.access_token import AccessToken
from authserver.oauth.client import CLIENT_CREDENTIALS, Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.credentials import hash_credential, make_opaque_token
from authserver.oauth.errors import UnauthorizedClient, UnsupportedGrantType
from authserver.oauth.forms import Form
from authserver.oauth.resource import grant_audience
from authserver.oauth.scope import grant_scope


def issue(server: AuthorizationServer, credential: ClientCredential, form: Form) -> dict[str, Any]:
    """Authenticate the client, grant, store and give the token response (RFC 6749 §5.1).

    Raises OAuthError, Unavailable. Nothing is granted unless it is stored.
    """
    now = server.now()
    return server.client_cache.authenticated(credential, now, lambda client: _grant(server, client, form, now))


def _grant(server: AuthorizationServer, client: Client, form: Form, now: int) -> dict[str, Any]:
    if form.require("grant_type") != CLIENT_CREDENTIALS:
        raise UnsupportedGrantType("The grant type must be client_credentials.")
    if CLIENT_CREDENTIALS not in client.grant_types:
        raise UnauthorizedClient("The client may not use this grant type.")
    lifetime = client.access_token_lifetime or server.policy.access_token_lifetime
    token = AccessToken(
        client=client.id,
        client_id=client.client_id,
        scope=grant_scope(form.get("scope"), client.scopes, client.default_scopes),
        audience=grant_audience(form.all("resource"), client.audiences),
        issued_at=now,
        expires_at=now + lifetime,
    )
    value = make_opaque_token(token.expires_at, server.random)
    server.access_tokens.add(hash_credential(value), token, client)
    return {"access_token": value, "token_type": "Bearer", "expires_in": lifetime, "scope": token.scope}
