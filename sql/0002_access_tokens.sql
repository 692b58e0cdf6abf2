-- Opaque access tokens (RFC 6749 §1.4), partitioned by expiry: cleaning up is dropping a partition.
--
-- Partitions are made ahead and dropped behind by `authserver maintain`. A token for which there is none lands in
-- access_tokens_default, so a late maintenance run never stops issuing.

BEGIN;

CREATE TABLE access_tokens (
    -- Unix seconds, as in the token itself, which thereby names its partition.
    expires_at bigint NOT NULL,
    token_hash bytea  NOT NULL CHECK (octet_length(token_hash) = 32),
    -- clients.id. No foreign key: deleting a client must not visit its tokens. They die with it because
    -- introspection joins the client, and an id is never given out again.
    client     bigint NOT NULL,
    issued_at  bigint NOT NULL,
    revoked_at bigint,
    scope      text   NOT NULL,
    audience   text[] NOT NULL,
    -- Expiry first: tokens made together lie together, so inserts touch the right edge of the index and stay
    -- as fast with ten million rows as with ten.
    PRIMARY KEY (expires_at, token_hash)
) PARTITION BY RANGE (expires_at);

CREATE TABLE access_tokens_default PARTITION OF access_tokens DEFAULT;

INSERT INTO schema_migrations (version, name) VALUES (2, 'access_tokens');

COMMIT;
