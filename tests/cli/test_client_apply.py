"""`authserver client apply` and `export`: what a document declares is what there is, or nothing has changed."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from authserver.cli.secret_files import secret_files
from authserver.oauth import client_document
from authserver.oauth.client_document import DeclaredSecret

Run = Callable[..., subprocess.CompletedProcess[str]]
B = "https://b.example"
SECRET = "ascs_" + "0123456789abcdef" * 3
GRANT = {"grant_type": "client_credentials"}
DOCUMENT = f"""
managed_by: platform
clients:
  - client_id: service-a
    client_name: Service A
    scope: read write
    default_scope: read
    audiences: [{B}]
    access_token_lifetime: 600
    tokens_per_minute: 120
    permissions: [introspect:any]
    secrets:
      - {{label: current, file: a.secret}}
      - {{label: made, file: made.secret, generate: true, expires_at: 2040-01-31T00:00:00Z}}
  - client_id: service-b
    grant_types: []
    resource_identifiers: [{B}]
  - client_id: pod
    token_endpoint_auth_method: private_key_jwt
    scope: read
    bindings: [{{issuer: prod, service_account: shop/pod}}]
"""


@pytest.fixture
def document(tmp_path: Path, run: Run, make_signer: Any) -> Path:
    """A document on disk, with the secret and the issuer that it names."""
    keys = tmp_path / "keys"
    keys.write_text(json.dumps(make_signer().jwks()))
    run("issuer", "add", "https://cluster.example", "--name", "prod", "--audience", "x", "--jwks", str(keys))
    (tmp_path / "a.secret").write_text(SECRET + "\n")
    path = tmp_path / "clients.yaml"
    path.write_text(DOCUMENT)
    return path


@pytest.fixture
def apply(run: Run, document: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Apply the document, or another text in its place."""

    def apply(*options: str, text: str | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        if text is not None:
            document.write_text(text)
        return run("client", "apply", "-f", str(document), *options, **more)

    return apply


@pytest.fixture
def state(database_url: str) -> Callable[[], list[Any]]:
    """Everything that is stored of clients."""

    def read() -> list[Any]:
        with psycopg.connect(database_url) as connection:
            return [
                connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                for table in ("clients", "client_secrets", "client_bindings", "revocations")
            ]

    return read


def test_what_is_declared_is_made_and_then_there_is_nothing_to_do(
    apply: Any, app: Any, tmp_path: Path, run: Run, state: Any
) -> None:
    done = apply("--json")
    assert [(c["client_id"], c["action"]) for c in json.loads(done.stdout)["changes"]] == [
        ("service-a", "create"),
        ("service-b", "create"),
        ("pod", "create"),
    ]
    made = tmp_path / "made.secret"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    generated = made.read_text().strip()
    for output in (done.stdout, done.stderr):
        assert SECRET not in output
        assert generated not in output
    for secret in (SECRET, generated):
        answer = app.post("/oauth/token", GRANT | {"client_id": "service-a", "client_secret": secret}).json
        assert answer["scope"] == "read"
        assert answer["expires_in"] == 600
    shown = json.loads(run("client", "show", "service-a").stdout)
    assert shown["permissions"] == ["introspect:any"]
    assert shown["tokens_per_minute"] == 120
    assert shown["managed_by"] == "platform"
    assert shown["secrets"][1]["expires_at"] == "2040-01-31T00:00:00Z"
    subject = {"issuer": "prod", "subject": "system:serviceaccount:shop:pod"}
    assert json.loads(run("client", "show", "pod").stdout)["bindings"] == [subject]

    before = state()
    assert apply().stdout == apply("--prune").stdout == "nothing to do\n"
    made.unlink()  # handed over: the client has its secret already, so no other is made
    assert apply().stdout == "nothing to do\n"
    assert not made.exists()
    assert state() == before


def test_a_dry_run_shows_the_difference_and_changes_nothing(apply: Any, state: Any, tmp_path: Path) -> None:
    before = state()
    shown = apply("--dry-run").stdout
    assert "+ service-a" in shown
    assert "    scope: (none) -> read write" in shown
    assert "    default_scope: (none) -> read\n" in shown
    assert "    secret made: (none) -> made, and written to made.secret" in shown
    apply("--dry-run", "--exit-code", status=3)
    assert state() == before
    assert not (tmp_path / "made.secret").exists()
    apply()
    apply("--dry-run", "--exit-code")
    text = DOCUMENT.replace("read write", "read admin").replace("shop/pod", "shop/other")
    shown = apply("--dry-run", "--exit-code", text=text, status=3).stdout
    assert "~ service-a\n    scope: read write -> read admin\n" in shown
    assert "~ pod\n  - ends: binding prod system:serviceaccount:shop:pod: bound -> (none)\n" in shown


def test_a_dry_run_needs_no_secrets(apply: Any, tmp_path: Path) -> None:
    (tmp_path / "a.secret").unlink()
    assert "is not there" in apply(status=1).stderr
    assert "secret current: (none) -> to come from a.secret" in apply("--dry-run").stdout


def test_export_is_what_apply_takes(apply: Any, run: Run, document: Path, tmp_path: Path, state: Any) -> None:
    apply()
    run("client", "create", "by-hand", "--scope", "read", "--default-scope", "", "--token-format", "opaque")
    before = state()
    for options, source in (((), "yaml"), (("--json",), "json"), (("--managed-by", "platform"), "yaml")):
        exported = run("client", "export", *options).stdout
        assert "secret" not in exported
        path = tmp_path / f"exported.{source}"
        path.write_text(exported)
        assert run("client", "apply", "-f", str(path)).stdout == "nothing to do\n"
    assert yaml.safe_load(exported)["managed_by"] == "platform"
    assert state() == before
    alone = yaml.safe_load(run("client", "export", "pod").stdout)
    assert alone["clients"] == [
        {
            "client_id": "pod",
            "token_endpoint_auth_method": "private_key_jwt",
            "scope": "read",
            "bindings": [{"issuer": "prod", "subject": "system:serviceaccount:shop:pod"}],
        }
    ]
    assert "no client 'nobody' to export" in run("client", "export", "nobody", status=1).stderr


def test_an_export_makes_the_same_clients_elsewhere(
    apply: Any, run: Run, make_database: Any, tmp_path: Path, document: Path
) -> None:
    apply(text="clients: [{client_id: a, resource_identifiers: [x:y]}, {client_id: b, scope: r, audiences: [x:y]}]")
    run("client", "create", "c", "--resource", "x:y", "--share-resource")
    exported = run("client", "export").stdout
    elsewhere = {"AUTHSERVER_DATABASE_URL": make_database()}
    run("migrate", **elsewhere)
    path = tmp_path / "exported.yaml"
    path.write_text(exported)
    run("client", "apply", "-f", str(path), **elsewhere)
    assert run("client", "export", **elsewhere).stdout == exported


def test_prune_deletes_what_it_once_applied_and_nothing_else(apply: Any, run: Run, document: Path, app: Any) -> None:
    apply()
    run("client", "create", "by-hand")
    other = document.with_name("other.yaml")
    other.write_text("managed_by: others\nclients: [{client_id: theirs}]")
    run("client", "apply", "-f", str(other))
    token = {"Authorization": f"Bearer {run('initial-access-token', 'create', 'x').stdout.strip()}"}
    registered = app.post_json("/clients/register", {}, headers=token).json["client_id"]
    left = "managed_by: platform\nclients: [{client_id: service-a, scope: read}]"
    assert "service-b" not in apply(text=left).stdout
    done = run("client", "apply", "-f", str(document), "--prune", "--yes").stdout
    ends = "  - ends: the client, with its secrets, bindings and tokens\n"
    assert done == f"- pod\n{ends}- service-b\n{ends}"
    names = {client["client_id"] for client in json.loads(run("client", "list", "--json").stdout)}
    assert names == {"service-a", "by-hand", "theirs", registered}
    marked = "managed_by: others\nclients: [{client_id: service-a}]"
    assert "managed by 'platform'" in apply(text=marked, status=1).stderr
    assert "registered itself" in apply(text=f"clients: [{{client_id: {registered}}}]", status=1).stderr
    assert "needs managed_by" in apply("--prune", text="clients: []", status=1).stderr


def test_nothing_that_works_is_ended_unless_it_is_meant(
    run: Run, apply: Any, document: Path, state: Any, database_url: str
) -> None:
    apply()
    before = state()
    for text in (
        "managed_by: platform\nclients: []",
        DOCUMENT.replace("      - {label: current, file: a.secret}\n", ""),
        DOCUMENT.replace("shop/pod", "shop/other"),
        DOCUMENT.replace("label: current", "label: renamed"),
    ):
        document.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "authserver", "client", "apply", "-f", str(document), "--prune"],
            env=os.environ | {"AUTHSERVER_DATABASE_URL": database_url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "add --yes" in done.stderr
        assert state() == before


def test_secrets_follow_the_files(apply: Any, app: Any, tmp_path: Path, run: Run) -> None:
    apply()
    form = GRANT | {"client_id": "service-a"}
    old = SECRET
    new = "ascs_" + "fedcba9876543210" * 3
    (tmp_path / "a.secret").write_text(new)
    assert "  - ends: secret current: another one -> taken from a.secret\n" in apply("--yes").stdout
    app.post("/oauth/token", form | {"client_secret": old}, status=401)
    app.post("/oauth/token", form | {"client_secret": new})
    later = apply("--yes", text=DOCUMENT.replace("2040-01-31", "2041-01-31")).stdout
    assert later == "~ service-a\n    secret made expires_at: 2040-01-31T00:00:00Z -> 2041-01-31T00:00:00Z\n"
    assert json.loads(run("client", "show", "service-a").stdout)["secrets"][0]["expires_at"] == "2041-01-31T00:00:00Z"
    # A document that does not speak of secrets leaves them alone; keys take their place.
    apply(text="clients: [{client_id: service-a, scope: read}]")
    app.post("/oauth/token", form | {"client_secret": new})
    apply("--yes", text="clients: [{client_id: service-a, token_endpoint_auth_method: private_key_jwt}]")
    app.post("/oauth/token", form | {"client_secret": new}, status=401)


def test_things_move_between_clients_in_one_go(apply: Any, run: Run) -> None:
    entry = "{{client_id: {}, resource_identifiers: [{}], bindings: [{{issuer: prod, subject: {}}}]}}"
    text = "clients: [" + entry.format("a", "x:1", "one") + "," + entry.format("b", "x:2", "two") + "]"
    apply(text=text)
    swapped = "clients: [" + entry.format("a", "x:2", "two") + "," + entry.format("b", "x:1", "one") + "]"
    apply("--yes", text=swapped)
    assert json.loads(run("client", "show", "a").stdout)["resource_identifiers"] == ["x:2"]
    assert json.loads(run("client", "show", "b").stdout)["bindings"] == [{"issuer": "prod", "subject": "one"}]


def test_standard_input_is_read_too(database_url: str, state: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "authserver", "client", "apply", "-f", "-"],
        env=os.environ | {"AUTHSERVER_DATABASE_URL": database_url},
        input='{"clients": [{"client_id": "a", "client_name": "\\ud83d\\ude00"}]}',
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("+ a\n")


GOOD = "clients:\n- client_id: good\n"


def test_a_mistake_in_one_member_hides_none_in_another(apply: Any) -> None:
    members = {
        "audiences": ("[nonsense]", "audiences[0]: must be an absolute URI without a fragment"),
        "resource_identifiers": ('["x:y#z"]', "resource_identifiers[0]: must be an absolute URI without a fragment"),
        "access_token_lifetime": ("86401", "access_token_lifetime: must be from 1 to 86400 seconds, as a whole number"),
        "tokens_per_minute": ("1000001", "tokens_per_minute: must be from 0 to 1000000"),
        "access_token_format": ("paper", "access_token_format: must be one of opaque, jwt"),
        "token_endpoint_auth_signing_alg": ("HS256", "token_endpoint_auth_signing_alg: must be one of ES256, "),
        "scope": ("'a\"b'", "scope: The scope is malformed."),
    }
    text = "clients:\n- client_id: a\n" + "".join(f"  {name}: {value}\n" for name, (value, _) in members.items())
    told = apply(text=text, status=1, lines=len(members)).stderr
    for line, (_, says) in enumerate(members.values(), start=3):
        assert f"clients.yaml:{line}: clients[0].{says}" in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "clients.yaml: must be a mapping"),
        ("clients:\n- client_id: a\n  scop: read\n", "clients.yaml:3: clients[0].scop: is unknown here"),
        (GOOD + "- client_id: a\n  scope: [read]\n", "clients.yaml:4: clients[1].scope: must be a string"),
        (GOOD + "- client_id: 7\n", "clients.yaml:3: clients[1].client_id: must be a string"),
        (GOOD + "- client_id: no\n", "clients.yaml:3: put this value in quotes"),
        (GOOD + "- client_id: a\n  access_token_lifetime: 1:30\n", "clients.yaml:4: put this value in quotes"),
        (GOOD + "- client_id: a\n  access_token_lifetime: 0x10\n", "clients.yaml:4: put this value in quotes"),
        (GOOD + "- client_id: a\n  access_token_lifetime: 90000\n", "access_token_lifetime: must be from 1 to 86400"),
        (GOOD + "- client_id: a\n  access_token_lifetime: 0\n", "access_token_lifetime: must be from 1"),
        (
            GOOD + "- client_id: a\n  tokens_per_minute: -1\n",
            "tokens_per_minute: must be from 0 to 1000000",
        ),
        (
            GOOD + "- client_id: a\n  tokens_per_minute: true\n",
            "tokens_per_minute: must be from 0 to 1000000",
        ),
        (GOOD + "- client_id: a\n  scope: null\n", "clients[1].scope: must be a string"),
        (GOOD + "- client_id: a\n  client_id: b\n", "clients.yaml:4: the key 'client_id' is there twice"),
        (GOOD + "- client_id: good\n", "clients[1].client_id: is there twice"),
        (GOOD + "- {}\n", "clients.yaml:3: clients[1]: lacks client_id"),
        (GOOD + "- client_id: a\n  jwks: {keys: []}\n", "are for private_key_jwt"),
        (GOOD + "- client_id: a\n  permissions: [root]\n", "permissions[0]: must be one of introspect:any"),
        (GOOD + "- client_id: a\n  grant_types: [password]\n", "grant_types[0]: must be one of client_credentials"),
        (GOOD + "- client_id: a\n  audiences: [x:y, nonsense]\n", "audiences[1]: must be an absolute URI without"),
        (
            GOOD + "- client_id: a\n  secrets: [{label: x, file: none}]\n",
            "clients.yaml:4: clients[1].secrets[0].file: {directory}/none: is not there",
        ),
        (
            GOOD + "- client_id: a\n  secrets: [{label: x, file: weak}]\n",
            "clients[1].secrets[0].file: {directory}/weak: holds no client secret",
        ),
        (GOOD + "- client_id: a\n  secrets: [{label: x, file: f, expires_at: 2030-01-01}]\n", "a time with its offset"),
        (
            GOOD + "- client_id: a\n  secrets: [{label: x, file: no/f, generate: true}]\n",
            "clients[1].secrets[0].file: {directory}/no/f: cannot be written: No such file or directory",
        ),
        (GOOD + "- client_id: a\n  secret: hunter2\n", "clients[1].secret: is unknown here"),
        (GOOD + "- client_id: a\n  secrets: [{label: x, file: .}]\n", "{directory}: cannot be read: Is a directory"),
        (
            GOOD + "- client_id: a\n  bindings: [{issuer: none, subject: x}]\n",
            "clients.yaml:4: clients[1].bindings[0].issuer: there is no trusted issuer 'none': see 'authserver issuer "
            "list', or add it with 'authserver issuer add ",
        ),
        (GOOD + '- client_id: a\n  bindings: [{issuer: "\\0", subject: x}]\n', "must be the name of a trusted issuer"),
        (GOOD + "- client_id: a\n  bindings: [{issuer: prod}]\n", "must have a subject or a service_account"),
        (
            GOOD + "- client_id: a\n  bindings: [{issuer: prod, service_account: s/default}]\n",
            "default service account",
        ),
        (GOOD + "- client_id: a\n  access_token_format: jwt\n  audiences: [x:y]\n", "issues no JWT access tokens"),
        (
            GOOD + "- client_id: a\n  resource_identifiers: [x:taken]\n",
            "clients.yaml:4: clients[1].resource_identifiers: another client has",
        ),
        (GOOD + "managed_by: A b\n", "managed_by: must be up to 63"),
        ("a: &x [1]\nb: *x\n", "clients.yaml:1: anchors and aliases are not read"),
        ("a: !!python/object/apply:os.system [id]\n", "clients.yaml:1: put this value in quotes"),
        ("<<: {a: 1}\n", "a key must be a string"),
        ("clients: [\n", "clients.yaml:2: "),
        ("clients: []\n---\nclients: []\n", "but found another document"),
        ("[" * 5000, "nested too deeply"),
        ('{"clients": [], "clients": []}', "the key 'clients' is there twice"),
        ('{"clients": [{"client_id": "\\ud800"}]}', "no Unicode"),
        ("clients: []\n" + "#" * (1 << 20), "is larger than"),
        ("clients: [\x07]", "does not allow"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_nothing_changes(
    apply: Any, run: Run, tmp_path: Path, state: Any, text: str, says: str
) -> None:
    run("client", "create", "holder", "--resource", "x:taken")
    (tmp_path / "weak").write_text("hunter2")
    before = state()
    stderr = apply(text=text, status=1).stderr
    assert says.replace("{directory}", str(tmp_path)) in stderr
    assert "hunter2" not in stderr
    assert state() == before
    assert not (tmp_path / "f").exists()


def test_a_file_that_is_there_is_never_written_over(apply: Any, document: Path, tmp_path: Path) -> None:
    kept = tmp_path / "made.secret"
    kept.write_text("something of somebody")
    assert "holds no client secret" in apply(status=1).stderr
    assert kept.read_text() == "something of somebody"
    # A secret that an interrupted run has left is taken as it is.
    kept.write_text("ascs_" + "ab" * 22)
    assert "secret made: (none) -> taken from made.secret" in apply().stdout


def test_the_documentation_has_every_member_and_its_example_applies(
    apply: Any, repository: Path, tmp_path: Path
) -> None:
    text = (repository / "docs/clients.md").read_text()
    documented = {
        name for names in re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", names)
    }
    members = {"managed_by", "clients", *client_document._MEMBERS}
    members |= {"issuer", "subject", "service_account", "label", "file", "generate", "expires_at"}
    assert documented == members
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "service-a.secret").write_text(SECRET)
    assert apply(text=example).stdout.startswith("+ service-a\n")


