"""The rules for assertions and keys, with input that nobody thought of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authserver.oauth import public_keys
from authserver.oauth.client_assertion import (
    MAX_AHEAD,
    SKEW,
    Assertion,
    AssertionCredential,
    check_self_issued,
    read_assertion,
)
from authserver.oauth.compact_jws import CompactJWS, InvalidJWS, read_compact_jws
from authserver.oauth.errors import InvalidClient
from authserver.oauth.public_keys import InvalidKeySet, read_key_set
from authserver.oauth.trusted_issuer import TrustedIssuer, Workload, check_workload

NOW = 1_800_000_000
ISSUER = "https://as.example"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
times = st.integers(NOW - 1000, NOW + 1000) | st.floats(NOW - 1000, NOW + 1000) | json_values
claims = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("c") | json_values,
        "iss": st.just("c") | json_values,
        "sub": st.just("c") | json_values,
        "aud": st.just(ISSUER) | st.just([ISSUER]) | json_values,
        "exp": times,
        "nbf": times,
        "iat": times,
        "jti": st.text(max_size=8) | json_values,
    },
)


def is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@given(claims, st.none() | st.just("c") | st.just("d"))
def test_a1_to_a5_what_is_accepted_keeps_every_rule(given_claims: dict[str, Any], client_id: str | None) -> None:
    assertion = Assertion("c", "c", client_id, CompactJWS("ES256", None, None, given_claims, b"", b""))
    try:
        use = check_self_issued(assertion, ISSUER, NOW)
    except InvalidClient:
        return
    assert client_id in (None, "c")
    assert given_claims["aud"] == ISSUER
    assert is_time(given_claims["exp"])
    assert NOW - SKEW < given_claims["exp"] <= NOW + MAX_AHEAD + SKEW
    for claim in ("nbf", "iat"):
        assert claim not in given_claims or given_claims[claim] <= NOW + SKEW
    assert given_claims["jti"]
    assert use.until >= given_claims["exp"] + SKEW


@given(claims, st.sampled_from(["sub", "name"]), st.none() | st.just("c") | st.just("d"))
def test_what_is_accepted_of_a_workload_keeps_every_rule(
    given_claims: dict[str, Any], claim: str, client_id: str | None
) -> None:
    issuer = TrustedIssuer(1, "prod", "iss", ISSUER, None, ["ES256"], claim)
    workload = Workload(issuer, "c", Named("c"))  # type: ignore[arg-type] # of the client only its id is looked at
    assertion = Assertion("iss", "c", client_id, CompactJWS("ES256", None, None, given_claims, b"", b""))
    try:
        check_workload(assertion, workload, NOW)
    except InvalidClient:
        return
    assert client_id in (None, "c")
    assert ISSUER in (given_claims["aud"] if isinstance(given_claims["aud"], list) else [given_claims["aud"]])
    assert given_claims[claim] == "c"
    assert given_claims["exp"] > NOW - SKEW
    for time in ("nbf", "iat"):
        assert time not in given_claims or given_claims[time] <= NOW + SKEW


@dataclass
class Named:
    """A client, as far as these rules look at it."""

    client_id: str


@given(st.integers(-SKEW + 1, MAX_AHEAD + SKEW), st.text(min_size=1, max_size=100), st.sampled_from([None, "c"]))
def test_what_keeps_every_rule_is_accepted(ahead: int, jti: str, client_id: str | None) -> None:
    good = {"iss": "c", "sub": "c", "aud": ISSUER, "exp": NOW + ahead, "jti": jti}
    assertion = Assertion("c", "c", client_id, CompactJWS("ES256", None, None, good, b"", b""))
    assert len(check_self_issued(assertion, ISSUER, NOW).jti_hash) == 32


segments = st.text("eyJ30.-_=A", max_size=40) | st.text(max_size=40) | st.binary(max_size=40).map(bytes.hex)


@given(st.lists(segments, max_size=4).map(".".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_compact_jws(text)
    except InvalidJWS:
        return
    assert text.count(".") == 2


@given(json_values, json_values)
def test_any_json_is_read_or_refused(make_signer: Any, header: Any, payload: Any) -> None:
    signer = SIGNERS.setdefault("ES256", make_signer())
    members = header if isinstance(header, dict) else {"typ": header}
    try:
        text = signer.sign(payload, **{str(name): value for name, value in members.items() if name != "payload"})
    except ValueError:
        return
    try:
        read_assertion(AssertionCredential(None, text))
    except InvalidClient:
        return
    assert json.loads(json.dumps(payload))["iss"]


SIGNERS: dict[str, Any] = {}


jwks = st.fixed_dictionaries(
    {"kty": st.sampled_from(["EC", "OKP", "RSA", "oct"]), "crv": st.sampled_from(["P-256", "Ed25519"])},
    optional={
        "x": st.text("Ab_-=", max_size=44) | json_values,
        "y": st.text("Ab_-=", max_size=44) | json_values,
        "n": st.text("Ab_-=", min_size=342, max_size=350) | json_values,
        "e": st.just("AQAB") | json_values,
        **dict.fromkeys(("kid", "use", "key_ops", "alg"), json_values),
    },
)


@settings(max_examples=300)
@given(json_values | st.fixed_dictionaries({"keys": st.lists(json_values | jwks, max_size=3)}))
def test_any_json_is_a_key_set_or_refused(document: Any) -> None:
    try:
        keys = read_key_set(document).keys
    except InvalidKeySet:
        return
    for key in keys:
        for algorithm in ("ES256", "EdDSA", "RS256", "PS256", "none", "HS256"):
            assert not key.verifies(algorithm, b"signed", b"signature")


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256", "PS256"])
def test_there_is_a_stand_in_for_every_algorithm(algorithm: str) -> None:
    assert public_keys._NOBODY.find(None, algorithm) is not None
    public_keys.verify_for_nobody(algorithm, b"signed", bytes([255]) * 256)
