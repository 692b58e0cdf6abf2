"""Make tokens and assertions without asking the server: by the thousand, before a round begins."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from authserver.flows.server import AuthorizationServer, Policy, make_server
from authserver.oauth.access_token import AccessToken
from authserver.oauth.client_assertion import JWT_BEARER
from authserver.oauth.credentials import make_identifier, make_opaque_token, short_hash
from authserver.oauth.jwt_access_token import sign_access_token
from authserver.oauth.key_encryption import read_key_encryption
from authserver.store.database import Database

LIFETIME = 3600
_ASSERTION_LIFETIME = 240


class Issuing:
    """Access tokens of one installation, by its rows and its keys."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._url = settings["AUTHSERVER_DATABASE_URL"]
        encryption = read_key_encryption(settings["AUTHSERVER_KEY_ENCRYPTION_KEY"])
        policy = Policy(settings["AUTHSERVER_ISSUER"], key_encryption=encryption)
        self._server: AuthorizationServer = make_server(policy, Database(self._url))

    def close(self) -> None:
        """Close the connection."""
        self._server.database.close()

    def opaque(
        self,
        client_id: str,
        audience: str,
        number: int,
        *,
        revoked: bool = False,
        lifetimes: Sequence[int] = (LIFETIME,),
    ) -> list[str]:
        """That many opaque tokens, stored as the server stores them; the lifetimes in turn."""
        now = int(time.time())
        expiries = [now + lifetimes[at % len(lifetimes)] for at in range(number)]
        values = [make_opaque_token(each, secrets.token_bytes) for each in expiries]
        with psycopg.connect(self._url) as connection, connection.cursor() as cursor:
            row = cursor.execute("SELECT id FROM clients WHERE client_id = %s", [client_id]).fetchone()
            if row is None:
                raise LookupError(client_id)
            columns = "expires_at, short_hash, client, issued_at, revoked_at, scope, audience"
            with cursor.copy(f"COPY access_tokens ({columns}) FROM STDIN") as copy:
                for value, expires_at in zip(values, expiries, strict=True):
                    at = now if revoked else None
                    copy.write_row((expires_at, short_hash(value), row[0], now, at, "read", audience))
        return values

    def jwt(self, client_id: str, audience: str, number: int, *, revoked: bool = False) -> list[str]:
        """That many JWTs, signed by the installation's key."""
        now = int(time.time())
        key = self._server.key_ring.load().signing_key(now)

        def sign() -> str:
            jti = make_identifier(secrets.token_bytes)
            token = AccessToken(client_id, "read", [audience], now, now + LIFETIME, jti)
            return sign_access_token(token, self._server.policy.issuer, key)

        values = [sign() for _ in range(number)]
        if revoked:
            with psycopg.connect(self._url) as connection, connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO revocations (expires_at, short_hash) VALUES (%s, %s)",
                    [(now + LIFETIME, short_hash(value)) for value in values],
                )
        return values


class SecretParty:
    """A client that proves itself with its secret."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.client_id = client_id
        self._form = {"client_id": client_id, "client_secret": client_secret}

    def proof(self) -> dict[str, str]:
        """What to add to a form."""
        return self._form


class KeyParty:
    """A client that proves itself with a key: each assertion is good once."""

    def __init__(self, client_id: str, issuer: str) -> None:
        self.client_id, self._issuer = client_id, issuer
        self._key = ECKey.generate_key("P-256")
        self._algorithm: Any = JWSRegistry.algorithms["ES256"]
        self._head = _segment(json.dumps({"alg": "ES256", "kid": "bench"}))

    def jwks(self) -> dict[str, Any]:
        """The public key, for registration."""
        return {"keys": [{**self._key.as_dict(private=False), "kid": "bench"}]}

    def proof(self) -> dict[str, str]:
        """What to add to a form, new each time."""
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self._issuer,
            "exp": int(time.time()) + _ASSERTION_LIFETIME,
            "jti": secrets.token_urlsafe(16),
        }
        signed = f"{self._head}.{_segment(json.dumps(claims))}"
        signature = urlsafe_b64encode(self._algorithm.sign(signed.encode(), self._key)).rstrip(b"=").decode()
        return {"client_assertion_type": JWT_BEARER, "client_assertion": f"{signed}.{signature}"}


def _segment(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
