-- Failed authentication, counted for each client and address, so that it can be throttled in all processes alike
-- (RFC 6749 §2.3.1). Written only when authentication fails.

BEGIN;

-- Unlogged: after a crash the counting starts anew, and nothing else is lost.
CREATE UNLOGGED TABLE authentication_failures (
    -- Unix time in minutes.
    minute   bigint  NOT NULL,
    -- SHA-256 of what failed to authenticate and from where: names and addresses of strangers are not kept.
    who      bytea   NOT NULL CHECK (octet_length(who) = 32),
    failures integer NOT NULL,
    PRIMARY KEY (minute, who)
);

INSERT INTO schema_migrations (version, name) VALUES (8, 'authentication_failures');

COMMIT;
