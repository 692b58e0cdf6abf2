"""Which of a client's secrets may be dropped, and which need a successor: what the evidence of their use says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from authserver.oauth.client import ClientSecret

DAY = 86400
# A secret that nobody has used for so long is taken to be forgotten: longer than a weekend, and than most timers.
IDLE_AFTER = 7 * DAY
# Time enough to hand a successor out.
EXPIRES_SOON = 30 * DAY
# A use is noted once an hour: the last one may be this much later than what is noted.
PRECISION = 3600


@dataclass(frozen=True)
class SecretEvidence:
    """What is known of one secret."""

    secret: ClientSecret
    expired: bool
    expires_soon: bool
    safe_to_drop: bool

    @property
    def advice(self) -> str:
        """In a few words, for people; empty if there is nothing to do."""
        if self.expired:
            return "expired: safe to drop"
        if self.safe_to_drop:
            return "safe to drop: a newer one is in use"
        return "expires soon: add another one" if self.expires_soon else ""


def weigh(secrets: Sequence[ClientSecret], now: int) -> list[SecretEvidence]:
    """What is known of each of a client's secrets, which are given from the oldest to the newest."""
    return [
        SecretEvidence(
            secret=secret,
            expired=_has_expired(secret, now),
            expires_soon=not _has_expired(secret, now) and _has_expired(secret, now + EXPIRES_SOON),
            safe_to_drop=_has_expired(secret, now)
            or (_is_idle(secret, now) and any(_carries(newer, now) for newer in secrets[at + 1 :])),
        )
        for at, secret in enumerate(secrets)
    ]


def _has_expired(secret: ClientSecret, at: int) -> bool:
    return secret.expires_at is not None and secret.expires_at <= at


def _is_idle(secret: ClientSecret, now: int) -> bool:
    return max(secret.created_at, (secret.last_used_at or 0) + PRECISION) <= now - IDLE_AFTER


def _carries(secret: ClientSecret, now: int) -> bool:
    """Whether it is good and was used lately."""
    lately = secret.last_used_at is not None and secret.last_used_at > now - IDLE_AFTER
    return lately and not _has_expired(secret, now)
