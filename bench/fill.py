"""Fill the tables with what years of use would leave, by statements of PostgreSQL's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg

from authserver.dev.stopping import interruptible

# Rows are durable once they are committed; only the wait for the disk after each statement is left out.
_PART = 500_000
_QUICKLY = "SET synchronous_commit = off"
_TOKENS = """
INSERT INTO access_tokens (expires_at, short_hash, client, issued_at, scope, audience)
SELECT %(lower)s + at * (%(upper)s - %(lower)s) / %(number)s, substring(sha256(int8send(at)) FOR 23), client.id,
       %(lower)s - 3600, 'read', %(audience)s
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) at,
       (SELECT id FROM clients WHERE client_id = %(client_id)s) client
"""
_REVOCATIONS = """
INSERT INTO revocations (expires_at, short_hash)
SELECT %(lower)s + at * (%(upper)s - %(lower)s) / %(number)s, substring(sha256(int8send(at)) FOR 23)
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) at
"""
_CLIENTS = """
WITH made AS (
    INSERT INTO clients (client_id, scopes, default_scopes, audiences)
    SELECT 'filled-' || at, '{read}', '{read}', ARRAY['https://' || at || '.example']
      FROM generate_series(1, %(number)s::bigint) at
    RETURNING id)
INSERT INTO client_secrets (client, label, secret_hash) SELECT id, 'first', sha256(int8send(id)) FROM made
"""


def tokens(url: str, client_id: str, audience: str, number: int, *, lower: int, upper: int) -> None:
    """So many opaque tokens whose expiry lies evenly between two times, in Unix seconds."""
    parameters = {"client_id": client_id, "audience": audience, "lower": lower, "upper": upper}
    _in_parts(url, _TOKENS, number, parameters)


def revocations(url: str, number: int, *, lower: int, upper: int) -> None:
    """So many revoked tokens."""
    _in_parts(url, _REVOCATIONS, number, {"lower": lower, "upper": upper})


def clients(url: str, number: int) -> None:
    """So many clients with a secret each."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_QUICKLY)
        connection.execute(_CLIENTS, {"number": number})


def settle(url: str) -> None:
    """Let the planner know what is there, and the disk have it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE, FREEZE)")
        connection.execute("CHECKPOINT")


def _in_parts(url: str, statement: str, number: int, parameters: dict[str, object]) -> None:
    """By two sessions, part by part, in the order of expiry as the server's own rows come."""

    def fill(first: int) -> None:
        part = {"number": number, "first": first, "last": min(first + _PART, number) - 1}
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_QUICKLY)
            connection.execute(statement, parameters | part)

    with ThreadPoolExecutor(2) as pool, interruptible():
        list(pool.map(fill, range(0, number, _PART)))
