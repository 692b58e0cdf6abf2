"""Issue an access token by the client credentials grant (RFC 6749 §4.4)."""

from __future__ import annotations

from typing import Any

from authserver.flows.key_ring import no_key
from authserver.flows.server import AuthorizationServer
from authserver.oauth.access_token import AccessToken
from authserver.oauth.client import CLIENT_CREDENTIALS, JWT, Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.credentials import make_identifier, make_opaque_token, short_hash
from authserver.oauth.errors import InvalidTarget, UnauthorizedClient, UnsupportedGrantType
from authserver.oauth.forms import Form
from authserver.oauth.jwt_access_token import sign_access_token
from authserver.oauth.resource import grant_audience
from authserver.oauth.scope import grant_scope
from authserver.oauth.signing_keys import KeyRing, NoSigningKey
from authserver.observe.audit import token_id
from authserver.observe.events import TOKEN_ISSUED


def issue(server: AuthorizationServer, credential: ClientCredential, form: Form) -> dict[str, Any]:
    """Authenticate the client, grant, and give the token response (RFC 6749 §5.1).

    Raises OAuthError, Unavailable. An opaque token is granted only when it is stored, a JWT only when the database
    has confirmed the client and the keys.
    """
    now = server.now()
    return server.client_cache.authenticated(
        credential, now, lambda client: _grant(server, client, credential, form, now)
    )


def _grant(
    server: AuthorizationServer, client: Client, credential: ClientCredential, form: Form, now: int
) -> dict[str, Any]:
    if form.require("grant_type") != CLIENT_CREDENTIALS:
        raise UnsupportedGrantType("The grant type must be client_credentials.")
    if CLIENT_CREDENTIALS not in client.grant_types:
        raise UnauthorizedClient("The client may not use this grant type.")
    lifetime = client.access_token_lifetime or server.policy.access_token_lifetime
    token = AccessToken(
        client_id=client.client_id,
        scope=grant_scope(form.get("scope"), client.scopes, client.default_scopes),
        audience=grant_audience(form.all("resource"), client.audiences),
        # After a "revoke all that was issued before", what is new must be seen to be new.
        issued_at=max(now, client.tokens_valid_from),
        expires_at=now + lifetime,
        jti=make_identifier(server.random) if client.access_token_format == JWT else None,
    )
    with server.token_budget.one_token(client, now):
        value = _make_jwt(server, client, token, now) if token.jti else _make_opaque(server, client, token)
    server.audit.tell(
        TOKEN_ISSUED,
        client_id=client.client_id,
        auth_method=credential.method,
        token_id=token_id(short_hash(value)),
        jti=token.jti,
        format=client.access_token_format,
        scope=token.scope,
        audience=token.audience,
        expires_at=token.expires_at,
    )
    return {"access_token": value, "token_type": "Bearer", "expires_in": lifetime, "scope": token.scope}


def _make_opaque(server: AuthorizationServer, client: Client, token: AccessToken) -> str:
    value = make_opaque_token(token.expires_at, server.random)
    server.access_tokens.add(short_hash(value), token, client)
    return value


def _make_jwt(server: AuthorizationServer, client: Client, token: AccessToken, now: int) -> str:
    if not token.audience:
        raise InvalidTarget("A JWT needs an audience, and the client is registered for none (RFC 9068 section 2.2).")

    def sign(ring: KeyRing) -> str:
        try:
            value = sign_access_token(token, server.policy.issuer, ring.signing_key(now))
        except NoSigningKey as error:
            # Perhaps this process has not seen the first key yet; if it has, only an operator can mend it.
            server.signing_keys.prove(client, ring.version)
            raise no_key(error) from None
        server.signing_keys.prove(client, ring.version)
        return value

    return server.key_ring.proved(sign)
