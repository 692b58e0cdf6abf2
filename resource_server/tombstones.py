"""What is known to be revoked: tokens by hash, clients up to a time, keys. Remembered until it has expired anyway."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from resource_server.access_token import AccessToken

# The feed names a token by the first 16 bytes of its SHA-256.
HASH_LENGTH: Final = 16
# Seconds that a tombstone stays after its token's expiry: more than the clock skew that can be forgiven.
_GRACE: Final = 120.0


class FullError(Exception):
    """There is no room for another tombstone, and none may be given up for it."""


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """One token is revoked; `exp` is when it would have expired."""

    hash: bytes
    exp: int


@dataclass(frozen=True, slots=True)
class ClientRevoked:
    """All tokens of a client that were issued before a time; `exp` is when the last of them would have expired."""

    client_id: str
    issued_before: int
    exp: int


@dataclass(frozen=True, slots=True)
class KeyRevoked:
    """All tokens that a key has signed."""

    kid: str
    exp: int


Event = TokenRevoked | ClientRevoked | KeyRevoked


class _Until(NamedTuple):
    issued_before: int
    exp: int


class Tombstones:
    """At most `size` tombstones. One thread writes while others read."""

    def __init__(self, size: int = 250_000) -> None:
        self._size = size
        self._tokens: dict[bytes, int] = {}
        self._clients: dict[str, _Until] = {}
        self._keys: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tokens) + len(self._clients) + len(self._keys)

    def add(self, event: Event, now: float) -> None:
        """Remember `event`, as often as it is told; `now` is the time of day. Raises `FullError`."""
        if now >= event.exp + _GRACE:
            return
        if len(self) >= self._size and not self._knows(event):
            raise FullError
        match event:
            case TokenRevoked(token_hash, exp):
                self._tokens[token_hash] = max(exp, self._tokens.get(token_hash, exp))
            case KeyRevoked(kid, exp):
                self._keys[kid] = max(exp, self._keys.get(kid, exp))
            case ClientRevoked(client_id, issued_before, exp):
                before = self._clients.get(client_id, _Until(issued_before, exp))
                latest = _Until(max(issued_before, before.issued_before), max(exp, before.exp))
                self._clients[client_id] = latest

    def cover(self, digest: bytes, token: AccessToken) -> bool:
        """Tell whether a token is revoked; `digest` is the SHA-256 of it."""
        if digest[:HASH_LENGTH] in self._tokens or token.key_id in self._keys:
            return True
        until = self._clients.get(token.client_id or "")
        # a token that does not say when it was issued may be an old one
        return until is not None and (token.issued_at is None or token.issued_at < until.issued_before)

    def purge(self, now: float) -> None:
        """Forget what has expired at `now`, the time of day."""
        gone = now - _GRACE
        for token_hash in [each for each, exp in self._tokens.items() if exp <= gone]:
            del self._tokens[token_hash]
        for client_id in [each for each, until in self._clients.items() if until.exp <= gone]:
            del self._clients[client_id]
        for kid in [each for each, exp in self._keys.items() if exp <= gone]:
            del self._keys[kid]

    def _knows(self, event: Event) -> bool:
        match event:
            case TokenRevoked(token_hash, _):
                return token_hash in self._tokens
            case KeyRevoked(kid, _):
                return kid in self._keys
            case ClientRevoked(client_id, _, _):
                return client_id in self._clients
