"""Issuers whose tokens say which client a workload is (RFC 7521 §4.2): Kubernetes clusters and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authserver.oauth.client import Client
from authserver.oauth.client_assertion import NAME, Assertion, check_times
from authserver.oauth.errors import InvalidClient
from authserver.oauth.public_keys import ALGORITHMS, InvalidKeySet, RegisteredKeys, read_key_set

DISCOVERY = "/.well-known/openid-configuration"
SERVICE_ACCOUNT = "system:serviceaccount:"
_DEFAULT_SERVICE_ACCOUNT = re.compile(rf"{SERVICE_ACCOUNT}[^:]*:default")
_ISSUER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_CLAIM = re.compile(r"[\x21-\x7e]{1,128}")
_MAX_AUDIENCES = 16


class InvalidIssuer(Exception):
    """An issuer or a binding cannot be as it was described; the message says why, for the operator."""


@dataclass(frozen=True)
class TrustedIssuer:
    """An issuer that the operator declared. Without `jwks` its keys are found by discovery."""

    id: int
    name: str
    issuer: str
    audience: str
    jwks: RegisteredKeys | None = None
    algorithms: Sequence[str] = ALGORITHMS
    subject_claim: str = "sub"


@dataclass(frozen=True)
class Workload:
    """Whom a trusted issuer's subject is bound to."""

    issuer: TrustedIssuer
    subject: str
    client: Client


def check_issuer(issuer: TrustedIssuer) -> None:
    """Return if an issuer can be declared so. Raises InvalidIssuer."""
    if not _ISSUER_NAME.fullmatch(issuer.name):
        raise InvalidIssuer("a name is up to 63 of a-z, 0-9, '.', '_' and '-'")
    if not NAME.fullmatch(issuer.issuer) or not NAME.fullmatch(issuer.audience):
        raise InvalidIssuer("issuer and audience are 1 to 512 printable ASCII characters")
    if not issuer.algorithms or not set(issuer.algorithms) <= set(ALGORITHMS):
        raise InvalidIssuer(f"algorithms are {', '.join(ALGORITHMS)}")
    if not _CLAIM.fullmatch(issuer.subject_claim):
        raise InvalidIssuer("a claim's name is 1 to 128 printable ASCII characters")
    if issuer.jwks is not None:
        try:
            keys = read_key_set(issuer.jwks.document).keys
        except InvalidKeySet as error:
            raise InvalidIssuer(f"the key set {error}") from None
        if all(set(issuer.algorithms).isdisjoint(key.algorithms) for key in keys):
            raise InvalidIssuer("the key set holds no key for the algorithms")


def check_subject(subject: str) -> None:
    """Return if a subject may be bound to a client. Raises InvalidIssuer."""
    if not NAME.fullmatch(subject):
        raise InvalidIssuer("a subject is 1 to 512 printable ASCII characters")
    if _DEFAULT_SERVICE_ACCOUNT.fullmatch(subject):
        raise InvalidIssuer("a default service account is that of every pod which asks for none; make one of its own")


def service_account(text: str) -> str:
    """The subject of a Kubernetes service account given as `namespace/name`. Raises InvalidIssuer."""
    namespace, slash, name = text.partition("/")
    if not slash or not all(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", part) for part in (namespace, name)):
        raise InvalidIssuer(f"'{text}' is not NAMESPACE/NAME")
    return f"{SERVICE_ACCOUNT}{namespace}:{name}"


def audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The `aud` of a token, which may be one or several (RFC 7519 §4.1.3). Raises InvalidClient."""
    found = claims.get("aud")
    values = found if isinstance(found, list) else [found]
    if not 0 < len(values) <= _MAX_AUDIENCES or not all(isinstance(v, str) and NAME.fullmatch(v) for v in values):
        raise InvalidClient("the assertion's aud is missing or malformed")
    return tuple(values)


def subject_candidates(claims: Mapping[str, Any]) -> dict[str, str]:
    """The claims that can name a subject, whichever of them the issuer is configured for."""
    return {
        claim: value
        for claim, value in claims.items()
        if isinstance(value, str) and NAME.fullmatch(value) and _CLAIM.fullmatch(claim)
    }


def check_workload(assertion: Assertion, workload: Workload, now: int) -> None:
    """Return if the claims are those of this workload at this time. Raises InvalidClient.

    Neither a `jti` nor a near expiry is asked for: a workload uses its token until the cluster renews it.
    """
    claims, issuer = assertion.jws.claims, workload.issuer
    if assertion.issuer != issuer.issuer or issuer.audience not in audiences(claims):
        raise InvalidClient("the assertion's iss and aud are not those of the trusted issuer")
    if claims.get(issuer.subject_claim) != workload.subject:
        raise InvalidClient("the assertion's subject is not the one that is bound")
    if any(_DEFAULT_SERVICE_ACCOUNT.fullmatch(name) for name in (assertion.subject, workload.subject)):
        raise InvalidClient("the assertion is that of a default service account")
    if assertion.client_id not in (None, workload.client.client_id):
        raise InvalidClient("the client_id is not the one that the assertion's subject is bound to")
    check_times(claims, now)
    if assertion.jws.algorithm not in issuer.algorithms:
        raise InvalidClient("the assertion's alg is not one of the trusted issuer's")


def read_discovery(document: object, issuer: str) -> str:
    """The `jwks_uri` of an issuer's own configuration (OpenID Connect Discovery §4.3). Raises InvalidKeySet."""
    if not isinstance(document, Mapping) or document.get("issuer") != issuer:
        raise InvalidKeySet("was to be found through a configuration that is another issuer's")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise InvalidKeySet("has no URL in the issuer's configuration")
    return uri
