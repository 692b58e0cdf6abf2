"""What holds for all commands, as docs/cli.md says it: the parser is walked, so no command can be forgotten."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shtab

from authserver.cli import make_parser
from authserver.cli.client_apply import DIFFERENCES
from authserver.flows.doctor import database_checks

Run = Callable[..., subprocess.CompletedProcess[str]]
ROW = re.compile(r"^\| `([a-z -]+)` \| .* \| (`--json`|[a-z ]+) \| ?([a-z ]*) \|$", re.MULTILINE)


def commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that can be run, by its words."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, each in action.choices.items():
            yield from commands(each, f"{name} {word}".strip())


COMMANDS = dict(commands(make_parser()))


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def least(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The words that a command cannot do without."""
    needed = [action for action in parser._actions if action.required]
    needed += [group._group_actions[0] for group in parser._mutually_exclusive_groups if group.required]
    for action in needed:
        yield from action.option_strings[:1]
        yield str(next(iter(action.choices))) if action.choices else "1h"


@pytest.fixture(scope="module")
def documented(repository: Path) -> dict[str, tuple[str, str]]:
    """By command, what it prints and whether it asks."""
    text = (repository / "docs/cli.md").read_text().partition("## Commands")[2].partition("## Doctor")[0]
    return {name: (prints, asks.strip()) for name, prints, asks in ROW.findall(text)}


def test_every_command_is_documented_and_every_documented_one_is_there(documented: Any) -> None:
    assert set(documented) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_prints_does_so_for_programs_too(documented: Any, name: str) -> None:
    prints, _ = documented[name]
    assert ("--json" in options(COMMANDS[name])) == (prints == "`--json`")
    assert prints in ("`--json`", "nothing") or name in ("serve", "dev", "completion")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_asks_can_be_told_beforehand(documented: Any, name: str) -> None:
    _, asks = documented[name]
    assert ("--yes" in options(COMMANDS[name])) == bool(asks)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_does_not_know_is_refused_with_its_own_usage(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_parser().parse_args([*name.split(), *least(COMMANDS[name]), "--nope"])
    errors = capsys.readouterr().err
    assert errors.startswith(f"usage: authserver {name} ")
    assert errors.endswith(f"authserver {name}: error: unrecognized arguments: --nope\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_is_written_out(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    # A prefix that is accepted today would mean something else, or nothing, with the next option.
    short = "--js" if "--json" in options(COMMANDS[name]) else "--hel"
    with pytest.raises(SystemExit, match="2"):
        make_parser().parse_args([*name.split(), *least(COMMANDS[name]), short])
    assert capsys.readouterr().err.endswith(f"error: unrecognized arguments: {short}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_says_what_it_does(name: str) -> None:
    usage, said, _ = COMMANDS[name].format_help().split("\n\n", 2)
    assert usage.startswith(f"usage: authserver {name}")
    assert re.fullmatch(r"[A-Z].*\.", said, re.DOTALL)


def test_options_of_a_client_are_called_as_in_its_document(run: Run) -> None:
    run("client", "create", "a", "--access-token-format", "opaque", "--access-token-lifetime", "5m")
    run("client", "create", "b", "--token-format", "opaque", "--token-lifetime", "5m")  # as they were called before
    shown = [json.loads(run("client", "show", name).stdout) for name in "ab"]
    assert [(each["access_token_format"], each["access_token_lifetime"]) for each in shown] == [("opaque", 300)] * 2


def test_the_exit_statuses_are_documented(repository: Path) -> None:
    text = (repository / "docs/cli.md").read_text().partition("## Exit status")[2].partition("##")[0]
    assert re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE) == ["0", "1", "2", str(DIFFERENCES), "130, 141"]


def test_every_check_of_the_doctor_is_documented(repository: Path, server: Any) -> None:
    text = (repository / "docs/cli.md").read_text().partition("## Doctor")[2]
    assert re.findall(r"^\| `([a-z ]+)` \|", text, re.MULTILINE) == [
        "configuration",
        *database_checks(server, 0),
        "issuer",
    ]


def test_json_is_json_and_nothing_else(run: Run, make_signer: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(json.dumps(make_signer().jwks()))
    run("client", "create", "a")
    run("initial-access-token", "create", "x", "--expires", "1h")
    run("issuer", "add", "https://cluster.example", "--name", "prod", "--audience", "x", "--jwks", str(keys))
    for command in (
        ("client", "list"),
        ("client", "export"),
        ("issuer", "list"),
        ("issuer", "show", "prod"),
        ("issuer", "check", "prod"),
        ("initial-access-token", "list"),
        ("initial-access-token", "create", "another"),
        ("keys", "list"),
        ("migrate",),
        ("migrate", "--status"),
        ("migrate", "--plan"),
        ("maintain",),
    ):
        done = run(*command, "--json", AUTHSERVER_AUDIT_FILE=str(tmp_path / "audit"))
        assert json.loads(done.stdout) is not None
        assert done.stderr == ""


def test_config_prints_json_with_secrets_masked(run: Run) -> None:
    rows = json.loads(run("config", "--json", AUTHSERVER_ISSUER="https://as.example").stdout)
    values = {row["setting"]: row["value"] for row in rows}
    assert values["AUTHSERVER_ISSUER"] == "https://as.example"
    assert values["AUTHSERVER_INITIAL_ACCESS_TOKEN"] is None


@pytest.fixture
def answer(database_url: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command at a terminal, and answer what it asks."""

    def run(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        ours, theirs = pty.openpty()
        try:
            os.write(ours, text.encode())
            return subprocess.run(
                [sys.executable, "-m", "authserver", *arguments],
                env=os.environ | {"AUTHSERVER_DATABASE_URL": database_url},
                check=False,
                stdin=theirs,
                capture_output=True,
                text=True,
            )
        finally:
            os.close(theirs)
            os.close(ours)

    return run


def test_what_destroys_asks_first(run: Run, answer: Any) -> None:
    run("client", "create", "a")
    for text in ("n\n", "\n", "perhaps\n", "\x04"):
        done = answer(text, "client", "delete", "a")
        assert done.returncode == 1
        assert "client 'a' is deleted" in done.stderr
        assert done.stderr.endswith("nothing was done\n")
    run("client", "show", "a")
    assert answer("y\n", "client", "delete", "a").returncode == 0
    run("client", "show", "a", status=1)


def test_what_destroys_does_nothing_where_nobody_can_be_asked(run: Run) -> None:
    run("client", "create", "a")
    run("initial-access-token", "create", "x")
    run("issuer", "add", "https://cluster.example", "--name", "prod", "--audience", "x")
    for command in (
        ("client", "revoke-tokens", "a"),
        ("client", "secret", "remove", "a", "--label", "first"),
        ("client", "delete", "a"),
        ("initial-access-token", "remove", "x"),
        ("issuer", "remove", "prod"),
    ):
        assert "add --yes" in run(*command, status=1, typed="y\n").stderr
        run(*command, "--yes")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(run: Run, shell: str) -> None:
    script = run("completion", shell).stdout
    assert script.strip() == shtab.complete(make_parser(), shell).strip()
    for word in {word for name in COMMANDS for word in name.split()}:
        assert word in script
