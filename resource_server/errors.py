"""What can go wrong with a request, as exceptions that know their HTTP answer.

A client gets `error` and one fixed `description`; the exception's own text is the truth and goes to the log.
Neither ever holds a token or a secret.
"""

from collections.abc import Iterable
from typing import ClassVar


class ConfigError(Exception):
    """A setting or a declaration is wrong; the text is one line that names it. Stops the start."""


class AccessError(Exception):
    """A request that gets no access.

    `status` is the HTTP status; `error` the code for the challenge and the body; `description` one sentence
    of %x20-21 / %x23-5B / %x5D-7E (RFC 6750 §3); `str(error)` the reason, for the log.
    """

    status: ClassVar[int]
    error: ClassVar[str]
    description: ClassVar[str]


class MissingTokenError(AccessError):
    """The request carries no Bearer token (RFC 6750 §3.1: its challenge has no `error`)."""

    status = 401
    error = "unauthorized"
    description = "This resource needs an access token."


class InvalidRequestError(AccessError):
    """The token is sent in a malformed way or in more than one way (RFC 6750 §3.1)."""

    status = 400
    error = "invalid_request"
    description = "Send one access token, as Authorization: Bearer."


class InvalidTokenError(AccessError):
    """The token is malformed, unknown, expired, revoked or meant for another resource (RFC 6750 §3.1)."""

    status = 401
    error = "invalid_token"
    description = "The access token is not valid for this resource."


class InsufficientScopeError(AccessError):
    """The token is good, its scope is not enough; `scopes` is what the request needs (RFC 6750 §3.1)."""

    status = 403
    error = "insufficient_scope"
    description = "The access token does not carry the scope this request needs."

    def __init__(self, scopes: Iterable[str]) -> None:
        self.scopes = frozenset(scopes)
        super().__init__(f"needs scope {' '.join(sorted(self.scopes))}")


class UnavailableError(AccessError):
    """Whether the token is good cannot be found out now; try again after `retry_after` seconds."""

    status = 503
    error = "temporarily_unavailable"
    description = "The access token cannot be checked at the moment."

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(reason)


class CredentialsRefusedError(UnavailableError):
    """The authorization server refuses this server's own credentials: an operator has to act."""
