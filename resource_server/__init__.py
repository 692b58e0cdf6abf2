"""Protects a service with OAuth 2.0 access tokens (RFC 6750, RFC 7662), and calls services so protected.

The core needs no framework: `Guard`. For Falcon there is `ResourceServer`, for requests `ClientCredentials`.
"""

from typing import TYPE_CHECKING, Any

from resource_server.access_token import AccessToken
from resource_server.client_credentials import ClientCredentials, TokenError, assertion_from_file
from resource_server.config import Config
from resource_server.errors import (
    AccessError,
    ConfigError,
    CredentialsRefusedError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    MissingTokenError,
    UnavailableError,
)
from resource_server.guard import Answer, Guard
from resource_server.scope import PUBLIC, Scope

if TYPE_CHECKING:
    from resource_server.middleware import ResourceServer

__all__ = [
    "ResourceServer",
    "Scope",
    "PUBLIC",
    "AccessToken",
    "ClientCredentials",
    "TokenError",
    "assertion_from_file",
    "Config",
    "ConfigError",
    "Guard",
    "Answer",
    "AccessError",
    "MissingTokenError",
    "InvalidRequestError",
    "InvalidTokenError",
    "InsufficientScopeError",
    "UnavailableError",
    "CredentialsRefusedError",
]


def __getattr__(name: str) -> Any:
    # on demand: who uses the core or the client does not need Falcon
    if name == "ResourceServer":
        from resource_server.middleware import ResourceServer  # noqa: PLC0415 - see above

        return ResourceServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
