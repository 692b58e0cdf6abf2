"""Where the deployment is: from the environment, or a local one started for the purpose.

E2E_AUTHSERVER_URLS        base URLs, separated by commas: one for each replica, or one for all
E2E_RESOURCE_SERVER_URLS   likewise
E2E_INITIAL_ACCESS_TOKEN   may register clients
E2E_RESOURCE               the resource identifier of the resource server

The suite knows nothing else of what it talks to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests


@dataclass(frozen=True)
class Deployment:
    """What the suite is pointed at."""

    authserver_urls: list[str]
    resource_server_urls: list[str]
    initial_access_token: str = field(repr=False)
    resource: str

    @property
    def authserver(self) -> str:
        return self.authserver_urls[0]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The deployment that the environment names, or one of local processes."""
    if "E2E_AUTHSERVER_URLS" in os.environ:
        yield Deployment(
            authserver_urls=_urls("E2E_AUTHSERVER_URLS"),
            resource_server_urls=_urls("E2E_RESOURCE_SERVER_URLS"),
            initial_access_token=os.environ["E2E_INITIAL_ACCESS_TOKEN"],
            resource=os.environ["E2E_RESOURCE"],
        )
        return
    from authserver.dev.stack import RESOURCE, Stack  # noqa: PLC0415 - a remote deployment needs no such install

    with Stack(tmp_path_factory.mktemp("e2e")) as stack:
        answer = requests.post(
            f"{stack.issuer}/clients/register",
            headers={"Authorization": f"Bearer {stack.initial_access_token}"},
            json={"client_name": "service-b", "grant_types": [], "resource_identifiers": [RESOURCE]},
            timeout=10,
        )
        service_b = answer.json()
        urls = [stack.start_resource_server(service_b["client_id"], service_b["client_secret"]) for _ in range(2)]
        yield Deployment([stack.issuer], urls, stack.initial_access_token, RESOURCE)


def _urls(name: str) -> list[str]:
    return [url.strip().rstrip("/") for url in os.environ[name].split(",") if url.strip()]


@pytest.fixture(scope="session")
def http() -> Iterator[requests.Session]:
    """A plain HTTP client; every replica is asked on a connection of its own URL."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=0))
        yield session


@dataclass(frozen=True)
class ServiceA:
    """The client of this run, as the authorization server registered it."""

    client_id: str
    client_secret: str = field(repr=False)
    registration_access_token: str = field(repr=False)
    registration_client_uri: str

    @property
    def credential(self) -> dict[str, str]:
        return {"client_id": self.client_id, "client_secret": self.client_secret}


@pytest.fixture
def service_a(deployment: Deployment, http: requests.Session) -> Iterator[ServiceA]:
    """Register a client for one test and delete it afterwards."""
    register = f"{deployment.authserver}/clients/register"
    document = {"client_name": "e2e service-a", "scope": "read write", "audiences": [deployment.resource]}
    authorization = {"Authorization": f"Bearer {deployment.initial_access_token}"}
    answer = http.post(register, headers=authorization, json=document, timeout=10)
    assert answer.status_code == 201, answer.text
    service_a = ServiceA(**{name: answer.json()[name] for name in ServiceA.__dataclass_fields__})
    yield service_a
    # Not by registration_client_uri: seen from here, the issuer's URL may lead elsewhere.
    own = {"Authorization": f"Bearer {service_a.registration_access_token}"}
    assert http.delete(f"{register}/{service_a.client_id}", headers=own, timeout=10).status_code in (204, 401)
