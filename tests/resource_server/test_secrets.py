"""S14: neither token nor secret in a log, a repr, an exception or a traceback."""

import base64
import logging
import traceback

import pytest
import requests

from resource_server import AccessError, ClientCredentials, Guard, TokenError

TOKEN, SECRET = "tok-5d1f0a77", "sec-c3b09e42"
CANARIES = (TOKEN, SECRET, base64.b64encode(f"resource+server:{SECRET}".encode()).decode())


def failures(error):
    while error:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("outcome", ["good", "inactive", "nonsense", "hangs up", "silent", "refused", "scope"])
def test_s14_no_canary_anywhere(make_config, upstream, answers, refused_url, caplog, outcome):
    caplog.set_level(logging.DEBUG)
    behaviours = {
        "nonsense": answers.with_(200, TOKEN.encode()),
        "hangs up": answers.hang_up(),
        "silent": answers.hang(upstream),
    }
    upstream.behaviour = behaviours.get(outcome)
    if outcome in {"good", "scope"}:
        upstream.knows(TOKEN, scope="read" if outcome == "good" else "")
    url = refused_url if outcome == "refused" else upstream.url
    config = make_config(introspect_url=url, client_secret=SECRET, cache_ttl=30, deadline=0.3)
    guard, seen, chain = Guard.from_config(config), [repr(config)], []
    try:
        token = guard.check(f"Bearer {TOKEN}")
        seen.append(repr((token, dict(token.claims))))
    except AccessError as error:
        chain = list(failures(error))
        seen += ["".join(traceback.format_exception(error)), guard.answer(error).body]
    # nothing of requests may hang on it: its exceptions hold the request with body and Authorization
    assert all(isinstance(each, AccessError) for each in chain)
    memory = guard._verify._memory()
    seen += [repr(memory.cache._active), repr(memory.cache._inactive), repr(guard._verify._inner._endpoint)]
    assert caplog.records or outcome == "good"
    assert not [canary for canary in CANARIES if canary in caplog.text + "".join(seen)]


def test_s14_the_client_keeps_its_secrets_too(upstream, answers, refused_url, caplog):
    caplog.set_level(logging.DEBUG)
    upstream.behaviours = [answers.with_(200, {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 60})]
    auth = ClientCredentials(f"{upstream.url}/token", "id", SECRET)
    with requests.Session() as session:
        session.get(upstream.url, auth=auth, timeout=30)
        with pytest.raises(TokenError) as caught:
            session.get(upstream.url, auth=ClientCredentials(refused_url, "id", SECRET), timeout=30)
    auth.close()
    seen = repr(auth) + repr(auth._holder().grant) + "".join(traceback.format_exception(caught.value))
    assert not [canary for canary in CANARIES if canary in caplog.text + seen]
