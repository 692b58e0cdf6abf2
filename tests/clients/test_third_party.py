"""Real third-party clients, unchanged, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from oauthlib.oauth2 import BackendApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session as RequestsOAuth2Session

from authserver.dev.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("clients")) as stack:
        yield stack


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_fetches_introspects_and_revokes(stack: Stack, method: str) -> None:
    # Authlib joins id and secret without form-encoding them for Basic: its clients need an id that is plain.
    plain = json.loads(stack.run("client", "create", f"authlib-{method}", "--scope", "read write"))
    with OAuth2Session(
        plain["client_id"],
        plain["client_secret"],
        scope="read",
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
    ) as session:
        token: dict[str, Any] = session.fetch_token(f"{stack.issuer}/oauth/token", grant_type="client_credentials")
        assert token["token_type"] == "Bearer"
        assert token["scope"] == "read"

        def introspect() -> dict[str, Any]:
            answer: dict[str, Any] = session.introspect_token(
                f"{stack.issuer}/oauth/introspect", token=token["access_token"]
            ).json()
            return answer

        assert introspect()["active"] is True
        revoked = session.revoke_token(f"{stack.issuer}/oauth/revoke", token=token["access_token"])
        assert revoked.status_code == 200
        assert introspect() == {"active": False}


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_authlib_uses_a_key(stack: Stack, make_signer: Any, tmp_path: Path, algorithm: str) -> None:
    signer = make_signer(algorithm)
    (tmp_path / "jwks").write_text(json.dumps(signer.jwks()))
    client_id = f"authlib-{algorithm}"
    stack.run("client", "create", client_id, "--scope", "read", "--jwks", str(tmp_path / "jwks"))

    def fetch(**claims: Any) -> dict[str, Any]:
        # Authlib puts the token endpoint into aud and an hour into exp unless told otherwise.
        method = PrivateKeyJWT(stack.issuer, claims=claims, headers={"kid": signer.kid}, alg=algorithm)
        with OAuth2Session(client_id, signer.key, scope="read", token_endpoint_auth_method=method) as session:
            token: dict[str, Any] = session.fetch_token(f"{stack.issuer}/oauth/token", grant_type="client_credentials")
        return token

    assert fetch(exp=int(time.time()) + 60)["scope"] == "read"
    with pytest.raises(OAuthError, match="invalid_client"):
        fetch()


@pytest.mark.parametrize("method", ["basic", "post"])
def test_requests_oauthlib_fetches(stack: Stack, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    plain = json.loads(stack.run("client", "create", f"oauthlib-{method}", "--scope", "read write"))
    with RequestsOAuth2Session(client=BackendApplicationClient(plain["client_id"], scope=["read"])) as session:
        how: dict[str, Any] = (
            {"auth": HTTPBasicAuth(plain["client_id"], plain["client_secret"])}
            if method == "basic"
            else {"client_secret": plain["client_secret"], "include_client_id": True}
        )
        token = session.fetch_token(f"{stack.issuer}/oauth/token", **how)
    assert token["access_token"].startswith("asat_")
    assert token["scope"] == ["read"]


RESOURCE = "https://b.example"
OAUTH4WEBAPI = Path(__file__).with_name("oauth4webapi")


def make_jwt_client(stack: Stack, client_id: str) -> dict[str, Any]:
    options = ("--scope", "read write", "--audience", RESOURCE, "--access-token-format", "jwt")
    made: dict[str, Any] = json.loads(stack.run("client", "create", client_id, *options))
    return made


def test_pyjwt_validates_by_the_published_keys(stack: Stack) -> None:
    form = make_jwt_client(stack, "pyjwt") | {"grant_type": "client_credentials", "scope": "read"}
    token = requests.post(f"{stack.issuer}/oauth/token", form, timeout=60).json()["access_token"]
    jwks_uri = requests.get(f"{stack.issuer}/.well-known/oauth-authorization-server", timeout=60).json()["jwks_uri"]
    key = jwt.PyJWKClient(jwks_uri).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=RESOURCE, issuer=stack.issuer)
    assert claims["client_id"] == "pyjwt"


@pytest.fixture(scope="module")
def oauth4webapi(tmp_path_factory: pytest.TempPathFactory, outside: dict[str, str]) -> Path:
    """A directory in which Node finds the library and our script."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node is not installed")
    directory = tmp_path_factory.mktemp("oauth4webapi")
    for name in ("package.json", "flow.mjs"):
        shutil.copy(OAUTH4WEBAPI / name, directory)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    if subprocess.run(command, check=False, cwd=directory, env=outside, capture_output=True, timeout=60).returncode:
        pytest.skip("oauth4webapi cannot be installed from here")
    return directory


def test_oauth4webapi_uses_the_whole_server(stack: Stack, oauth4webapi: Path, make_signer: Callable[..., Any]) -> None:
    basic = make_jwt_client(stack, "oauth4webapi-basic") | {"method": "client_secret_basic", "format": "jwt"}
    post = json.loads(stack.run("client", "create", "oauth4webapi-post", "--scope", "read"))
    signer = make_signer()
    (oauth4webapi / "jwks").write_text(json.dumps(signer.jwks()))
    stack.run("client", "create", "oauth4webapi-key", "--scope", "read", "--jwks", str(oauth4webapi / "jwks"))
    private = {**signer.key.as_dict(private=True), "kid": signer.kid}
    given = {
        "issuer": stack.issuer,
        "resource": RESOURCE,
        "clients": [
            basic,
            post | {"method": "client_secret_post", "format": "opaque"},
            {"client_id": "oauth4webapi-key", "jwk": private, "format": "opaque"},
        ],
    }
    ran = subprocess.run(
        ["node", "flow.mjs", json.dumps(given)],
        check=False,
        cwd=oauth4webapi,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(": ok") == len(given["clients"])
