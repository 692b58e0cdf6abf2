-- How many access tokens a client may be issued in a minute: counted where it issues a good part of that, and only there.

BEGIN;

ALTER TABLE clients
    -- NULL: the server's (AUTHSERVER_TOKENS_PER_MINUTE); 0: as many as it likes. An operator's to give.
    ADD COLUMN tokens_per_minute integer CHECK (tokens_per_minute BETWEEN 0 AND 1000000);

-- Unlogged: after a crash the counting starts anew, and nothing else is lost.
CREATE UNLOGGED TABLE issued_tokens (
    -- Unix time in minutes.
    minute bigint  NOT NULL,
    -- clients.id. No foreign key: it is forgotten after a minute anyway.
    client bigint  NOT NULL,
    tokens integer NOT NULL,
    PRIMARY KEY (minute, client)
);

INSERT INTO schema_migrations (version, name) VALUES (9, 'token_budgets');

COMMIT;
