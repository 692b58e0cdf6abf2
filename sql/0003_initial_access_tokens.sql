-- Initial access tokens: who may register clients (RFC 7591 §3).

BEGIN;

CREATE TABLE initial_access_tokens (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    label          text        NOT NULL CHECK (label <> ''),
    token_hash     bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    CONSTRAINT initial_access_tokens_label_is_unique UNIQUE (label)
);

INSERT INTO schema_migrations (version, name) VALUES (3, 'initial_access_tokens');

COMMIT;
