"""Tell a caller what it may know about a token (RFC 7662)."""

from __future__ import annotations

from typing import Any

from authserver.flows.key_ring import no_key
from authserver.flows.server import AuthorizationServer
from authserver.oauth.access_token import INACTIVE, AccessToken, introspection_response, may_introspect
from authserver.oauth.client import Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.credentials import read_opaque_token, short_hash
from authserver.oauth.forms import Form
from authserver.oauth.jwt_access_token import UnknownKey, looks_like_jwt, read_access_token
from authserver.oauth.signing_keys import KeyRing, NoSigningKey, sign_claims
from authserver.observe.audit import token_id
from authserver.observe.events import TOKEN_INTROSPECTED
from authserver.store.access_tokens import StaleClient
from authserver.store.signing_keys import require_version

SIGNED_RESPONSE = "token-introspection+jwt"  # RFC 9701 §5: the type of the JWT and the subtype of the media type


def introspect(server: AuthorizationServer, credential: ClientCredential, form: Form) -> dict[str, Any]:
    """Authenticate the caller and give the introspection response (RFC 7662 §2.2).

    A token that is unknown, malformed, expired, revoked or none of the caller's business is just inactive.
    Raises OAuthError, Unavailable.
    """
    now = server.now()
    return server.client_cache.authenticated(credential, now, lambda caller: _look_up(server, caller, form, now))


def introspect_signed(server: AuthorizationServer, credential: ClientCredential, form: Form) -> str:
    """The introspection response as a JWT for the caller who asked (RFC 9701 §5).

    One round trip more, which proves that the key still is one. Raises OAuthError, Unavailable.
    """
    now = server.now()
    return server.client_cache.authenticated(
        credential, now, lambda caller: _sign(server, caller, _look_up(server, caller, form, now), now)
    )


def _sign(server: AuthorizationServer, caller: Client, response: dict[str, Any], now: int) -> str:
    claims = {"iss": server.policy.issuer, "aud": caller.client_id, "iat": now, "token_introspection": response}
    try:
        return sign_claims(SIGNED_RESPONSE, claims, server.key_ring.current().signing_key(now))
    except NoSigningKey as error:
        raise no_key(error) from None


def _look_up(server: AuthorizationServer, caller: Client, form: Form, now: int) -> dict[str, Any]:
    # token_type_hint is not read: the token says itself what it is, and a wrong hint must not hide it (§2.1).
    value = form.require("token")
    token = _find_jwt(server, caller, value, now) if looks_like_jwt(value) else _find_opaque(server, caller, value, now)
    active = token is not None and may_introspect(caller, token)
    server.audit.tell(
        TOKEN_INTROSPECTED,
        client_id=caller.client_id,
        token_id=token_id(short_hash(value)) if server.audit.introspections else None,
        active=active,
    )
    return introspection_response(token, server.policy.issuer) if token is not None and active else INACTIVE


def _find_opaque(server: AuthorizationServer, caller: Client, value: str, now: int) -> AccessToken | None:
    expires_at = read_opaque_token(value)
    if expires_at is None or expires_at <= now:
        require_current(server, caller)
        return None
    return server.access_tokens.find(short_hash(value), expires_at, caller)


def _find_jwt(server: AuthorizationServer, caller: Client, value: str, now: int) -> AccessToken | None:
    def find(ring: KeyRing) -> AccessToken | None:
        token = read_jwt(server, ring, value, now)
        if token is None:
            require_current(server, caller)
            return None
        return token if server.revocations.is_live(short_hash(value), token, caller, ring.version) else None

    return server.key_ring.proved(find)


def read_jwt(server: AuthorizationServer, ring: KeyRing, value: str, now: int) -> AccessToken | None:
    """The facts of a JWT by its signature alone; None for what is not ours or has expired. Raises StaleKeyRing."""
    try:
        return read_access_token(value, server.policy.issuer, ring, now)
    except UnknownKey:
        require_version(server.signing_keys.version(), ring.version)
        return None


def require_current(server: AuthorizationServer, caller: Client) -> None:
    """Prove the caller where nothing else is asked of the database. Raises StaleClient."""
    if not server.clients.is_current(caller):
        raise StaleClient
