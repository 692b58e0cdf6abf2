-- Keys that sign JWT access tokens (RFC 9068): an ordered list in which the newest that may sign does, and all verify.

BEGIN;

CREATE TABLE signing_keys (
    kid         text   PRIMARY KEY CHECK (kid <> ''),
    alg         text   NOT NULL CHECK (alg IN ('ES256', 'EdDSA', 'RS256')),
    -- A JWK (RFC 7517) without private members.
    public_key  jsonb  NOT NULL CHECK (NOT public_key ?| ARRAY['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']),
    -- The whole JWK, encrypted as a JWE (RFC 7516) under AUTHSERVER_KEY_ENCRYPTION_KEY.
    private_key text   NOT NULL,
    -- Unix seconds. Published from created_at on, signing from signs_from on until the next one does.
    created_at  bigint NOT NULL,
    signs_from  bigint NOT NULL CHECK (signs_from >= created_at),
    revoked_at  bigint
);

-- The version moves with every change; statements return it, so that a process notices that its keys are old.
CREATE TABLE signing_key_ring (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint  NOT NULL DEFAULT 1
);
INSERT INTO signing_key_ring DEFAULT VALUES;

CREATE FUNCTION signing_keys_move_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE signing_key_ring SET version = version + 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER signing_keys_move_version AFTER INSERT OR UPDATE OR DELETE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION signing_keys_move_version();

CREATE FUNCTION signing_keys_revoke_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revocations (expires_at, kid) VALUES (revocation_expiry(), NEW.kid);
    RETURN NULL;
END
$$;

CREATE TRIGGER signing_keys_revoke_tokens AFTER UPDATE OF revoked_at ON signing_keys
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL)
    EXECUTE FUNCTION signing_keys_revoke_tokens();

INSERT INTO schema_migrations (version, name) VALUES (5, 'signing_keys');

COMMIT;