def test_all_mistakes_of_a_document_are_told_at_once(apply: Any, state: Any) -> None:
    before = state()
    text = """
managed_by: A b
clients:
- client_id: ""
  scop: read
  scope: [read]
  permissions: [root, introspect:any, admin]
  audiences: [x:y, 7]
  secrets: [{label: "", file: 5, generate: perhaps}]
  bindings: [{issuer: prod}, {isuer: prod, subject: x}]
- client_id: a
  access_token_format: jwt
  tokens_per_minute: 9999999
- client_id: a
"""
    lines = apply(text=text, status=1, lines=15).stderr.splitlines()
    assert [line.removeprefix("authserver: ").split(": ")[1] for line in lines] == [
        "managed_by",
        "clients[0].client_id",
        "clients[0].scop",
        "clients[0].scope",
        "clients[0].permissions[0]",
        "clients[0].permissions[2]",
        "clients[0].audiences[1]",
        "clients[0].secrets[0].label",
        "clients[0].secrets[0].file",
        "clients[0].secrets[0].generate",
        "clients[0].bindings[0]",
        "clients[0].bindings[1].isuer",
        "clients[0].bindings[1]",
        "clients[1].tokens_per_minute",
        "clients[2].client_id",
    ]
    assert "clients.yaml:2: managed_by: " in lines[0]
    unquoted = "clients:\n- {client_id: no, client_id: b}\n- {scope: 1:30}\n"
    assert apply(text=unquoted, status=1, lines=3).stderr.count("clients.yaml:2: ") == 2
    twice = '{"clients": [{"client_id": "a", "client_id": "b"}], "clients": []}'
    apply(text=twice, status=1, lines=2)
    assert state() == before


