"""The counting rule: what all processes together issue in a minute, whatever the order in which they get to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from authserver.oauth.token_budget import REPORTS, Share, report_after


class Minute:
    """The sum that processes share, and how often it was written to."""

    def __init__(self, processes: int, budget: int) -> None:
        self.shares = [Share() for _ in range(processes)]
        self.budget, self.total, self.issued, self.reports = budget, 0, 0, 0

    def request(self, process: int, *, fails: bool = False, database_away: bool = False) -> bool:
        share = self.shares[process]
        if not share.take(self.budget):
            return False
        if fails:
            share.give_back()
            return False
        self.issued += 1
        if tokens := share.start_report(self.budget):
            self.reports += 1
            if database_away:
                share.report_failed(tokens)
            else:
                self.total += tokens
                share.learn(self.total)
        return True


BUDGETS = st.integers(1, 300)


@given(BUDGETS, st.lists(st.integers(0, 5), max_size=1500))
def test_all_together_stay_within_the_budget_and_a_report_of_each(budget, order):
    minute = Minute(6, budget)
    for process in order:
        minute.request(process)
    assert minute.issued <= budget + 6 * report_after(budget)
    assert minute.reports <= minute.issued / report_after(budget)
    assert minute.reports <= REPORTS * 2 + 6 or budget < REPORTS


@given(BUDGETS)
def test_the_bound_holds_at_the_worst(budget):
    minute = Minute(8, budget)
    while sum(minute.request(process) for process in range(8)):
        pass
    assert budget <= minute.issued <= budget + 8 * report_after(budget)


@given(BUDGETS, st.lists(st.booleans(), max_size=600))
def test_one_process_issues_exactly_the_budget(budget, failures):
    minute = Minute(1, budget)
    for fails in failures:
        minute.request(0, fails=fails)
    while minute.request(0):
        pass
    assert minute.issued == budget


@given(BUDGETS.filter(lambda budget: budget >= REPORTS), st.data())
def test_below_a_twentieth_nothing_is_written(budget, data):
    minute = Minute(1, budget)
    for _ in range(data.draw(st.integers(0, report_after(budget) - 1))):
        assert minute.request(0)
    assert minute.reports == 0


@given(BUDGETS, st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=900))
def test_while_nothing_can_be_reported_each_process_keeps_to_the_budget(budget, order):
    minute = Minute(4, budget)
    for process, away in order:
        minute.request(process, database_away=away)
    assert minute.issued <= 4 * budget
