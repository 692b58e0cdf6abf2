"""scripts/e2e_docker.sh: what it calls, what it leaves behind, and how it ends."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

Runs = Callable[..., Any]

SCRIPT = "e2e_docker"
SERVERS = ("authserver-1", "authserver-2", "resource-server-1", "resource-server-2")


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def names(run: Any) -> list[str]:
    """The containers that were started, by the name without that of the run."""
    started = (re.search(r"--name authserver-e2e-\d+-(\S+)", call) for call in run.called("docker run"))
    return [match[1] for match in started if match]


def removed(run: Any) -> list[str]:
    (call,) = run.called("docker rm --force --volumes")
    return re.findall(r"authserver-e2e-\d+-(\S+)", call)


def test_a_run_starts_two_of_each_tests_them_stops_them_and_removes_all(run: Runs) -> None:
    done = run(SCRIPT)
    assert done.process.returncode == 0, done.stderr
    assert re.fullmatch(rf"{SCRIPT}: PASSED in \d+ s", last_line(done.stdout))
    assert names(done) == ["postgres", *SERVERS]
    assert removed(done) == names(done)
    assert len(done.called("docker stop -t 30")) == 4
    assert done.called("docker network rm authserver-e2e-") == [str(done.calls[-1])]
    assert done.suite["E2E_AUTHSERVER_URLS"].count("http://127.0.0.1:") == 2
    assert done.suite["E2E_RESOURCE_SERVER_URLS"].count("http://127.0.0.1:") == 2
    assert done.suite["E2E_INITIAL_ACCESS_TOKEN"] == "asia_of-the-stub"


def test_every_container_of_ours_is_as_confined_as_its_pod(run: Runs) -> None:
    ours = [call for call in run(SCRIPT).called("docker run") if "postgres:18" not in call]
    assert len(ours) == 8
    for call in ours:
        for option in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--user 10001:10001"):
            assert option in call
        assert not re.search(r"--publish (?!127\.0\.0\.1:)", call), "reachable from other machines"


@pytest.mark.parametrize("how", ["flags", "environment"])
def test_every_option_is_a_flag_and_a_variable(run: Runs, how: str) -> None:
    if how == "flags":
        done = run(SCRIPT, "--image", "own:1", "--skip-build", "--keep", STUB_IMAGES="own:1")
    else:
        done = run(SCRIPT, IMAGE="own:1", SKIP_BUILD="1", KEEP="1", STUB_IMAGES="own:1")
    assert done.process.returncode == 0, done.stderr
    assert not done.called("docker build")
    assert all("own:1" in call or "postgres:18" in call for call in done.called("docker run"))
    assert not done.called("docker rm")
    assert not done.called("docker network rm")
    assert re.search(r"^Left in place: network authserver-e2e-\d+, containers ", done.stdout, re.MULTILINE)


def test_a_given_database_is_used_and_no_other_started(run: Runs) -> None:
    url = "postgresql://somebody@elsewhere/empty"
    done = run(SCRIPT, DATABASE_URL=url)
    assert names(done) == list(SERVERS)
    assert f"AUTHSERVER_DATABASE_URL={url}" in (done.directory / "environment").read_text()
    assert not [call for call in done.calls if url in str(call)]


def test_build_arguments_and_the_postgres_image_are_passed_on(run: Runs) -> None:
    done = run(SCRIPT, DOCKER_BUILD_ARGS="--network host --pull", POSTGRES_IMAGE="local/postgres:17")
    assert done.called("docker build --network host --pull --tag authserver:e2e")
    assert [call for call in done.called("docker run") if call.endswith(" local/postgres:17")]


def test_help_explains_every_option_and_calls_nothing(run: Runs) -> None:
    done = run(SCRIPT, "--help")
    assert done.process.returncode == 0
    assert done.calls == []
    for word in ("--image", "IMAGE=", "--skip-build", "SKIP_BUILD=", "--keep", "KEEP=", "POSTGRES_IMAGE"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--keep-cluster"], {}), (["--image"], {}), (["--image", "-v"], {}), ([], {"WAIT_TIMEOUT": "x[$(touch y)]"})],
    ids=str,
)
def test_wrong_usage_is_one_line_and_status_2(run: Runs, arguments: list[str], environment: dict[str, str]) -> None:
    done = run(SCRIPT, *arguments, **environment)
    assert done.process.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.calls == []


@pytest.mark.parametrize(
    ("step", "status", "started"),
    [
        ("docker build", 7, None),
        ("docker network create", 7, None),
        ("docker run .*postgres:18", 7, 1),
        ("authserver migrate", 7, 1),
        ("docker run .*authserver-2", 7, 3),
        ("client create", 7, 3),
        ("docker run .*resource-server-2", 7, 5),
        ("docker port", 7, 3),
        ("initial-access-token", 7, 5),
        ("python -m pytest", 7, 5),
        ("docker stop", 7, 5),
    ],
)
def test_a_failure_keeps_its_status_shows_the_logs_and_cleans_up(
    run: Runs, step: str, status: int, started: int | None
) -> None:
    done = run(SCRIPT, STUB_FAIL=step, STUB_STATUS="7")
    assert done.process.returncode == status, done.stderr
    assert re.fullmatch(rf"{SCRIPT}: FAILED with status {status} after \d+ s, at: .+", last_line(done.stderr))
    assert len(re.findall(r"^log of ", done.stderr, re.MULTILINE)) == (started or 0)
    if started:
        assert len(removed(done)) == started
        assert done.called("docker network rm")
    else:
        assert not done.called("docker rm")


def test_a_server_that_does_not_end_well_fails_the_run(run: Runs) -> None:
    done = run(SCRIPT, STUB_EXIT_CODE="137")
    assert done.process.returncode == 1
    assert "resource-server-1 ended with status 137" in done.stderr
    assert removed(done)


@pytest.mark.parametrize("step", ["docker network create", "authserver migrate", "python -m pytest"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_and_cleans_up(start: Runs, step: str, number: signal.Signals, status: int) -> None:
    running = start(SCRIPT, STUB_BLOCK=step)
    running.interrupt(number)
    done = running.finish()
    assert done.process.returncode == status
    assert "log of" not in done.stderr
    assert done.called("docker network rm")


def test_servers_connect_by_the_role_that_may_only_serve(run: Runs) -> None:
    done = run(SCRIPT)
    made = (done.directory / "roles").read_text()
    passwords = dict(re.findall(r"CREATE ROLE authserver_(\w+) LOGIN PASSWORD '([0-9a-f]{48})'", made))
    environment = (done.directory / "environment").read_text()
    urls = re.findall(r"^AUTHSERVER_DATABASE_URL=(.*)$", environment, re.MULTILINE)
    by_role = {role: f"postgresql://authserver_{role}:{passwords[role]}@postgres:5432/authserver" for role in passwords}
    assert set(urls) == set(by_role.values())
    assert urls.count(by_role["app"]) == 2
