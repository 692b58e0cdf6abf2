"""The rows of this authorization server."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from authserver.config import read_config
from authserver.dev.stack import RESOURCE, Server, Stack, free_port
from bench.catalog import CEILING, NAMES, PLAIN_GUNICORN
from bench.direct import Issuing, KeyParty, SecretParty
from bench.generators import Failed
from bench.loads import Load, get, post
from bench.rows import Contender, Row

Party = SecretParty | KeyParty
Make = Callable[[int], Sequence[bytes]]
_DIFFERENT = 500  # tokens that are introspected in turn


def ceiling(stack: Stack) -> Row:
    """Start the empty application under the same configuration."""
    url = f"http://127.0.0.1:{free_port()}"
    command = ["gunicorn", "-c", "python:authserver.gunicorn_conf", "--chdir", str(Path(__file__).parent.parent)]
    settings = stack.serving | {"AUTHSERVER_BIND": url.removeprefix("http://")}
    server = Server([*command, "bench.ceiling:empty_app()"], settings, stack.directory / "empty.log", url)
    stack.servers.append(server)
    server.wait_until_ready()
    empty = Contender("empty endpoint", server.process.pid)
    return Row(CEILING, NAMES[CEILING], empty, url, lambda _number: [get(f"{url}/")], lambda body: body == b"{}")


def plain_gunicorn(stack: Stack) -> Row:
    """Start the empty application under gunicorn's own threaded worker and log, with as many workers and threads."""
    url = f"http://127.0.0.1:{free_port()}"
    config = read_config(stack.serving)
    options = {
        "bind": url.removeprefix("http://"),
        "workers": config.workers,
        "threads": config.threads,
        "keep-alive": config.keepalive,
        "access-logfile": "-",
        "chdir": Path(__file__).parent.parent,
    }
    command = ["gunicorn", "--worker-class", "gthread", *(f"--{name}={value}" for name, value in options.items())]
    server = Server([*command, "bench.ceiling:empty_app()"], dict(stack.serving), stack.directory / "plain.log", url)
    stack.servers.append(server)
    server.wait_until_ready()
    contender = Contender("empty endpoint, gunicorn as it is", server.process.pid)
    return Row(
        PLAIN_GUNICORN,
        NAMES[PLAIN_GUNICORN],
        contender,
        url,
        lambda _number: [get(f"{url}/")],
        lambda body: body == b"{}",
    )


def rows(stack: Stack, issuing: Issuing) -> list[Row]:
    """Token, introspect and revoke: both token formats, both kinds of proof."""
    contender = Contender("authserver", stack.servers[0].process.pid, "postgres")
    found: list[Row] = []
    for token_format in ("opaque", "jwt"):
        for kind in ("secret", "key"):
            party = _register(stack, f"bench-{token_format}-{kind}", token_format, kind)
            of = _Endpoint(stack.issuer, contender, issuing, party, token_format)
            found += [
                of.token(f"token-{token_format}-{kind}"),
                of.introspect(f"introspect-{token_format}-active-{kind}", active=True),
                of.introspect(f"introspect-{token_format}-inactive-{kind}", active=False),
                of.revoke(f"revoke-{token_format}-{kind}"),
            ]
    return found


def _register(stack: Stack, client_id: str, token_format: str, kind: str) -> Party:
    options = ["--scope", "read", "--audience", RESOURCE, "--access-token-format", token_format]
    if kind == "secret":
        made = json.loads(stack.run("client", "create", client_id, *options))
        return SecretParty(client_id, made["client_secret"])
    party = KeyParty(client_id, stack.issuer)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(party.jwks(), file)
        file.flush()
        stack.run("client", "create", client_id, *options, "--jwks", file.name)
    return party


class _Endpoint:
    """The rows of one client."""

    def __init__(self, issuer: str, contender: Contender, issuing: Issuing, party: Party, token_format: str) -> None:
        self._issuer, self._contender, self._party = issuer, contender, party
        self._issue = issuing.jwt if token_format == "jwt" else issuing.opaque  # noqa: S105 - a format, no secret
        self._keyed = isinstance(party, KeyParty)

    def token(self, key: str) -> Row:
        url = f"{self._issuer}/oauth/token"

        def make(number: int) -> list[bytes]:
            number = number if self._keyed else 1
            return [
                post(url, {"grant_type": "client_credentials", "scope": "read", **self._party.proof()})
                for _ in range(number)
            ]

        return Row(
            key, NAMES[key], self._contender, url, make, lambda body: "access_token" in json.loads(body), self._keyed
        )

    def introspect(self, key: str, *, active: bool) -> Row:
        url = f"{self._issuer}/oauth/introspect"
        tokens: list[str] = []

        def make(number: int) -> list[bytes]:
            if not tokens:
                tokens.extend(self._issue(self._party.client_id, RESOURCE, _DIFFERENT, revoked=not active))
            return [
                post(url, {"token": tokens[at % _DIFFERENT], **self._party.proof()})
                for at in range(number if self._keyed else _DIFFERENT)
            ]

        def right(body: bytes) -> bool:
            return json.loads(body)["active"] is active

        return Row(key, NAMES[key], self._contender, url, make, right, self._keyed)

    def revoke(self, key: str) -> Row:
        url = f"{self._issuer}/oauth/revoke"
        made: dict[bytes, str] = {}

        def make(number: int) -> list[bytes]:
            made.clear()
            for token in self._issue(self._party.client_id, RESOURCE, number):
                made[post(url, {"token": token, **self._party.proof()})] = token
            return list(made)

        def afterwards(load: Load) -> None:
            # The first ones were sent: none of them may still be good.
            inspect = f"{self._issuer}/oauth/introspect"
            sent = [made[request] for request in load.requests[1:21]]
            asked = Load(inspect, [post(inspect, {"token": token, **self._party.proof()}) for token in sent])
            Row(key, NAMES[key], self._contender, inspect, lambda _: [], _is_inactive).check(asked)

        return Row(
            key, NAMES[key], self._contender, url, make, lambda body: body == b"{}", once=True, afterwards=afterwards
        )


def _is_inactive(body: bytes) -> bool:
    if json.loads(body) != {"active": False}:
        raise Failed("a token that was revoked is still active")
    return True
