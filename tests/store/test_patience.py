"""When a thread waits for the database's answer with the watch, and when it passes it on first."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from authserver.store.patience import Patience


class Answers:
    """A statement's answer, which has come or comes never."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        self._poll = select.poll()
        self._poll.register(self._here, select.POLLIN)
        self.passed_on = 0
        self.patience = Patience(self._count)

    def _count(self) -> None:
        self.passed_on += 1

    def wait(self, *, prompt: bool, statement: str = "SELECT 1", times: int = 1) -> int:
        """Wait so often; how often the watch was passed on."""
        before = self.passed_on
        for _ in range(times):
            if prompt:
                self._there.send(b"1")
            self.patience.wait(statement, self._poll)
            if prompt:
                self._here.recv(1)
        return self.passed_on - before

    def close(self) -> None:
        self._here.close()
        self._there.close()


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.close()


def test_prompt_answers_are_waited_for(answers: Answers) -> None:
    assert answers.wait(prompt=True, times=100) == 0


def test_a_late_answer_passes_the_watch_on(answers: Answers) -> None:
    assert answers.wait(prompt=False) == 1


def test_a_late_answer_now_and_then_changes_nothing(answers: Answers) -> None:
    for _ in range(20):
        assert answers.wait(prompt=False) == 1
        assert answers.wait(prompt=True, times=4) == 0


def test_where_answers_are_late_the_watch_is_passed_on_at_once(answers: Answers) -> None:
    answers.wait(prompt=False, times=640)
    # It could be answered now, but is seldom asked any more.
    assert answers.wait(prompt=True, times=64) == 62


def test_what_is_prompt_again_is_waited_for_again(answers: Answers) -> None:
    answers.wait(prompt=False, times=640)
    answers.wait(prompt=True, times=32 * 16)
    assert answers.wait(prompt=True, times=100) == 0


def test_another_statement_is_judged_by_its_own_answers(answers: Answers) -> None:
    answers.wait(prompt=False, times=20)
    assert answers.wait(prompt=True, statement="SELECT 2", times=20) == 0
