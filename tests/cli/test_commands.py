"""The command line, as an operator runs it: real processes."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webtest

from authserver.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]


def get_token(app: webtest.TestApp, made: dict[str, str], status: int = 200, **parameters: str) -> Any:
    form = {
        "grant_type": "client_credentials",
        "client_id": made["client_id"],
        "client_secret": made["client_secret"],
        **parameters,
    }
    return app.post("/oauth/token", form, status=status).json


def test_a_client_from_creation_to_deletion(run: Run, app: webtest.TestApp) -> None:
    made = json.loads(run("client", "create", "billing", "--scope", "read write", "--default-scope", "read").stdout)
    assert get_token(app, made)["scope"] == "read"

    second = json.loads(run("client", "secret", "add", "billing", "--label", "next", "--expires", "1h").stdout)
    assert get_token(app, second)["scope"] == "read"
    run("client", "secret", "remove", "billing", "--label", "first", "--yes")
    assert get_token(app, made, status=401)["error"] == "invalid_client"
    assert get_token(app, second)["scope"] == "read"

    shown = run("client", "show", "billing").stdout
    assert [secret["label"] for secret in json.loads(shown)["secrets"]] == ["next"]
    assert second["client_secret"] not in shown
    assert "billing" in run("client", "list").stdout

    run("client", "delete", "billing", "--yes")
    assert get_token(app, second, status=401)["error"] == "invalid_client"
    assert "billing" not in run("client", "list").stdout


def test_a_client_with_keys_from_creation_to_rotation(
    run: Run, app: webtest.TestApp, make_signer: Any, tmp_path: Path
) -> None:
    old, new = make_signer("ES256"), make_signer("EdDSA", kid="k2")
    for name, signer in (("old", old), ("new", new)):
        (tmp_path / name).write_text(json.dumps(signer.jwks()))
    made = json.loads(run("client", "create", "keyed", "--scope", "read", "--jwks", str(tmp_path / "old")).stdout)
    assert made == {"client_id": "keyed"}

    def token(signer: Any, status: int) -> None:
        claims = {"iss": "keyed", "sub": "keyed", "aud": "https://as.example", "exp": int(time.time()) + 60}
        assertion = signer.sign(claims | {"jti": secrets.token_hex()})
        form = {"grant_type": "client_credentials", "client_assertion": assertion}
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        app.post("/oauth/token", form | {"client_assertion_type": kind}, status=status)

    token(old, 200)
    says = run("client", "secret", "add", "keyed", "--label", "x", status=1).stderr
    assert "registered for private_key_jwt" in says
    run("client", "keys", "keyed", "--jwks", str(tmp_path / "new"), "--signing-alg", "EdDSA")
    token(old, 401)
    token(new, 200)
    assert json.loads(run("client", "show", "keyed").stdout)["jwks"] == new.jwks()
    run("client", "keys", "keyed", "--jwks-uri", "https://keys.example/jwks")
    assert json.loads(run("client", "show", "keyed").stdout)["jwks_uri"] == "https://keys.example/jwks"

    # From a secret to keys: the secret ends.
    with_secret = json.loads(run("client", "create", "other", "--scope", "read").stdout)
    run("client", "keys", "other", "--jwks", str(tmp_path / "new"))
    get_token(app, with_secret, status=401)
    assert json.loads(run("client", "show", "other").stdout)["secrets"] == []


def test_keys_that_cannot_be_used_are_refused(run: Run, make_signer: Any, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_text(json.dumps({"keys": [make_signer().key.as_dict(private=True)]}))
    broken = tmp_path / "broken"
    broken.write_text("{")
    for arguments, says in (
        (("--jwks", str(private)), "private or a symmetric key"),
        (("--jwks", str(broken)), "cannot be read as JSON"),
        (("--jwks", str(tmp_path / "none")), "none cannot be read: No such file or directory\n"),
        (("--jwks-uri", "http://keys.example/"), "not an https URL"),
    ):
        assert says in run("client", "create", "a", *arguments, status=1).stderr
        assert says in run("client", "keys", "nobody", *arguments, status=1).stderr
    assert "no client 'nobody'" in run("client", "keys", "nobody", "--jwks-uri", "https://a.example/", status=1).stderr


def test_an_issuer_from_declaration_to_removal(
    run: Run, app: webtest.TestApp, make_signer: Any, site: Any, tmp_path: Path
) -> None:
    old, new = make_signer("RS256"), make_signer("ES256", kid="k2")
    for name, signer in (("old", old), ("new", new)):
        (tmp_path / name).write_text(json.dumps(signer.jwks()))
    iss, audience = "https://kubernetes.default.svc.cluster.local", "https://as.example"
    made = run("client", "create", "pod", "--scope", "read", "--no-secret").stdout
    assert json.loads(made) == {"client_id": "pod"}
    run("issuer", "add", iss, "--name", "prod", "--audience", audience, "--jwks", str(tmp_path / "old"))

    def token(signer: Any, status: int, name: str = "pod") -> None:
        claims = {"iss": iss, "sub": f"system:serviceaccount:shop:{name}", "aud": [audience]}
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assertion = signer.sign(claims | {"exp": int(time.time()) + 600})
        form = {"grant_type": "client_credentials", "client_assertion": assertion, "client_assertion_type": kind}
        app.post("/oauth/token", form, status=status)

    whom = ("pod", "--issuer", "prod", "--service-account", "shop/pod")
    token(old, 401)
    run("client", "bind", *whom)
    token(old, 200)
    token(old, 401, name="other")
    assert "bound already" in run("client", "bind", *whom, status=1).stderr
    subject = {"issuer": "prod", "subject": "system:serviceaccount:shop:pod"}
    assert json.loads(run("client", "show", "pod").stdout)["bindings"] == [subject]
    run("issuer", "keys", "prod", "--jwks", str(tmp_path / "new"))
    token(old, 401)
    token(new, 200)
    shown = json.loads(run("issuer", "show", "prod").stdout)
    assert shown["jwks"] == new.jwks()
    assert shown["bindings"] == [{"subject": "system:serviceaccount:shop:pod", "client_id": "pod"}]
    assert re.search(r"k2 +ES256", run("issuer", "check", "prod").stdout)
    assert re.search(rf"prod +{iss} +{audience} +given", run("issuer", "list").stdout)
    run("client", "unbind", "pod", "--issuer", "prod", "--subject", "system:serviceaccount:shop:pod")
    token(new, 401)
    assert "is not bound to 'pod'" in run("client", "unbind", *whom, status=1).stderr
    run("client", "bind", *whom)
    run("issuer", "remove", "prod", "--yes")
    token(new, 401)
    assert json.loads(run("client", "show", "pod").stdout)["bindings"] == []

    # By discovery.
    allowed = {"AUTHSERVER_JWKS_ALLOW_HTTP": "yes", "AUTHSERVER_JWKS_ALLOWED_NETWORKS": "127.0.0.1/32"}
    site.pages |= {
        "/.well-known/openid-configuration": {"issuer": site.url, "jwks_uri": f"{site.url}/keys"},
        "/keys": old.jwks(),
    }
    run("issuer", "add", site.url, "--name", "found", "--audience", audience, "--alg", "RS256", **allowed)
    assert re.search(r"k1 +RS256 PS256", run("issuer", "check", "found", **allowed).stdout)
    assert "not an https URL" in run("issuer", "check", "found", status=1).stderr
    site.pages.clear()
    assert "answered 404" in run("issuer", "check", "found", status=1, **allowed).stderr


def test_an_issuer_or_a_binding_that_cannot_be_is_refused(run: Run, make_signer: Any, tmp_path: Path) -> None:
    keys, symmetric = tmp_path / "keys", tmp_path / "symmetric"
    keys.write_text(json.dumps(make_signer("ES256").jwks()))
    symmetric.write_text('{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    add = ("issuer", "add", "https://a.example", "--audience", "x", "--name")
    run(*add, "a")
    run("client", "create", "c", "--no-secret")
    for arguments, says in (
        ((*add, "a"), "already"),
        ((*add, "b"), "already"),
        ((*add, "A b"), "a name is"),
        ((*add, "b", "--jwks", str(symmetric)), "private or a symmetric key"),
        ((*add, "b", "--jwks", str(keys), "--alg", "RS256"), "no key for the algorithms"),
        ((*add, "b", "--jwks", str(tmp_path / "none")), "none cannot be read: No such file or directory\n"),
        ((*add, "b", "--subject-claim", ""), "a claim's name"),
        (("issuer", "add", "http://a.example", "--name", "b", "--audience", "x"), "give them with --jwks"),
        (("issuer", "add", "prod", "--name", "b", "--audience", "x"), "give them with --jwks"),
        (("issuer", "add", "https://a.example", "--name", "b", "--audience", ""), "printable ASCII"),
        (("issuer", "show", "none"), "no issuer 'none'"),
        (("issuer", "check", "none"), "no issuer 'none'"),
        (("issuer", "remove", "none"), "no issuer 'none'"),
        (("issuer", "keys", "a", "--jwks", str(keys)), "that was added with --jwks"),
        (("issuer", "keys", "none", "--jwks", str(keys)), "that was added with --jwks"),
        (("client", "bind", "c", "--issuer", "none", "--subject", "x"), "no issuer 'none'"),
        (("client", "bind", "nobody", "--issuer", "a", "--subject", "x"), "no client 'nobody'"),
        (("client", "bind", "c", "--issuer", "a", "--subject", ""), "printable ASCII"),
        (("client", "bind", "c", "--issuer", "a", "--service-account", "shop"), "is not NAMESPACE/NAME"),
        (("client", "bind", "c", "--issuer", "a", "--service-account", "shop/a:b"), "is not NAMESPACE/NAME"),
        (("client", "bind", "c", "--issuer", "a", "--service-account", "shop/default"), "default service account"),
        (("client", "bind", "c", "--issuer", "a", "--subject", "system:serviceaccount:s:default"), "default service"),
    ):
        assert says in run(*arguments, status=1).stderr, arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("client", "show", "nobody"), "no client 'nobody'"),
        (("client", "delete", "nobody"), "no client 'nobody'"),
        (("client", "secret", "add", "nobody", "--label", "x"), "no client 'nobody'"),
        (("client", "secret", "remove", "nobody", "--label", "x"), "no client 'nobody'"),
        (("client", "update", "nobody", "--name", "x"), "no client 'nobody'"),
        (("client", "create", "a", "--scope", 'a"b'), "scope is malformed"),
        (("client", "create", "a", "--resource", "not a uri"), "--resource: 'not a uri' is not an absolute URI"),
        (("client", "create", "a", "--audience", "https://b.example#x"), "--audience: 'https://b.example#x' is not"),
        (("client", "create", "a", "--name", "x" * 201), "client_name must be 1 to 200 printable"),
        (("client", "create", "a", "--scope", "x", "--default-scope", "y"), "beyond scope"),
        (("client", "create", "ä"), "client_id"),
        (("client", "create", "a", "--access-token-lifetime", "2d"), "--access-token-lifetime: '2d' is more than 24h"),
        (("client", "create", "a", "--token-lifetime", "soon"), "--access-token-lifetime: 'soon' is not a duration"),
        (("client", "secret", "add", "nobody", "--label", ""), "label must be 1 to 100 printable characters"),
        (("client", "secret", "add", "nobody", "--label", "x" * 101), "label must be 1 to 100 printable"),
        (("client", "secret", "add", "nobody", "--label", "a\tb"), "label must be 1 to 100 printable"),
        (("initial-access-token", "create", ""), "label must be 1 to 100 printable characters"),
        (("initial-access-token", "create", "x" * 101), "label must be 1 to 100 printable characters"),
        (("initial-access-token", "create", "a\x1b[1m"), "label must be 1 to 100 printable characters"),
        (("initial-access-token", "remove", "x"), "no token labelled 'x'"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, arguments: tuple[str, ...], says: str) -> None:
    assert says in run(*arguments, status=1).stderr


def test_what_exists_is_not_made_twice(run: Run) -> None:
    run("client", "create", "a", "--resource", "https://a.example")
    assert "a client 'a' already" in run("client", "create", "a", status=1).stderr
    assert "--share-resource" in run("client", "create", "b", "--resource", "https://a.example", status=1).stderr
    run("client", "create", "b", "--resource", "https://a.example", "--share-resource")
    run("client", "secret", "add", "a", "--label", "x")
    assert "labelled 'x' already" in run("client", "secret", "add", "a", "--label", "x", status=1).stderr
    run("initial-access-token", "create", "x")
    assert "labelled 'x' already" in run("initial-access-token", "create", "x", status=1).stderr


def test_an_initial_access_token_registers_until_it_is_removed(run: Run, app: webtest.TestApp) -> None:
    token = run("initial-access-token", "create", "onboarding", "--expires", "1h").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    app.post_json("/clients/register", {}, headers=headers, status=201)
    listed = run("initial-access-token", "list").stdout
    assert "onboarding" in listed
    assert token not in listed
    run("initial-access-token", "remove", "onboarding", "--yes")
    app.post_json("/clients/register", {}, headers=headers, status=401)


def test_a_bad_connection_string_is_not_repeated(run: Run) -> None:
    done = run("client", "list", status=1, AUTHSERVER_DATABASE_URL="postgresql://u:hunter2@h/d?nonsense=1")
    assert "AUTHSERVER_DATABASE_URL is not a PostgreSQL connection string" in done.stderr
    assert "hunter2" not in done.stderr
    away = run("client", "list", status=1, AUTHSERVER_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/d")
    assert re.match(r"authserver: the database is not available: OperationalError: \w", away.stderr)
    assert "hunter2" not in away.stderr


def test_maintain_says_what_it_did(run: Run) -> None:
    run("maintain")  # the time of a partition may have come since the database was made
    assert run("maintain").stdout == "nothing to do\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["client"], ["client", "create"], ["migrate", "--frobnicate"]])
def test_wrong_usage_is_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for command in ("serve", "migrate", "maintain", "client", "issuer", "initial-access-token", "config", "dev"):
        assert re.search(rf"^    {command}\b", shown, re.MULTILINE)


def test_a_name_that_begins_like_an_option_stands_behind_two_dashes(run: Run) -> None:
    assert "'-KID'" in run("keys", "revoke", "--yes", "--", "-KID", status=1).stderr


def test_keys_from_the_first_to_an_emergency(run: Run) -> None:
    setting = {"AUTHSERVER_KEY_ENCRYPTION_KEY": secrets.token_urlsafe(32)}

    def states() -> list[str]:
        return [line.split()[2] for line in run("keys", "list", **setting).stdout.splitlines()[1:]]

    assert "not set" in run("keys", "rotate", status=1).stderr
    run("maintain")
    assert re.fullmatch(r"made signing key \S+, which signs from \d+ on\n", run("maintain", **setting).stdout)
    assert run("maintain", **setting).stdout == "nothing to do\n"
    assert states() == ["active"]
    run("keys", "rotate", **setting)
    assert states() == ["next", "active"]
    assert "waits for its time" in run("keys", "rotate", status=1, **setting).stderr
    active = run("keys", "list", **setting).stdout.splitlines()[2].split()[0]
    assert run("keys", "revoke", active, "--yes", **setting).stdout.endswith(" signs from now on\n")
    assert states() == ["next", "active", "revoked"]
    assert "not revoked already" in run("keys", "revoke", active, status=1, **setting).stderr


def test_an_encryption_key_that_is_not_the_servers_makes_no_key_and_hinders_no_revocation(run: Run) -> None:
    theirs, other = ({"AUTHSERVER_KEY_ENCRYPTION_KEY": secrets.token_urlsafe(32)} for _ in range(2))
    run("maintain", **theirs)
    assert "lacks the key" in run("keys", "rotate", status=1, **other).stderr

    def keys() -> list[tuple[str, str]]:
        return [(row["kid"], row["state"]) for row in json.loads(run("keys", "list", "--json").stdout)]

    for environment in (other, {}):
        ((kid, _),) = [row for row in keys() if row[1] == "active"]
        done = run("keys", "revoke", kid, "--yes", **environment)
        assert "no key signs now" in done.stderr
        assert done.stdout == ""
        assert "active" not in {state for _, state in keys()}
        # None is in use that could be another's.
        assert "signs from" in run("keys", "rotate", **theirs).stdout
        assert keys()[0][1] == "active"


def test_maintenance_encrypts_signing_keys_under_the_newest_key(run: Run) -> None:
    old, new = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    run("maintain", AUTHSERVER_KEY_ENCRYPTION_KEY=old)
    told = run("maintain", AUTHSERVER_KEY_ENCRYPTION_KEY=f"{new} {old}").stdout
    assert re.fullmatch(r"encrypted signing key \S+ under the newest key\n", told)
    assert run("maintain", AUTHSERVER_KEY_ENCRYPTION_KEY=new).stdout == "nothing to do\n"
    refused = run("maintain", AUTHSERVER_KEY_ENCRYPTION_KEY=secrets.token_urlsafe(32), status=1).stderr
    assert "AUTHSERVER_KEY_ENCRYPTION_KEY" in refused


def test_an_encryption_key_that_is_lost_for_good_is_replaced(run: Run) -> None:
    lost, new = ({"AUTHSERVER_KEY_ENCRYPTION_KEY": secrets.token_urlsafe(32)} for _ in range(2))
    run("maintain", **lost)
    run("keys", "rotate", **lost)
    for key in json.loads(run("keys", "list", "--json").stdout):
        assert "lacks the key" in run("maintain", status=1, **new).stderr
        run("keys", "revoke", key["kid"], "--yes", **new)
    assert re.fullmatch(r"made signing key \S+, which signs from \d+ on\n", run("maintain", **new).stdout)
    assert run("maintain", **new).stdout == "nothing to do\n"
    assert [key["state"] for key in json.loads(run("keys", "list", "--json").stdout)].count("active") == 1


def test_revoking_all_tokens_of_a_client(run: Run, app: webtest.TestApp) -> None:
    made = json.loads(run("client", "create", "leaky", "--scope", "read").stdout)
    token = get_token(app, made)["access_token"]
    run("client", "revoke-tokens", "leaky", "--yes")
    form = {"token": token, **made}
    assert app.post("/oauth/introspect", form).json == {"active": False}
    assert "no client 'nobody'" in run("client", "revoke-tokens", "nobody", status=1).stderr
