"""What a request can be refused for: the error codes of RFC 6749 §5.2, RFC 8707 §2, RFC 7591 §3.2.2 and RFC 6750 §3.1.

A description is a sentence for the client's developer. The true reason, where it must not be told, goes into
`reason` and from there to the log only.
"""

from __future__ import annotations


class OAuthError(Exception):
    """A refusal. `code` and `description` go to the client, `reason` to the log."""

    code = "invalid_request"
    status = 400

    def __init__(self, description: str, *, reason: str | None = None) -> None:
        super().__init__(reason or description)
        self.description = description
        self.reason = reason or description


class InvalidRequest(OAuthError):
    """A parameter is missing, repeated or malformed (RFC 6749 §5.2)."""


class RequestTooLarge(InvalidRequest):
    """More than this server reads (RFC 9110 §15.5.14)."""

    status = 413


class InvalidClient(OAuthError):
    """Client authentication failed (RFC 6749 §5.2): one text for every cause."""

    code = "invalid_client"
    status = 401

    def __init__(self, reason: str) -> None:
        super().__init__("Client authentication failed.", reason=reason)


class TooManyRequests(OAuthError):
    """The client has to wait (RFC 6585 §4). `retry_after` is in seconds."""

    code = "temporarily_unavailable"
    status = 429

    def __init__(self, retry_after: int, description: str, *, reason: str) -> None:
        super().__init__(description, reason=reason)
        self.retry_after = retry_after


class Throttled(TooManyRequests):
    """Authentication failed too often (RFC 6749 §2.3.1)."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after, "Authentication failed too often. Try again later.", reason="throttled")


class BudgetSpent(TooManyRequests):
    """The client was issued as many tokens in this minute as it may have."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            retry_after,
            "Too many access tokens were requested. Use each one until it expires.",
            reason="the client's tokens per minute are spent",
        )


class UnauthorizedClient(OAuthError):
    """The client may not use this grant (RFC 6749 §5.2)."""

    code = "unauthorized_client"


class UnsupportedGrantType(OAuthError):
    """The server does not know this grant (RFC 6749 §5.2)."""

    code = "unsupported_grant_type"


class InvalidScope(OAuthError):
    """The scope is malformed or beyond what the client may have (RFC 6749 §5.2)."""

    code = "invalid_scope"


class InvalidTarget(OAuthError):
    """The resource is malformed or not registered for the client (RFC 8707 §2)."""

    code = "invalid_target"


class InvalidClientMetadata(OAuthError):
    """A registration cannot be accepted as it stands (RFC 7591 §3.2.2)."""

    code = "invalid_client_metadata"


class PermissionMissing(OAuthError):
    """The client is known, but an operator has not given it what this takes."""

    code = "unauthorized_client"
    status = 403


class CursorGone(OAuthError):
    """The follower cannot go on from its cursor (RFC 9110 §15.5.11): it must forget what it has cached."""

    code = "cursor_gone"
    status = 410

    def __init__(self, reason: str) -> None:
        super().__init__("The cursor is of no use any more. Forget what was cached and start anew.", reason=reason)


class MissingToken(OAuthError):
    """No bearer token where one is needed (RFC 6750 §3.1: the challenge then carries no error code)."""

    code = "invalid_token"
    status = 401

    def __init__(self) -> None:
        super().__init__("A bearer token is required.")


class InvalidToken(OAuthError):
    """The bearer token is not good here (RFC 6750 §3.1)."""

    code = "invalid_token"
    status = 401

    def __init__(self, reason: str) -> None:
        super().__init__("The token is invalid.", reason=reason)
