-- Revocations (RFC 7009): what the feed tells those who cache introspection or validate JWTs by themselves.
--
-- Append-only, written in the transaction that revokes, and kept until nothing that it concerns can still be alive.
-- Partitioned by expiry as access_tokens is, and for the same reason.

BEGIN;

CREATE SEQUENCE revocations_seq;

CREATE TABLE revocations (
    -- Unix seconds. From then on nobody need remember it.
    expires_at    bigint NOT NULL,
    -- The feed reads from a transaction id below which nothing can still appear (pg_snapshot_xmin). An order by seq alone
    -- would not do: a row with a lower number may commit after one with a higher number was read.
    xid           xid8   NOT NULL DEFAULT pg_current_xact_id(),
    seq           bigint NOT NULL DEFAULT nextval('revocations_seq'),
    -- One of three: a token, by SHA-256 ...
    token_hash    bytea  CHECK (octet_length(token_hash) = 32),
    -- ... all tokens of a client that were issued before a time (Unix seconds) ...
    client_id     text,
    issued_before bigint,
    -- ... all tokens that a signing key has signed.
    kid           text,
    CONSTRAINT revocations_concern_one_thing CHECK (num_nonnulls(token_hash, client_id, kid) = 1),
    CONSTRAINT revocations_of_clients_have_a_time CHECK ((client_id IS NULL) = (issued_before IS NULL))
) PARTITION BY RANGE (expires_at);

CREATE TABLE revocations_default PARTITION OF revocations DEFAULT;

CREATE UNIQUE INDEX revocations_token ON revocations (expires_at, token_hash);
CREATE INDEX revocations_feed ON revocations (xid, seq);
CREATE INDEX revocations_client ON revocations (client_id) WHERE client_id IS NOT NULL;

-- A restore from a dump gets another epoch by hand (UPDATE revocation_feed SET epoch = gen_random_uuid()); a
-- point-in-time recovery and a failover have another timeline by themselves. Followers then drop what they cached.
CREATE TABLE revocation_feed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO revocation_feed DEFAULT VALUES;

-- Where the feed stood at a time (Unix seconds), noted by `authserver maintain`: a cursor below the mark of a time that is
-- longer ago than revocations are kept has missed some.
CREATE TABLE revocation_feed_marks (
    noted_at bigint PRIMARY KEY,
    mark     xid8   NOT NULL
);

ALTER TABLE clients
    -- Unix seconds. Tokens issued before are inactive, whatever their format.
    ADD COLUMN tokens_valid_from   bigint NOT NULL DEFAULT 0,
    ADD COLUMN access_token_format text   NOT NULL DEFAULT 'opaque' CHECK (access_token_format IN ('opaque', 'jwt'));

-- No token lives longer than a day (see access_token_lifetime); ten minutes more for clocks that disagree.
CREATE FUNCTION revocation_expiry() RETURNS bigint LANGUAGE sql
    RETURN extract(epoch FROM clock_timestamp())::bigint + 86400 + 600;

-- Triggers, so that a change made by hand in psql reaches the caches too.
CREATE FUNCTION clients_revoke_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        -- A little ahead: until this commits, other processes go on issuing to the client.
        INSERT INTO revocations (expires_at, client_id, issued_before)
        VALUES (revocation_expiry(), OLD.client_id,
                greatest(OLD.tokens_valid_from + 1, floor(extract(epoch FROM clock_timestamp()))::bigint + 2));
    ELSE
        INSERT INTO revocations (expires_at, client_id, issued_before)
        VALUES (revocation_expiry(), NEW.client_id, NEW.tokens_valid_from);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER clients_deleted_revoke_tokens AFTER DELETE ON clients
    FOR EACH ROW EXECUTE FUNCTION clients_revoke_tokens();
CREATE TRIGGER clients_updated_revoke_tokens AFTER UPDATE OF tokens_valid_from ON clients
    FOR EACH ROW WHEN (NEW.tokens_valid_from > OLD.tokens_valid_from) EXECUTE FUNCTION clients_revoke_tokens();

-- A client made again under the name of one that was deleted must not bring that one's tokens back to life.
CREATE FUNCTION clients_outlive_namesakes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tokens_valid_from := greatest(
        NEW.tokens_valid_from, (SELECT max(issued_before) FROM revocations WHERE client_id = NEW.client_id));
    RETURN NEW;
END
$$;

CREATE TRIGGER clients_outlive_namesakes BEFORE INSERT ON clients
    FOR EACH ROW EXECUTE FUNCTION clients_outlive_namesakes();

INSERT INTO schema_migrations (version, name) VALUES (4, 'revocations');

COMMIT;
