"""Resource indicators (RFC 8707) and resource identifiers (RFC 9728): absolute URIs that become `aud`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from authserver.oauth.errors import InvalidTarget

MAX_RESOURCES = 16
# RFC 3986 §4.3 absolute-URI, in ASCII and without a fragment; what follows the scheme must not be empty.
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


def is_resource_identifier(value: str) -> bool:
    """Whether a text may name a resource: an absolute URI without fragment (RFC 8707 §2)."""
    return len(value) <= 512 and _ABSOLUTE_URI.fullmatch(value) is not None  # noqa: PLR2004 - more is no name


def grant_audience(requested: Sequence[str], registered: Sequence[str]) -> list[str]:
    """The audience to grant: the requested resources, or else all that are registered for the client.

    Raises InvalidTarget if a resource is malformed, not registered for the client, or there are too many.
    """
    if not requested:
        return list(registered)
    if len(requested) > MAX_RESOURCES:
        raise InvalidTarget("There are too many resources.")
    if not all(is_resource_identifier(value) for value in requested):
        raise InvalidTarget("A resource must be an absolute URI without a fragment.")
    if not set(requested) <= set(registered):
        raise InvalidTarget("A resource is not one that the client may request tokens for.")
    return list(dict.fromkeys(requested))
