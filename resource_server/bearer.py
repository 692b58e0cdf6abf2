"""The Bearer scheme as text: reading credentials from a request, writing challenges (RFC 6750 §2, §3)."""

import re
from typing import Final
from urllib.parse import parse_qsl

from resource_server.errors import InvalidRequestError, InvalidTokenError, MissingTokenError

MAX_TOKEN: Final = 4096
MAX_JWT: Final = 8192

# RFC 6750 §2.1: b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
_B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_JOINED_BEARER: Final = re.compile(r",[ \t]*bearer(?![^ \t,])", re.IGNORECASE)
# RFC 9110 §5.6.4: what a quoted-string can carry, apart from obs-text
_QUOTABLE: Final = re.compile(r"[\t\x20-\x7E]*")
# RFC 6750 §3: error, error_description and scope hold neither quotes nor backslashes
_UNQUOTABLE: Final = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")


def token_from(authorization: str | None, query: str = "") -> str:
    """Take the access token from the `Authorization` field value; `query` is the raw query string.

    Raises `MissingTokenError`, `InvalidRequestError` or `InvalidTokenError`. A token in the query alone
    counts as none (RFC 6750 §2.3 is not offered); together with the field it is a second method (§2).
    """
    credentials = _credentials(authorization)
    # RFC 9110 §5.3: a server joins repeated fields with a comma, which no b64token contains
    if "," in credentials:
        raise InvalidRequestError("more than one Authorization field")
    if not credentials or " " in credentials:
        raise InvalidRequestError("not exactly one token after the scheme")
    if query and _names_token(query):
        raise InvalidRequestError("a token in the query as well as in the header")
    if len(credentials) > (MAX_JWT if credentials.count(".") == 2 else MAX_TOKEN):  # noqa: PLR2004 - RFC 7515 §3.1: a JWS has two dots
        raise InvalidTokenError("longer than any token")
    if not _B64TOKEN.fullmatch(credentials):
        raise InvalidTokenError("characters outside b64token")
    return credentials


def challenge(
    realm: str,
    *,
    error: str | None = None,
    description: str | None = None,
    scope: str | None = None,
    resource_metadata: str | None = None,
) -> str:
    """Build a `WWW-Authenticate` field value (RFC 6750 §3, RFC 9728 §5.1); each attribute appears once.

    Raises `ValueError` for text that the grammar cannot carry.
    """
    attributes = [("realm", _quoted(realm))]
    for name, value in (("error", error), ("error_description", description), ("scope", scope)):
        if value is not None:
            attributes.append((name, _verbatim(name, value)))
    if resource_metadata is not None:
        attributes.append(("resource_metadata", _quoted(resource_metadata)))
    return "Bearer " + ", ".join(f"{name}={value}" for name, value in attributes)


def _credentials(authorization: str | None) -> str:
    scheme, _, credentials = (authorization or "").strip(" \t").partition(" ")
    # RFC 9110 §11.1: the scheme is case-insensitive
    if scheme.lower() == "bearer":
        return credentials.strip(" ")
    # a scheme of its own or one joined to a Bearer field: the first is no token, the second one too many
    if _JOINED_BEARER.search(authorization or "") or scheme.lower().startswith("bearer,"):
        raise InvalidRequestError("more than one Authorization field")
    raise MissingTokenError("no Bearer credentials")


def _names_token(query: str) -> bool:
    return any(name == "access_token" for name, _ in parse_qsl(query, keep_blank_values=True))


def _quoted(value: str) -> str:
    if not _QUOTABLE.fullmatch(value):
        raise ValueError("a quoted-string takes printable ASCII only (RFC 9110 §5.6.4)")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _verbatim(name: str, value: str) -> str:
    if not _UNQUOTABLE.fullmatch(value):
        raise ValueError(f"{name} takes neither quotes, backslashes nor non-ASCII (RFC 6750 §3)")
    return f'"{value}"'
