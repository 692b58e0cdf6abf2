"""Find the client's credential in a request (RFC 6749 §2.3): exactly one method, never in the query string."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

from authserver.oauth.client import SecretCredential
from authserver.oauth.client_assertion import JWT_BEARER, AssertionCredential
from authserver.oauth.errors import InvalidClient, InvalidRequest
from authserver.oauth.forms import Form, decode

ClientCredential = SecretCredential | AssertionCredential


def read_client_credential(authorization: str | None, form: Form, address: str = "") -> ClientCredential:
    """The one credential of a request from an address.

    Raises InvalidClient if there is none or it cannot be read, InvalidRequest if there are two.
    """
    credential = _from_body(form) if authorization is None else _from_header(authorization, form)
    return replace(credential, address=address)


def _from_header(authorization: str, form: Form) -> SecretCredential:
    # §2.3: "The client MUST NOT use more than one authentication method in each request."
    if form.get("client_secret") is not None or _has_assertion(form):
        raise InvalidRequest("The request uses more than one client authentication method.")
    credential = _from_basic(authorization)
    # A bare client_id beside Basic is redundant but common; a different one is a contradiction.
    if form.get("client_id") not in (None, credential.client_id):
        raise InvalidRequest("The client_id differs from the one in the Authorization header.")
    return credential


def _from_body(form: Form) -> ClientCredential:
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if _has_assertion(form):
        if secret is not None:
            raise InvalidRequest("The request uses more than one client authentication method.")
        return _from_assertion(form)
    if client_id is None or secret is None:
        raise InvalidClient("no client credential in the request")
    return SecretCredential("client_secret_post", client_id, secret)


def _has_assertion(form: Form) -> bool:
    return form.get("client_assertion") is not None or form.get("client_assertion_type") is not None


def _from_assertion(form: Form) -> AssertionCredential:
    assertion = form.get("client_assertion")
    if assertion is None or form.get("client_assertion_type") != JWT_BEARER:
        # RFC 7521 §4.2.1: a failed authentication, not a malformed request.
        raise InvalidClient("no client assertion, or not of the type jwt-bearer")
    return AssertionCredential(form.get("client_id"), assertion)


def _from_basic(authorization: str) -> SecretCredential:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise InvalidClient("the Authorization header is not Basic")
    try:
        raw = base64.b64decode(value.strip(" "), validate=True)
        raw_id, colon, raw_secret = raw.partition(b":")
        # §2.3.1: both parts were form-encoded before they were joined.
        client_id, secret = decode(raw_id), decode(raw_secret)
    except (binascii.Error, ValueError, InvalidRequest):
        raise InvalidClient("malformed Basic credentials") from None
    if not colon or not client_id:
        raise InvalidClient("malformed Basic credentials")
    return SecretCredential("client_secret_basic", client_id, secret)
