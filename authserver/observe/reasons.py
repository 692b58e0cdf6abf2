"""Why authentication was refused, as a label: few and fixed, where the reasons in the log quote and vary."""

from __future__ import annotations

# The first text that the reason begins with decides.
REASONS = (
    ("unknown client", "unknown_client"),
    ("wrong secret", "wrong_secret"),
    ("expired secret", "expired_secret"),
    ("the client has no secret", "no_secret"),
    ("the client is registered for", "wrong_method"),
    ("no client credential in the request", "no_credential"),
    ("A bearer token is required.", "no_credential"),
    ("the Authorization header is not Basic", "malformed_credential"),
    ("malformed Basic credentials", "malformed_credential"),
    ("malformed bearer token", "malformed_credential"),
    ("malformed assertion", "malformed_credential"),
    ("no client assertion", "malformed_credential"),
    ("not an initial access token", "wrong_token"),
    ("not the registration access token", "wrong_token"),
    ("the assertion was used before", "replayed_assertion"),
    ("the assertion has expired", "expired_assertion"),
    ("the assertion's signature is wrong", "wrong_signature"),
    ("the assertion's iss, aud and subject are bound to no client", "not_bound"),
    ("the assertion", "wrong_assertion"),
    ("the client_id is not", "wrong_assertion"),
    ("the client has no key for", "no_key"),
    ("the trusted issuer has no key for", "no_key"),
    ("the client's keys could not be fetched", "keys_unavailable"),
    ("the trusted issuer's keys could not be fetched", "keys_unavailable"),
    ("the client's jwks", "keys_unusable"),
    ("the trusted issuer's key set", "keys_unusable"),
    ("throttled", "throttled"),
)


def reason_label(reason: str) -> str:
    """The label for a reason of the log; `other` for one that is not in the table."""
    return next((label for beginning, label in REASONS if reason.startswith(beginning)), "other")