def test_all_that_files_and_database_know_is_told_at_once(apply: Any, run: Run, state: Any) -> None:
    run("client", "create", "holder", "--resource", "x:taken")
    run("client", "bind", "holder", "--issuer", "prod", "--subject", "bound")
    before = state()
    text = """
clients:
- client_id: a
  resource_identifiers: [x:taken]
  secrets: [{label: one, file: none}, {label: two, file: .}]
  bindings: [{issuer: prod, subject: free}, {issuer: elsewhere, subject: x}, {issuer: prod, subject: bound}]
- client_id: b
  access_token_format: jwt
  audiences: [x:y]
"""
    lines = apply(text=text, status=1, lines=6).stderr.splitlines()
    assert [line.removeprefix("authserver: ").split(": ")[1] for line in lines] == [
        "clients[0].secrets[0].file",
        "clients[0].secrets[1].file",
        "clients[0].resource_identifiers",
        "clients[0].bindings[1].issuer",
        "clients[0].bindings[2]",
        "clients[1]",
    ]
    assert state() == before


def test_a_client_that_is_left_without_a_credential_is_warned_of(
    apply: Any, run: Run, make_signer: Any, tmp_path: Path
) -> None:
    jwks = json.dumps(make_signer().jwks())
    text = f"""
clients:
- client_id: nothing
- client_id: expired
  secrets: [{{label: x, file: a.secret, expires_at: 2020-01-01T00:00:00Z}}]
- client_id: no-keys
  token_endpoint_auth_method: private_key_jwt
- client_id: secret
  secrets: [{{label: x, file: a.secret}}]
- client_id: keys
  token_endpoint_auth_method: private_key_jwt
  jwks: {jwks}
- client_id: bound
  bindings: [{{issuer: prod, subject: x}}]
- client_id: by-hand
"""
    run("client", "create", "by-hand")
    audit = {"AUTHSERVER_AUDIT_FILE": str(tmp_path / "audit")}
    for options in (("--dry-run",), (), ()):
        warned = apply(*options, text=text, **audit).stderr
        places = re.findall(r"^authserver: warning: .*/clients\.yaml:(\d+): (clients\[\d\]): .*$", warned, re.MULTILINE)
        assert places == [("3", "clients[0]"), ("4", "clients[1]"), ("6", "clients[2]")]
        assert len(warned.splitlines()) == 3
    done = apply("--json", **audit)
    assert json.loads(done.stdout)["changes"] == []
    assert [line.split(": ")[1] for line in json.loads(done.stdout)["warnings"]] == [place for _, place in places]


def test_exit_code_is_for_a_dry_run(apply: Any, state: Any) -> None:
    before = state()
    refused = apply("--exit-code", status=2).stderr
    assert refused.endswith("authserver client apply: error: --exit-code needs --dry-run\n")
    assert state() == before


@pytest.mark.parametrize("kept", [False, True])
def test_a_secret_that_is_perhaps_committed_keeps_its_file(tmp_path: Path, kept: bool) -> None:
    secret = DeclaredSecret("first", "secret", generate=True)

    def make() -> None:
        with secret_files(tmp_path, {"clients[0]": secret}, may_be_elsewhere=False) as (files, _):
            files.write("secret", "ascs_" + "x" * 43)
            if kept:
                files.keep()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make()
    assert (tmp_path / "secret").exists() is kept
