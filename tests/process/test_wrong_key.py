"""A server that cannot decrypt the signing key: it says so, does all else, and takes no good server's place."""

from __future__ import annotations

import secrets

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from authserver.app import make_configured_server
from authserver.config import read_config
from authserver.dev.stack import free_port
from authserver.flows.rotate import maintain_keys

RESOURCE = "https://b.example"
PATIENCE = 30.0  # seconds; a limit, never a pace
RIGHT, OTHER = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
METRIC = "authserver_signing_keys_undecryptable"


@pytest.fixture
def maintain(database_url):
    """Keep the signing keys, with the keys that are given."""

    def run(keys):
        settings = {"DATABASE_URL": database_url, "ISSUER": "https://as.example", "KEY_ENCRYPTION_KEY": keys}
        server = make_configured_server(read_config({f"AUTHSERVER_{name}": text for name, text in settings.items()}))
        maintain_keys(server, 0, lambda _line: None)
        server.database.close()

    return run


@pytest.fixture
def start(start_gunicorn, serving_url):
    """Start a server with metrics; gives it, and where they are."""

    def run(**settings):
        address = f"127.0.0.1:{free_port()}"
        return start_gunicorn(serving_url, METRICS_BIND=address, **settings), f"http://{address}/metrics"

    return run


def undecryptable(url):
    families = text_string_to_metric_families(requests.get(url, timeout=PATIENCE).text)
    values = [sample.value for family in families for sample in family.samples if sample.name == METRIC]
    return values[0] if values else None


def ready(server):
    return requests.get(f"{server.url}/ready", timeout=PATIENCE)


def at(party, server):
    return type(party)(server.url, party.client_id, party.secret)


def check_all_but_signing(server, opaque, jwt, token):
    """What needs no private key works: opaque tokens, and the truth about JWTs."""
    issued = at(opaque, server).token()
    assert issued.status_code == 200
    assert at(opaque, server).introspect(issued.json()["access_token"]).json()["active"] is True
    assert at(jwt, server).introspect(token).json()["active"] is True
    refused = at(jwt, server).token()
    assert (refused.status_code, refused.json()["error"]) == (503, "temporarily_unavailable")


@pytest.fixture
def installation(start, maintain):
    """A good server, and a client of each format."""
    maintain(RIGHT)
    good, metrics = start(KEY_ENCRYPTION_KEY=RIGHT)
    opaque, jwt = (good.register(audiences=[RESOURCE], access_token_format=each) for each in ("opaque", "jwt"))
    return good, metrics, opaque, jwt


@pytest.mark.parametrize("settings", [{"KEY_ENCRYPTION_KEY": OTHER}, {}], ids=["wrong", "missing"])
def test_a_server_that_begins_without_the_key_is_not_ready_and_says_why(installation, start, wait_until, settings):
    good, good_metrics, opaque, jwt = installation
    token = jwt.token().json()["access_token"]
    bad, bad_metrics = start(ready=False, **settings)
    wait_until(lambda: "cannot be decrypted here, /ready is 503" in bad.logged(), "the report")
    answer = ready(bad)
    assert answer.status_code == 503
    assert "signing key" in answer.json()["reason"]
    assert (undecryptable(good_metrics), undecryptable(bad_metrics)) == (0, 1)
    # Were it asked all the same, nothing would be answered wrongly.
    check_all_but_signing(bad, opaque, jwt, token)
    assert jwt.revoke(token).status_code == 200
    assert at(jwt, bad).introspect(token).json() == {"active": False}
    assert ready(good).status_code == 200


def test_a_server_that_loses_the_key_says_so_and_serves_on(installation, start, maintain, wait_until):
    good, metrics, opaque, jwt = installation
    token = jwt.token().json()["access_token"]
    assert undecryptable(metrics) == 0
    # Somebody changed the encryption key, and not yet for the servers.
    maintain(f"{OTHER} {RIGHT}")
    check_all_but_signing(good, opaque, jwt, token)
    assert ready(good).status_code == 200
    wait_until(lambda: undecryptable(metrics) == 1, "the metric, which follows within ten seconds")
    successor, _ = start(KEY_ENCRYPTION_KEY=f"{OTHER} {RIGHT}")
    assert at(jwt, successor).token().status_code == 200


def test_without_signing_keys_nothing_is_missing(start, database_url):
    server, metrics = start()
    assert ready(server).status_code == 200
    assert undecryptable(metrics) == 0
