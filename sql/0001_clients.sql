-- Clients (RFC 6749 §2), their secrets, and the ledger of applied migrations.
--
-- By hand:    psql -v ON_ERROR_STOP=1 -f sql/0001_clients.sql "$AUTHSERVER_DATABASE_URL"
-- By runner:  authserver migrate
-- Both are the same act and leave the same record.

BEGIN;

CREATE TABLE schema_migrations (
    version    integer     PRIMARY KEY CHECK (version > 0),
    name       text        NOT NULL,
    -- SHA-256 of the file. Empty for a file applied by hand until `authserver migrate` next runs and adopts it.
    checksum   bytea       CHECK (octet_length(checksum) = 32),
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text        NOT NULL DEFAULT session_user
);

-- A version is never used twice, not even for a client that is deleted and made again under the same name:
-- a process that remembers an old row can therefore never mistake it for the present one.
CREATE SEQUENCE client_versions;

CREATE TABLE clients (
    id                      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id               text        NOT NULL UNIQUE CHECK (client_id ~ '^[\x20-\x7e]{1,255}$'),
    version                 bigint      NOT NULL,
    client_name             text,
    grant_types             text[]      NOT NULL DEFAULT '{client_credentials}',
    token_endpoint_auth_method text     NOT NULL DEFAULT 'client_secret_basic',
    -- What the client may ask for, and what it gets when it asks for nothing in particular (RFC 6749 §3.3).
    scopes                  text[]      NOT NULL DEFAULT '{}',
    default_scopes          text[]      NOT NULL DEFAULT '{}' CHECK (default_scopes <@ scopes),
    -- The resources it may request tokens for (RFC 8707) ...
    audiences               text[]      NOT NULL DEFAULT '{}',
    -- ... and the resources it is itself: tokens for these it may introspect.
    resource_identifiers    text[]      NOT NULL DEFAULT '{}',
    -- Given by an operator only: introspect:any
    permissions             text[]      NOT NULL DEFAULT '{}',
    access_token_lifetime   integer     CHECK (access_token_lifetime BETWEEN 1 AND 86400),  -- seconds; NULL: the server's
    -- SHA-256 of the registration access token (RFC 7592 §1.2); NULL for clients made by an operator.
    registration_token_hash bytea       UNIQUE CHECK (octet_length(registration_token_hash) = 32),
    created_at              timestamptz NOT NULL DEFAULT now()
);

-- Answers "does another client already call itself so?" at registration.
CREATE INDEX clients_resource_identifiers ON clients USING gin (resource_identifiers);

CREATE TABLE client_secrets (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client       bigint      NOT NULL REFERENCES clients ON DELETE CASCADE,
    label        text        NOT NULL CHECK (label <> ''),
    -- SHA-256, which is right for a secret of 256 random bits that the server chose: there is no dictionary to try.
    secret_hash  bytea       NOT NULL CHECK (octet_length(secret_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT client_secrets_label_is_unique UNIQUE (client, label)
);

-- The version moves with every change, also with one made by hand in psql: the processes that cache client
-- rows prove the version in each statement and so notice at their next request.
CREATE FUNCTION clients_move_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := nextval('client_versions');
    RETURN NEW;
END
$$;

CREATE TRIGGER clients_move_version BEFORE INSERT OR UPDATE ON clients
    FOR EACH ROW EXECUTE FUNCTION clients_move_version();

CREATE FUNCTION client_secrets_move_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Any update fires clients_move_version; the value is that trigger's to choose.
    IF TG_OP <> 'INSERT' THEN
        UPDATE clients SET version = version WHERE id = OLD.client;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE clients SET version = version WHERE id = NEW.client;
    END IF;
    RETURN NULL;
END
$$;

-- last_used_at is left out: noting a use changes nothing that a cache must know.
CREATE TRIGGER client_secrets_move_version
    AFTER INSERT OR DELETE OR UPDATE OF client, secret_hash, expires_at ON client_secrets
    FOR EACH ROW EXECUTE FUNCTION client_secrets_move_version();

INSERT INTO schema_migrations (version, name) VALUES (1, 'clients');

COMMIT;
