-- Two roles with the least that each needs. No migration, though `authserver migrate` runs it after them where both roles are
-- there and it is authserver_owner's: so an installation that begins with the roles never needs it by hand.
--
--     CREATE ROLE authserver_owner LOGIN;
--     CREATE ROLE authserver_app LOGIN;
--     CREATE DATABASE authserver OWNER authserver_owner;
--
-- An installation whose tables are another role's goes over to these by
--
--     psql -v ON_ERROR_STOP=1 -f sql/roles.sql "$URL_OF_AN_ADMINISTRATOR"
--
-- authserver_owner  owns what the migrations make. For `authserver migrate`, `maintain` (partitions are made and dropped, which
--                   takes ownership), `client`, `keys` and `initial-access-token`.
-- authserver_app    for `authserver serve` and nothing else: rows as requests need them, and no DDL.
--
-- after `authserver migrate`, with the installation's schema first in the search_path, as a superuser or as the present owner of the
-- tables with CREATEROLE; then give both roles a password. It may be repeated at any time. By hand it is to be repeated after each
-- migration applied by hand: until then what is new is refused, and requests for it answer 503.

BEGIN;

DO $$
DECLARE
    role text;
    kind text;
    object text;
BEGIN
    IF current_user = 'authserver_owner' THEN
        -- An administrator has been here, and has left this one the database, or has done all of what follows.
        IF EXISTS (SELECT FROM pg_database WHERE datname = current_database() AND datdba = 'authserver_owner'::regrole) THEN
            EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        END IF;
        RETURN;
    END IF;
    FOREACH role IN ARRAY ARRAY['authserver_owner', 'authserver_app'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
    END LOOP;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        -- Only who may become the new owner may give it anything.
        EXECUTE format('GRANT authserver_owner TO %I', current_user);
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO authserver_owner, authserver_app', current_database());
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO authserver_owner', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO authserver_app', current_schema());
    -- PUBLIC may do this by default: in every database, and before PostgreSQL 15 in the schema public.
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    -- Not what extensions brought; and the sequence of a column goes with its table.
    FOR kind, object IN
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, format('%I.%I', current_schema(), relname)
          FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'S')
           AND relowner <> 'authserver_owner'::regrole
           AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                              AND (deptype = 'e' OR (relkind = 'S' AND deptype IN ('a', 'i'))))
         UNION ALL
        SELECT 'FUNCTION', pg_proc.oid::regprocedure::text
          FROM pg_proc
         WHERE pronamespace = current_schema()::regnamespace AND proowner <> 'authserver_owner'::regrole
           AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO authserver_owner', kind, object);
    END LOOP;
END
$$;

-- The app role begins with nothing, whatever an earlier release or a hand gave it.
DO $$
DECLARE
    object text;
BEGIN
    FOR object IN
        SELECT format('%s %I.%I', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, current_schema(), relname)
          FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relowner = 'authserver_owner'::regrole
           AND relkind IN ('r', 'p', 'S')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, authserver_app', object);
    END LOOP;
END
$$;

-- /ready asks which migrations there are.
GRANT SELECT ON schema_migrations TO authserver_app;

-- Partitions are not granted anything, neither those of today nor those that `authserver maintain` makes: a statement on the
-- parent is checked against the parent alone, and around it nothing can be read.
GRANT SELECT, INSERT, UPDATE (revoked_at) ON access_tokens TO authserver_app;
GRANT SELECT, INSERT ON revocations TO authserver_app;
GRANT USAGE ON revocations_seq TO authserver_app;
GRANT SELECT ON revocation_feed, revocation_feed_marks TO authserver_app;

-- Registration makes, changes and deletes clients, and takes the secrets of one that goes over to keys.
GRANT SELECT, DELETE ON clients TO authserver_app;
GRANT SELECT, INSERT, DELETE ON client_secrets TO authserver_app;
GRANT USAGE ON client_versions TO authserver_app;

-- Whether one may register, not who was given the right.
GRANT SELECT (token_hash, expires_at) ON initial_access_tokens TO authserver_app;

-- Assertions are used up; whose are believed is an operator's to say.
GRANT SELECT, INSERT ON assertion_jtis TO authserver_app;
GRANT SELECT ON trusted_issuers, client_bindings TO authserver_app;

-- Failures are counted.
GRANT SELECT, INSERT, UPDATE (failures) ON authentication_failures TO authserver_app;

-- Private keys are encrypted. Only `authserver maintain` and `keys` make, change and delete them.
GRANT SELECT ON signing_keys, signing_key_ring TO authserver_app;

-- Of a client, all that it may say of itself: not what is an operator's to give. (The trigger of client_secrets moves the version.)
DO $$
DECLARE
    writable text := (
        SELECT string_agg(quote_ident(attname), ', ')
          FROM pg_attribute
         WHERE attrelid = 'clients'::regclass AND attnum > 0 AND NOT attisdropped
           AND attname NOT IN ('id', 'created_at', 'permissions', 'access_token_lifetime', 'tokens_valid_from'));
BEGIN
    EXECUTE format('GRANT INSERT (%1$s), UPDATE (%1$s) ON clients TO authserver_app', writable);
END
$$;

COMMIT;
