"""The Bearer scheme as text."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.bearer import MAX_JWT, MAX_TOKEN, challenge, token_from
from resource_server.errors import AccessError, InvalidRequestError, InvalidTokenError, MissingTokenError

TOKENS = st.from_regex(r"[A-Za-z0-9\-._~+/]{1,80}={0,2}", fullmatch=True)
# RFC 9110 §11.2 and §5.6.4, read independently of the code under test
ATTRIBUTE = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:, |$)')


def attributes(value: str) -> list[tuple[str, str]]:
    rest, found = value.removeprefix("Bearer "), []
    while rest:
        match = ATTRIBUTE.match(rest)
        assert match, rest
        found.append((match[1], re.sub(r"\\(.)", r"\1", match[2])))
        rest = rest[match.end() :]
    return found


@pytest.mark.parametrize("value", [None, "", " ", "Basic YTpi", "Bearerabc", "Bearer\tabc", 'Digest a="b", c="d"'])
def test_s1_no_bearer_credentials_is_no_token(value):
    with pytest.raises(MissingTokenError):
        token_from(value)


@given(TOKENS, st.sampled_from(["Bearer", "bearer", "BEARER", "bEaReR"]), st.integers(1, 3))
def test_s2_scheme_is_case_insensitive(token, scheme, spaces):
    assert token_from(f"{scheme}{' ' * spaces}{token}") == token


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer a,Bearer b",
        "Bearer a, b",
        "Bearer a,",
        "Basic YTpi, Bearer b",
        "Basic YTpi,bearer b",
        "Bearer,Bearer a",
        "Bearer , Bearer a",
    ],
)
def test_s2_not_exactly_one_token_is_an_invalid_request(value):
    with pytest.raises(InvalidRequestError):
        token_from(value)


@pytest.mark.parametrize("token", ["a%b", "a=b", "ä", "a\x00", '"a"', "=", "a\tb", "a" * (MAX_TOKEN + 1)])
def test_s3_what_is_no_token_is_invalid(token):
    with pytest.raises(InvalidTokenError):
        token_from(f"Bearer {token}")


def test_s3_a_jwt_may_be_longer():
    jwt = "a.b." + "c" * (MAX_JWT - 4)
    assert token_from(f"Bearer {jwt}") == jwt
    with pytest.raises(InvalidTokenError):
        token_from(f"Bearer {jwt}c")


@pytest.mark.parametrize("query", ["access_token=a", "access_token=", "x=1&access%5Ftoken=a", "access_token"])
def test_s4_token_in_query_together_with_header_is_an_invalid_request(query):
    with pytest.raises(InvalidRequestError):
        token_from("Bearer a", query)
    with pytest.raises(MissingTokenError):
        token_from(None, query)


@given(st.text(), st.text())
def test_s2_any_field_is_a_token_or_a_refusal(value, query):
    for field in (value, f"Bearer {value}"):
        with suppress(AccessError):
            assert re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", token_from(field, query))


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_s9_quoting_survives_a_round_trip(realm):
    built = challenge(realm, error="invalid_token", description="d", scope="a b", resource_metadata="https://r")
    names = [("error", "invalid_token"), ("error_description", "d"), ("scope", "a b")]
    assert attributes(built) == [("realm", realm), *names, ("resource_metadata", "https://r")]


@given(st.text())
def test_s9_a_challenge_is_one_line_of_ascii_or_refused(text):
    for build in (lambda: challenge(text), lambda: challenge("r", description=text)):
        try:
            built = build()
        except ValueError:
            continue
        assert built.isascii()
        assert not re.search(r"[\r\n]", built)
        assert len(dict(attributes(built))) == len(attributes(built))
