"""T26 across processes: what two servers of two workers issue to one client in a minute stays within the bound."""

from __future__ import annotations

import time

from authserver.oauth.token_budget import MINUTE, report_after

BUDGET = 200
PROCESSES = 4


def test_t26_processes_share_a_budget(start_gunicorn, database_url, serving_url, wait_until, load):
    servers = [start_gunicorn(serving_url, WORKERS="2", TOKENS_PER_MINUTE=str(BUDGET)) for _ in range(2)]

    def spend(party):
        def act(session) -> None:
            answer = party.token(session)
            load.count(f"{answer.status_code} of {party.client_id}")
            assert answer.status_code == 200 or 1 <= int(answer.headers["Retry-After"]) <= MINUTE

        return act

    # Where a minute ends in between, once more, with another client, in the one that has just begun.
    for _ in range(2):
        minute = time.time() // MINUTE
        party = servers[0].register()
        refused, issued = (f"{status} of {party.client_id}" for status in (429, 200))
        for server in servers:
            load.start(spend(type(party)(server.url, party.client_id, party.secret)), threads=4)
        wait_until(lambda refused=refused: load.counts.get(refused, 0) > 2 * BUDGET, "being refused")
        load.end()
        load.stopped.clear()
        if time.time() // MINUTE == minute:
            break
    assert set(load.counts) >= {refused, issued}
    assert BUDGET <= load.counts[issued] <= BUDGET + PROCESSES * report_after(BUDGET)
