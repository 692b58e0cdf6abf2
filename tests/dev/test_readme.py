"""The way from the README's example to a service that runs: what a reader would copy, run as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from authserver.dev.stack import Stack, free_port

PATIENCE = 30.0  # seconds; a limit, never a pace


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def get(url: str, **arguments: dict[str, str]) -> requests.Response:
    """GET, once something listens there."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return requests.get(url, timeout=PATIENCE, **arguments)
        except requests.ConnectionError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_the_example_of_the_readme_runs_and_is_protected(stack: Stack, repository: Path, tmp_path: Path) -> None:
    readme = (repository / "README.md").read_text()
    (example,) = re.findall(r"```python\n(import os\n.*?)```", readme, re.DOTALL)
    (tmp_path / "app.py").write_text(example)
    (command,) = re.findall(r"^\$ (curl [^`]*?/clients/register)$", readme, re.MULTILINE)
    command = command.replace("INITIAL_ACCESS_TOKEN", stack.initial_access_token)
    command = command.replace("http://127.0.0.1:8000", stack.issuer)
    # Python's own argument splitting reads it as a shell does; curl itself may be missing where the tests run.
    words = shlex.split(command)
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    answer = requests.post(words[-1], headers=headers, data=words[words.index("-d") + 1], timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    invoices = answer.json()

    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "OAUTH2_CLIENT_ID": invoices["client_id"],
        "OAUTH2_CLIENT_SECRET": invoices["client_secret"],
        "OAUTH2_INTROSPECT_URL": f"{stack.issuer}/oauth/introspect",
        "OAUTH2_RESOURCE": "https://invoices.example",
    }
    with (tmp_path / "log").open("wb") as log:
        gunicorn = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", url.removeprefix("http://"), "app:app"],
            cwd=tmp_path,
            env=os.environ | settings,
            stdout=log,
            stderr=log,
        )
    try:
        assert get(f"{url}/status").json() == {"status": "ok"}
        assert get(f"{url}/invoices").status_code == 401
        (create,) = re.findall(r"^\$ \.venv/bin/authserver (client create caller .*)$", readme, re.MULTILINE)
        caller = json.loads(stack.run(*shlex.split(create)))
        form = {"grant_type": "client_credentials", **caller}
        token = requests.post(f"{stack.issuer}/oauth/token", form, timeout=PATIENCE).json()["access_token"]
        answer = get(f"{url}/invoices", headers={"Authorization": f"Bearer {token}"})
        assert answer.json() == {"caller": "caller"}
    finally:
        gunicorn.terminate()
        gunicorn.wait()
