"""What an operator does with commands is audited: on standard error, or in the file of AUTHSERVER_AUDIT_FILE."""

from __future__ import annotations

import getpass
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from authserver.observe.events import COMMON, EVENTS

KEY = urlsafe_b64encode(bytes(32)).decode().rstrip("=")


def read(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert tuple(event) == (*COMMON, *EVENTS[event["event"]])
        assert event["operator"] == getpass.getuser()
        assert event["request_id"] is event["trace_id"] is event["address"] is None
    return found


def test_every_command_that_changes_something_tells_so(run, tmp_path: Path, make_signer) -> None:
    file, jwks = tmp_path / "audit", tmp_path / "jwks"
    jwks.write_text(json.dumps(make_signer("ES256").jwks()))
    settings = {"AUTHSERVER_AUDIT_FILE": str(file), "AUTHSERVER_KEY_ENCRYPTION_KEY": KEY}
    secrets = []
    for line in (
        "client create a --scope read",
        "client secret add a --label next --expires 1h",
        "client secret remove a --label first",
        "client update a --name A",
        "client revoke-tokens a",
        "client create k --no-secret",
        f"client keys k --jwks {jwks}",
        f"issuer add https://cluster.example --name prod --audience x --jwks {jwks}",
        f"issuer keys prod --jwks {jwks}",
        "client bind k --issuer prod --subject s",
        "client unbind k --issuer prod --subject s",
        "issuer remove prod",
        "initial-access-token create onboarding --expires 12h",
        "initial-access-token remove onboarding",
        "maintain",
        "client delete a",
    ):
        done = run(*line.split(), **settings)
        assert done.stderr == ""
        secrets.append(done.stdout)
    kid = read(file.read_text())[-2]["kid"]
    run("keys", "revoke", kid, **settings)
    assert [event["event"] for event in read(file.read_text())] == [
        *("client.created", "secret.added", "secret.added", "secret.removed", "client.updated"),
        *("client.tokens_revoked", "client.created", "client.keys_replaced", "issuer.added", "issuer.keys_replaced"),
        *("client.bound", "client.unbound", "issuer.removed", "initial_access_token.created"),
        *("initial_access_token.removed", "key.added", "client.deleted", "key.revoked", "key.added"),
    ]
    made = [json.loads(each)["client_secret"] for each in secrets[:2]] + [secrets[12].strip()]
    assert not [secret for secret in made if secret[5:17] in file.read_text()]


def test_without_a_file_it_is_on_standard_error(run) -> None:
    done = run("client", "create", "a")
    assert [event["event"] for event in read(done.stderr)] == ["client.created", "secret.added"]
    assert json.loads(done.stdout)["client_id"] == "a"


def test_what_was_refused_is_not_told(run, tmp_path: Path) -> None:
    run("client", "delete", "nobody", status=1)
    run("client", "list")
    file = tmp_path / "audit"
    run("client", "delete", "nobody", status=1, AUTHSERVER_AUDIT_FILE=str(file))
    assert file.read_text() == ""
