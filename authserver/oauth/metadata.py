"""Authorization server metadata (RFC 8414): all of it derives from the issuer."""

from __future__ import annotations

from typing import Any

from authserver.oauth.client import CLIENT_CREDENTIALS, SECRET_METHODS
from authserver.oauth.client_assertion import PRIVATE_KEY_JWT
from authserver.oauth.jose import SIGNING_ALGORITHMS
from authserver.oauth.public_keys import ALGORITHMS

TOKEN = "/oauth/token"  # noqa: S105 - a path
INTROSPECT = "/oauth/introspect"
REVOKE = "/oauth/revoke"
REVOCATIONS = "/oauth/revocations"
REGISTER = "/clients/register"
JWKS = "/.well-known/jwks.json"
# Where the metadata itself is: the place of RFC 8414 §3, and one that many clients know from OpenID Connect.
WELL_KNOWN = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


def server_metadata(issuer: str, *, signs: bool) -> dict[str, Any]:
    """The metadata document (RFC 8414 §2) of a server that `signs` JWTs or does not."""
    methods = [*SECRET_METHODS, PRIVATE_KEY_JWT]
    algorithms = list(ALGORITHMS)
    document: dict[str, Any] = {
        "issuer": issuer,
        "token_endpoint": issuer + TOKEN,
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint": issuer + INTROSPECT,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": issuer + REVOKE,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "grant_types_supported": [CLIENT_CREDENTIALS],
        # Required by §2; empty, because there is no authorization endpoint.
        "response_types_supported": [],
        # It answers 401 to all until an operator has made an initial access token.
        "registration_endpoint": issuer + REGISTER,
    }
    if signs:
        document["jwks_uri"] = issuer + JWKS
        document["introspection_signing_alg_values_supported"] = list(SIGNING_ALGORITHMS)
    return document
