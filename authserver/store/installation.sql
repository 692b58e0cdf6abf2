-- name: facts
-- For metrics: one look at what an operator has to act on. Under the role that serves requests, which may read all of this.
SELECT coalesce(pg_sequence_last_value('revocations_seq'), 0),
       -- Transactions begun since the oldest that is still open: what they revoked, followers are told again and again.
       (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - pg_snapshot_xmin(pg_current_snapshot())::text::bigint),
       (SELECT count(*) FROM clients),
       (SELECT count(*) FROM client_secrets WHERE expires_at <= to_timestamp(%(now)s)),
       (SELECT count(*) FROM client_secrets WHERE expires_at > to_timestamp(%(now)s) AND expires_at <= to_timestamp(%(soon)s)),
       extract(epoch FROM clock_timestamp())::double precision

-- name: default_partition_bytes
-- Not 0: rows came for which there was no partition.
SELECT pg_relation_size(to_regclass(%(partition)s))

-- name: clock
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: role
-- Whom requests would be served as, and whether it can change the schema: as a superuser, by making tables, or as an owner.
SELECT current_user, rolsuper, has_schema_privilege(current_schema(), 'CREATE'),
       pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'clients'::regclass), 'MEMBER')
  FROM pg_roles WHERE rolname = current_user

-- name: lacking
-- Of all that serving needs (sql/roles.sql), what the role may not do.
SELECT privilege || ' on ' || object
  FROM (VALUES ('schema_migrations', 'SELECT'),
               ('access_tokens', 'SELECT'), ('access_tokens', 'INSERT'),
               ('revocations', 'SELECT'), ('revocations', 'INSERT'),
               ('revocation_feed', 'SELECT'), ('revocation_feed_marks', 'SELECT'),
               ('clients', 'SELECT'), ('clients', 'DELETE'),
               ('client_secrets', 'SELECT'), ('client_secrets', 'INSERT'), ('client_secrets', 'DELETE'),
               ('assertion_jtis', 'SELECT'), ('assertion_jtis', 'INSERT'),
               ('trusted_issuers', 'SELECT'), ('client_bindings', 'SELECT'),
               ('authentication_failures', 'SELECT'), ('authentication_failures', 'INSERT'),
               ('issued_tokens', 'SELECT'), ('issued_tokens', 'INSERT'),
               ('signing_keys', 'SELECT'), ('signing_key_ring', 'SELECT')) whole (object, privilege)
 WHERE NOT has_table_privilege(object, privilege)
 UNION ALL
SELECT privilege || ' of ' || part || ' on ' || object
  FROM (VALUES ('access_tokens', 'revoked_at', 'UPDATE'),
               ('client_secrets', 'last_used_at', 'UPDATE'),
               ('authentication_failures', 'failures', 'UPDATE'),
               ('issued_tokens', 'tokens', 'UPDATE'),
               ('initial_access_tokens', 'token_hash', 'SELECT'),
               ('clients', 'client_id', 'INSERT'), ('clients', 'scopes', 'UPDATE')) parts (object, part, privilege)
 WHERE NOT has_column_privilege(object, part, privilege)
 UNION ALL
SELECT 'USAGE on ' || object
  FROM (VALUES ('client_versions'), ('revocations_seq')) sequences (object)
 WHERE NOT has_sequence_privilege(object, 'USAGE')

-- name: throttled
-- Who failed too often in this minute or the one before, whatever it called itself.
SELECT count(*) FROM authentication_failures WHERE minute >= %(minute)s - 1 AND failures >= %(limit)s
