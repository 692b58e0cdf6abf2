"""The volume of tokens that a client may be issued in a minute, shared by processes that seldom talk to each other.

Each process counts for itself. Whenever it has issued a twentieth of the budget since it last did so, it adds that to
the sum of all processes and learns the sum. So a client that gets its tokens and keeps them is never written about, and
what all processes together issue in a minute is at most the budget and a twentieth of it for each process.
"""

from __future__ import annotations

from dataclasses import dataclass

REPORTS = 20
MINUTE = 60


def report_after(budget: int) -> int:
    """After how many tokens a process reports: a twentieth of the budget, and at least one."""
    return max(1, budget // REPORTS)


@dataclass
class Share:
    """What one process knows of one client's minute."""

    # The sum of all processes when this one last learnt it, and what it has issued since.
    known: int = 0
    unreported: int = 0

    def take(self, budget: int) -> bool:
        """Count one token, if there is one left as far as this process knows."""
        if self.known + self.unreported >= budget:
            return False
        self.unreported += 1
        return True

    def give_back(self) -> None:
        """Count one less: the token was not issued after all."""
        self.unreported -= 1

    def start_report(self, budget: int) -> int:
        """How many tokens are to be added to the sum now; 0: none yet. They count as reported from now on."""
        if self.unreported < report_after(budget):
            return 0
        tokens, self.unreported = self.unreported, 0
        self.known += tokens
        return tokens

    def learn(self, total: int) -> None:
        """Take note of the sum. Two answers may come in the wrong order: it only grows."""
        self.known = max(self.known, total)

    def report_failed(self, tokens: int) -> None:
        """Nothing was added: they are still to be reported."""
        self.known -= tokens
        self.unreported += tokens
