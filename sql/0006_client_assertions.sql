-- Clients that prove themselves with keys (RFC 7523 §2.2): their keys, and the assertions that were used.

BEGIN;

ALTER TABLE clients
    -- The one algorithm of its assertions; NULL: any that its keys permit.
    ADD COLUMN token_endpoint_auth_signing_alg text
        CHECK (token_endpoint_auth_signing_alg IN ('ES256', 'EdDSA', 'RS256', 'PS256')),
    -- A JWK Set (RFC 7517) without private or symmetric keys ...
    ADD COLUMN jwks jsonb
        CHECK (NOT jsonb_path_exists(jwks, '$.keys[*] ? (exists (@.d) || exists (@.k))')),
    -- ... or the URL at which there is one.
    ADD COLUMN jwks_uri text,
    ADD CONSTRAINT clients_keys_are_in_one_place CHECK (num_nonnulls(jwks, jwks_uri) <= 1);

-- Each assertion is good once. Partitioned by expiry as access_tokens is, and for the same reason.
CREATE TABLE assertion_jtis (
    -- Unix seconds, in whole windows (see authserver/store/assertion_jtis.py). From then on nobody need remember it.
    expires_at bigint NOT NULL,
    -- SHA-256 of the client_id and the jti.
    jti_hash   bytea  NOT NULL CHECK (octet_length(jti_hash) = 32),
    -- A number that one request drew, so that it recognises its own row if it has to repeat the statement.
    used_by    bytea  NOT NULL CHECK (octet_length(used_by) = 16),
    -- Whoever comes second, in whatever process, finds the row.
    PRIMARY KEY (expires_at, jti_hash)
) PARTITION BY RANGE (expires_at);

CREATE TABLE assertion_jtis_default PARTITION OF assertion_jtis DEFAULT;

INSERT INTO schema_migrations (version, name) VALUES (6, 'client_assertions');

COMMIT;
