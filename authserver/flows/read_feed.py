"""Tell followers what was revoked since they last asked (docs/revocation-feed.md)."""

from __future__ import annotations

from typing import Any

from authserver.flows.server import AuthorizationServer
from authserver.oauth.client import READ_REVOCATIONS, Client
from authserver.oauth.client_authentication import ClientCredential
from authserver.oauth.errors import PermissionMissing
from authserver.oauth.forms import Form
from authserver.oauth.revocation_feed import START, check_cursor, feed_page, read_cursor, read_limit


def read_feed(server: AuthorizationServer, credential: ClientCredential, form: Form) -> dict[str, Any]:
    """Authenticate the follower and give one page of revocations, and the cursor to go on from.

    Raises CursorGone if the follower has missed some, OAuthError, Unavailable.
    """
    now = server.now()
    return server.client_cache.authenticated(credential, now, lambda caller: _read(server, caller, form, now))


def _read(server: AuthorizationServer, caller: Client, form: Form, now: int) -> dict[str, Any]:
    if READ_REVOCATIONS not in caller.permissions:
        raise PermissionMissing(f"The client lacks the permission {READ_REVOCATIONS}.")
    cursor, limit = read_cursor(form.get("cursor")), read_limit(form.get("limit"))
    # Without a cursor the follower is told only where the feed is now.
    state, found = server.revocations.read_feed(cursor or START, limit + 1 if cursor else 0, now, caller)
    check_cursor(cursor or START, state)
    return feed_page(cursor, state, found, limit)
