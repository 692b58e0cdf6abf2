"""Whether requests can be served: the database answers and its schema has what this release needs."""

from __future__ import annotations

from authserver.flows.server import AuthorizationServer
from authserver.migrate import is_current, read_migrations


def is_ready(server: AuthorizationServer) -> bool:
    """True if the schema is current or newer. Raises Unavailable if the database cannot be asked."""
    return is_current(server.schema_migrations, read_migrations())
