"""Signing keys rotate and are revoked under load, on several processes, and no request fails."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64decode

import jwt
import pytest
import requests

from authserver.flows.rotate import _make, maintain_keys, revoke_key, rotate
from authserver.flows.server import Policy, make_server
from authserver.oauth.key_encryption import read_key_encryption
from authserver.oauth.signing_keys import PUBLISH_AHEAD
from authserver.store.database import Database

RESOURCE = "https://b.example"
KEY = secrets.token_urlsafe(32)


@pytest.fixture
def operator(database_url):
    """The operator's side."""
    database = Database(database_url)
    yield make_server(Policy(issuer="", key_encryption=read_key_encryption(KEY)), database)
    database.close()


def header(token: str) -> dict[str, str]:
    part = token.partition(".")[0]
    decoded: dict[str, str] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def test_three_rotations_and_an_emergency_under_load(start_gunicorn, serving_url, operator, load, wait_until, database):
    rotate(operator, lambda _line: None)
    urls = [
        start_gunicorn(serving_url, WORKERS="2", THREADS="4", KEY_ENCRYPTION_KEY=KEY, REQUEST_TIMEOUT="30")
        for _ in range(2)
    ]
    party = urls[0].register(audiences=[RESOURCE], access_token_format="jwt")
    parties = [party, type(party)(urls[1].url, party.client_id, party.secret)]
    seen: dict[str, int] = {}

    def act(session: requests.Session) -> None:
        for here, there in (parties, parties[::-1]):
            answer = here.token(session)
            assert answer.status_code == 200, answer.text
            token = answer.json()["access_token"]
            kid = header(token)["kid"]
            assert time.time() >= signs_from.get(kid, 0)
            seen[kid] = seen.get(kid, 0) + 1
            found = there.introspect(token, session)
            # A key that was revoked in between takes its token along: that is its purpose.
            assert found.status_code == 200
            assert found.json()["active"] or kid in revoked, found.text
            document = session.get(f"{there.url}/.well-known/jwks.json", timeout=10).json()
            kids = {key["kid"] for key in document["keys"]}
            if kid in kids:
                key = jwt.PyJWKSet.from_dict(document)[kid]
                jwt.decode(token, key, algorithms=["ES256"], audience=RESOURCE)
            else:
                assert kid in revoked
        load.count("rounds")

    revoked: set[str] = set()
    signs_from: dict[str, int] = {}
    load.start(act, threads=4)
    wait_until(lambda: load.failures or load.counts.get("rounds", 0) > 20, "rounds before the first rotation")
    for _ in range(3):
        # Made as if almost PUBLISH_AHEAD ago: it may sign a second from now, and not before.
        now = operator.now()
        key = _make(operator, now + 1 - PUBLISH_AHEAD, now + 1)
        signs_from[key.kid] = key.signs_from
        operator.signing_keys.add(key)
        assert seen.get(key.kid) is None
        wait_until(lambda: load.failures or seen.get(key.kid, 0) > 20, "tokens by the next key")
    revoked.add(key.kid)
    substitute = revoke_key(operator, key.kid, lambda _line: None)
    wait_until(lambda: load.failures or seen.get(substitute, 0) > 20, "tokens by the substitute")
    load.end()
    assert len(seen) == 5
    for server in urls:
        assert '"critical"' not in server.logged()


def test_of_many_maintenance_runs_at_once_one_makes_the_key(database_url, load):
    made: list[str] = []

    def act(_session: requests.Session) -> None:
        database = Database(database_url, patient=True)
        policy = Policy(issuer="", key_encryption=read_key_encryption(KEY))
        maintain_keys(make_server(policy, database), 30 * 86400, made.append)
        database.close()
        load.count("runs")
        load.stopped.set()

    load.start(act, threads=6)
    load.end()
    assert load.counts["runs"] >= 6
    assert len([line for line in made if line.startswith("made signing key")]) == 1
