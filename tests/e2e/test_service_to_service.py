"""The flow of service-to-service calls, seen from outside: on local processes, containers or a cluster alike."""

from __future__ import annotations

from typing import Any

import pytest
import requests

TIMEOUT = 10  # seconds


@pytest.fixture
def get_token(deployment: Any, http: requests.Session, service_a: Any) -> Any:
    """Get an access token with a scope, from the first authorization server or another."""

    def get(scope: str = "read", authserver: str = "") -> str:
        answer = http.post(
            f"{authserver or deployment.authserver}/oauth/token",
            data={"grant_type": "client_credentials", "scope": scope, **service_a.credential},
            timeout=TIMEOUT,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["token_type"] == "Bearer"
        return str(answer.json()["access_token"])

    return get


@pytest.fixture
def statuses(deployment: Any, http: requests.Session) -> Any:
    """What every resource server answers on /protected with this token."""

    def get(token: str | None) -> list[int]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        urls = deployment.resource_server_urls
        return [http.get(f"{url}/protected", headers=headers, timeout=TIMEOUT).status_code for url in urls]

    return get


def everywhere(status: int, deployment: Any) -> list[int]:
    return [status] * len(deployment.resource_server_urls)


def test_without_a_token_401_with_it_200_after_revocation_401(
    deployment: Any, http: requests.Session, service_a: Any, get_token: Any, statuses: Any
) -> None:
    assert statuses(None) == everywhere(401, deployment)
    token = get_token()
    assert statuses(token) == everywhere(200, deployment)
    revoked = http.post(
        f"{deployment.authserver}/oauth/revoke", data={"token": token, **service_a.credential}, timeout=TIMEOUT
    )
    assert revoked.status_code == 200
    assert statuses(token) == everywhere(401, deployment)


def test_a_token_of_another_scope_is_403(deployment: Any, get_token: Any, statuses: Any) -> None:
    assert statuses(get_token("write")) == everywhere(403, deployment)


def test_a_token_that_nobody_issued_is_401(deployment: Any, statuses: Any) -> None:
    assert statuses("asat_7fffffff" + "x" * 43) == everywhere(401, deployment)


def test_public_needs_no_token(deployment: Any, http: requests.Session) -> None:
    for url in deployment.resource_server_urls:
        assert http.get(f"{url}/public", timeout=TIMEOUT).status_code == 200


def test_every_server_is_ready(deployment: Any, http: requests.Session) -> None:
    for url in [*deployment.authserver_urls, *deployment.resource_server_urls]:
        for probe in ("/health", "/ready"):
            assert http.get(url + probe, timeout=TIMEOUT).status_code == 200


def test_every_authorization_server_serves_every_token(
    deployment: Any, http: requests.Session, service_a: Any, get_token: Any, statuses: Any
) -> None:
    for issuing in deployment.authserver_urls:
        for revoking in deployment.authserver_urls:
            token = get_token("read", issuing)
            assert statuses(token) == everywhere(200, deployment)
            form = {"token": token, **service_a.credential}
            assert http.post(f"{revoking}/oauth/revoke", data=form, timeout=TIMEOUT).status_code == 200
            for asking in deployment.authserver_urls:
                answer = http.post(f"{asking}/oauth/introspect", data=form, timeout=TIMEOUT)
                assert answer.json() == {"active": False}
            assert statuses(token) == everywhere(401, deployment)


def test_deleting_a_client_ends_its_tokens_everywhere(
    deployment: Any, http: requests.Session, service_a: Any, get_token: Any, statuses: Any
) -> None:
    token = get_token()
    assert statuses(token) == everywhere(200, deployment)
    deleted = http.delete(
        f"{deployment.authserver}/clients/register/{service_a.client_id}",
        headers={"Authorization": f"Bearer {service_a.registration_access_token}"},
        timeout=TIMEOUT,
    )
    assert deleted.status_code == 204
    assert statuses(token) == everywhere(401, deployment)
    for url in deployment.authserver_urls:
        form = {"grant_type": "client_credentials", **service_a.credential}
        assert http.post(f"{url}/oauth/token", data=form, timeout=TIMEOUT).status_code == 401


def test_the_reference_documents_introspection_request_works(
    deployment: Any, http: requests.Session, service_a: Any, get_token: Any
) -> None:
    # token=<token>&client_id=<id>&client_secret=<secret>, as the reference document shows it.
    token = get_token()
    answer = http.post(
        f"{deployment.authserver}/oauth/introspect", data={"token": token, **service_a.credential}, timeout=TIMEOUT
    )
    assert answer.json()["active"] is True
    assert answer.json()["scope"] == "read"
    assert answer.json()["aud"] == [deployment.resource]
