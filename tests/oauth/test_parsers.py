"""The pure parsers, on whatever hypothesis thinks of: a value or an OAuthError, and round trips."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from urllib.parse import quote_plus, urlencode

from hypothesis import given
from hypothesis import strategies as st

from authserver.oauth.client_authentication import read_client_credential
from authserver.oauth.credentials import make_opaque_token, read_opaque_token
from authserver.oauth.errors import InvalidScope, OAuthError
from authserver.oauth.forms import Form, parse_form
from authserver.oauth.registration import read_metadata
from authserver.oauth.resource import is_resource_identifier
from authserver.oauth.scope import grant_scope, parse_scope

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
members = st.sampled_from(
    ["client_name", "scope", "default_scope", "grant_types", "audiences", "resource_identifiers", "permissions"]
)


@given(st.binary(max_size=300))
def test_a_form_is_parsed_or_refused(body: bytes) -> None:
    with suppress(OAuthError):
        parse_form(body)


@given(st.dictionaries(text, text, max_size=10))
def test_a_form_comes_back_as_it_was_sent(parameters: dict[str, str]) -> None:
    form = parse_form(urlencode(parameters).encode())
    assert {name: form.get(name) for name in parameters} == parameters


@given(text, text)
def test_basic_credentials_come_back_as_they_were_sent(client_id: str, secret: str) -> None:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    credential = read_client_credential("Basic " + base64.b64encode(pair.encode()).decode(), Form({}))
    assert (credential.client_id, credential.secret) == (client_id, secret)


@given(st.text(max_size=100))
def test_an_authorization_header_is_read_or_refused(header: str) -> None:
    with suppress(OAuthError):
        read_client_credential(header, Form({}))
    with suppress(OAuthError):
        read_client_credential("Basic " + header, Form({}))


@given(st.text(max_size=40))
def test_scope_follows_the_grammar(scope: str) -> None:
    # RFC 6749 §3.3: scope = scope-token *( SP scope-token ); scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
    good = all(word and all(c == "!" or "#" <= c <= "[" or "]" <= c <= "~" for c in word) for word in scope.split(" "))
    try:
        words = parse_scope(scope)
    except InvalidScope:
        assert not good
    else:
        assert good
        assert set(words) == set(scope.split(" "))


@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd"), min_size=1))
def test_no_more_scope_is_granted_than_registered(registered: set[str], requested: set[str]) -> None:
    try:
        granted = grant_scope(" ".join(requested), sorted(registered), [])
    except InvalidScope:
        assert not requested <= registered
    else:
        assert set(granted.split(" ")) == requested <= registered


@given(st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32))
def test_an_opaque_token_names_its_expiry(expires_at: int, randomness: bytes) -> None:
    token = make_opaque_token(expires_at, lambda _size: randomness)
    assert read_opaque_token(token) == expires_at
    assert re.fullmatch(r"[A-Za-z0-9._~+/-]+", token)
    for spoiled in (token[:-1], token + "A", token.upper(), token + "\n", " " + token):
        assert read_opaque_token(spoiled) is None


@given(st.text(max_size=60))
def test_a_resource_identifier_has_no_fragment_and_nothing_unprintable(value: str) -> None:
    if is_resource_identifier(value):
        assert "#" not in value
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value
        assert ":" in value


@given(st.dictionaries(members | st.text(), json_values, max_size=6))
def test_metadata_is_read_or_refused(document: dict[str, object]) -> None:
    with suppress(OAuthError):
        read_metadata(document)
