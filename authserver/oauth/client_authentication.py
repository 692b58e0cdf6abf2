"""Find the client's credential in a request (RFC 6749 §2.3): exactly one method, never in the query string."""

from __future__ import annotations

import base64
import binascii

from authserver.oauth.client import SecretCredential
from authserver.oauth.errors import InvalidClient, InvalidRequest
from authserver.oauth.forms import Form, decode


def read_client_credential(authorization: str | None, form: Form) -> SecretCredential:
    """The one credential of a request.

    Raises InvalidClient if there is none or it cannot be read, InvalidRequest if there are two.
    """
    if authorization is None:
        return _from_body(form)
    # §2.3: "The client MUST NOT use more than one authentication method in each request."
    if form.get("client_secret") is not None or form.get("client_assertion") is not None:
        raise InvalidRequest("The request uses more than one client authentication method.")
    credential = _from_basic(authorization)
    # A bare client_id beside Basic is redundant but common; a different one is a contradiction.
    if form.get("client_id") not in (None, credential.client_id):
        raise InvalidRequest("The client_id differs from the one in the Authorization header.")
    return credential


def _from_body(form: Form) -> SecretCredential:
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if secret is not None and form.get("client_assertion") is not None:
        raise InvalidRequest("The request uses more than one client authentication method.")
    if client_id is None or secret is None:
        raise InvalidClient("no client credential in the request")
    return SecretCredential("client_secret_post", client_id, secret)


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
