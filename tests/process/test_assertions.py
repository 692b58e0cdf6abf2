"""Client assertions on several processes: each is good once, wherever and whenever it arrives."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
INITIAL_ACCESS_TOKEN = "initial-access-token-of-the-process-tests-0123456789"
ROUNDS, AT_ONCE = 20, 8


@pytest.fixture(scope="module")
def urls(start_gunicorn, serving_url):
    """Two servers of two workers each, on one database."""
    return [start_gunicorn(serving_url, WORKERS="2").url for _ in range(2)]


@pytest.fixture(scope="module")
def make_form(urls, make_signer):
    """Make a token request with a new assertion."""
    signer = make_signer()
    client_id = requests.post(
        f"{urls[0]}/clients/register",
        headers={"Authorization": f"Bearer {INITIAL_ACCESS_TOKEN}"},
        json={"scope": "read", "token_endpoint_auth_method": "private_key_jwt", "jwks": signer.jwks()},
        timeout=30,
    ).json()["client_id"]

    def make():
        claims = {"iss": client_id, "sub": client_id, "aud": "https://as.example", "exp": int(time.time()) + 60}
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": JWT_BEARER,
            "client_assertion": signer.sign(claims | {"jti": secrets.token_hex()}),
        }

    return make


def test_a5_of_those_that_arrive_at_once_at_several_processes_one_is_accepted(urls, make_form):
    barrier = threading.Barrier(AT_ONCE)

    def post(url, form):
        barrier.wait(30)
        return requests.post(f"{url}/oauth/token", form, timeout=30).status_code

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(ROUNDS):
            form = make_form()
            statuses = list(pool.map(post, itertools.islice(itertools.cycle(urls), AT_ONCE), [form] * AT_ONCE))
            # 429: these are many failures of one client from one address.
            assert statuses.count(200) == 1
            assert set(statuses) <= {200, 401, 429}
