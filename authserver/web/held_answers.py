"""Let the answers to several requests wait for PostgreSQL's disk together, where the worker can hold them."""

from __future__ import annotations

import falcon

from authserver.store.database import Database
from authserver.wsgi import HOLD_FOR


class HeldAnswers:
    """Falcon middleware: tells the database who holds the answer to a request, if anybody does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        self._database.begin_request(req.env.get(HOLD_FOR))
