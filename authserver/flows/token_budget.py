"""Keep each client within its budget of tokens (see `oauth.token_budget`), in all processes together.

Who has none left is told so from memory, when it has authenticated; nothing is written for that either.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from authserver.oauth.client import Client
from authserver.oauth.errors import BudgetSpent
from authserver.oauth.token_budget import MINUTE, Share
from authserver.store.database import Unavailable
from authserver.store.issued_tokens import IssuedTokens

_log = logging.getLogger("authserver.budget")


class TokenBudget:
    """What this process knows of the present minute."""

    def __init__(self, issued_tokens: IssuedTokens, default: int) -> None:
        """Let clients without a budget of their own have `default` tokens a minute; 0: as many as they like."""
        self._issued_tokens, self._default = issued_tokens, default
        self._minute = 0
        self._shares: dict[int, Share] = {}
        self._lock = threading.Lock()

    @contextmanager
    def one_token(self, client: Client, now: int) -> Iterator[None]:
        """Count the token that is issued inside; what raises there issues none. Raises BudgetSpent."""
        budget = self._default if client.tokens_per_minute is None else client.tokens_per_minute
        if not budget:
            yield
            return
        with self._lock:
            # A request that took long belongs to the minute in which it is counted, not to one that is over.
            minute = max(now // MINUTE, self._minute)
            share = self._share(client.id, minute)
            if not share.take(budget):
                raise BudgetSpent((minute + 1) * MINUTE - now)
        try:
            yield
        except BaseException:
            with self._lock:
                share.give_back()
            raise
        self._report(client.id, minute, share, budget)

    def _share(self, client: int, minute: int) -> Share:
        if minute > self._minute:
            self._minute, self._shares = minute, {}
        return self._shares.setdefault(client, Share())

    def _report(self, client: int, minute: int, share: Share, budget: int) -> None:
        with self._lock:
            tokens = share.start_report(budget)
        if not tokens:
            return
        try:
            total = self._issued_tokens.add(client, minute, tokens)
        except Unavailable as error:
            # The token is issued; the next one tries again.
            _log.warning("issued tokens could not be counted: %s", error)
            with self._lock:
                share.report_failed(tokens)
            return
        with self._lock:
            share.learn(total)
