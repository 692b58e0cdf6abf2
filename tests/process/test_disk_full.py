"""PostgreSQL's disk is full: what must be written is refused with 503, what is only read is answered, and rightly."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from authserver.dev.postgres import EmbeddedPostgres

OK, AWAY = 200, 503
SIZE = 120  # MiB; a new server takes about half of it


@pytest.fixture
def small_disk() -> Iterator[Callable[[EmbeddedPostgres], None]]:
    """Put a small file system where a server will have its data."""
    mounted: list[Path] = []

    def mount(server: EmbeddedPostgres) -> None:
        owner = pwd.getpwuid(server.home.stat().st_uid)
        options = f"size={SIZE}m,uid={owner.pw_uid},gid={owner.pw_gid},mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "authserver-test", str(server.home)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting a small file system takes root with CAP_SYS_ADMIN")
        mounted.append(server.home)

    yield mount
    for path in mounted:
        # Lazily: the server ends with the module, after this.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(home: Path) -> Path:
    """Leave no block free."""
    ballast = home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    assert shutil.disk_usage(home).free == 0
    return ballast


def test_a_full_disk_costs_503_for_what_is_written_and_heals_by_itself(
    small_disk, make_postgres, start_gunicorn, make_witness, load, wait_until
):
    # So that the log of changes has room of its own, as where it is on another disk: without, PostgreSQL ends itself.
    postgres, url = make_postgres(small_disk, min_wal_size="64MB", wal_recycle="on", max_wal_size="96MB")
    server = start_gunicorn(url("authserver_app"), WORKERS="2", THREADS="4")
    wait_until(lambda: len(server.workers()) == 2, "both workers")
    workers = server.workers()
    witness = make_witness(server.register())
    token = witness.party.token().json()["access_token"]
    revoked = witness.party.token().json()["access_token"]
    assert witness.party.revoke(revoked).status_code == OK

    ballast = fill(postgres.home)
    load.start(witness.act, threads=4)
    # What still fits into the blocks there are is issued; then nothing is.
    party = witness.party
    wait_until(
        lambda: load.failures or all(party.token().status_code == AWAY for _ in range(20)), "503 once there is no room"
    )
    answer = witness.party.token()
    assert answer.status_code == AWAY
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["error"] == "temporarily_unavailable"
    for _ in range(20):
        assert witness.party.introspect(token).json()["active"] is True
        assert witness.party.introspect(revoked).json() == {"active": False}
    assert requests.get(f"{server.url}/health", timeout=30).status_code == OK
    acknowledged = len(witness.revoked)

    ballast.unlink()
    wait_until(lambda: load.failures or witness.party.token().status_code == OK, "200 once there is room")
    wait_until(lambda: load.failures or len(witness.revoked) > acknowledged + 20, "revocations again")
    load.end()
    witness.check_everything()
    assert server.workers() == workers
    assert '"critical"' not in server.logged()
