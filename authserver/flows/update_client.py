"""Change what an operator gave a client; what is not mentioned stays."""

from __future__ import annotations

from collections.abc import Callable

from authserver.flows.register import require_offered
from authserver.flows.server import AuthorizationServer
from authserver.oauth.registration import ClientMetadata, check_metadata, metadata_of
from authserver.store.clients import NoSuchClient


def update_client(
    server: AuthorizationServer,
    client_id: str,
    change: Callable[[ClientMetadata], ClientMetadata],
    *,
    share_resources: bool = False,
) -> None:
    """Replace the client's metadata by what `change` makes of it; how it authenticates is for `replace_keys`.

    It holds from the next request on; tokens stay as they were issued.
    Raises NoSuchClient, InvalidClientMetadata, ResourceIdentifierTaken (unless `share_resources`), ChangedMeanwhile,
    Unavailable.
    """
    client = server.clients.load(client_id)
    if client is None:
        raise NoSuchClient(client_id)
    before = metadata_of(client)
    after = check_metadata(change(before))
    if after.access_token_format != before.access_token_format:
        require_offered(server, after)
    # What it shares already was allowed then.
    share_resources |= set(after.resource_identifiers) <= set(before.resource_identifiers)
    server.clients.update(client, after, share_resources=share_resources)
