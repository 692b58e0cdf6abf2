"""T26 across processes: what two servers of two workers issue to one client in a minute stays within the bound."""

from __future__ import annotations

import time

from authserver.oauth.token_budget import report_after

BUDGET = 200
PROCESSES = 4


def test_t26_processes_share_a_budget(start_gunicorn, database_url, wait_until, load):
    servers = [start_gunicorn(database_url, WORKERS="2", TOKENS_PER_MINUTE=str(BUDGET)) for _ in range(2)]
    party = servers[0].register()
    parties = [party, type(party)(servers[1].url, party.client_id, party.secret)]
    # All within one minute: what there is to do takes seconds.
    wait_until(lambda: time.time() % 60 < 20, "the beginning of a minute", limit=60)
    minute = time.time() // 60

    def spend(party):
        def act(session) -> None:
            answer = party.token(session)
            load.count(str(answer.status_code))
            assert answer.status_code == 200 or 1 <= int(answer.headers["Retry-After"]) <= 60

        return act

    for each in parties:
        load.start(spend(each), threads=4)
    wait_until(lambda: load.counts.get("429", 0) > 4 * BUDGET, "every process refusing")
    load.end()
    assert time.time() // 60 == minute
    assert set(load.counts) == {"200", "429"}
    assert BUDGET <= load.counts["200"] <= BUDGET + PROCESSES * report_after(BUDGET)
