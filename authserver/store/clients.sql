-- name: load
-- A client with all its secrets in one row, so that both are of one moment.
SELECT c.id, c.client_id, c.version, c.client_name, c.grant_types, c.token_endpoint_auth_method,
       c.scopes, c.default_scopes, c.audiences, c.resource_identifiers, c.permissions, c.access_token_lifetime,
       c.access_token_format, c.tokens_valid_from,
       extract(epoch FROM c.created_at)::bigint,
       coalesce((SELECT json_agg(json_build_object(
                            'label', s.label,
                            'secret_hash', encode(s.secret_hash, 'hex'),
                            'created_at', extract(epoch FROM s.created_at)::bigint,
                            'expires_at', extract(epoch FROM s.expires_at)::bigint,
                            'last_used_at', extract(epoch FROM s.last_used_at)::bigint) ORDER BY s.id)
                   FROM client_secrets s WHERE s.client = c.id), '[]')
  FROM clients c
 WHERE c.client_id = %(client_id)s

-- name: is_current
-- For a request that needs nothing else from the database: is the cached client row still the present one?
SELECT 1 FROM clients WHERE id = %(client)s AND version = %(version)s

-- name: by_registration_token
SELECT client_id FROM clients
 WHERE client_id = %(client_id)s AND registration_token_hash = %(registration_token_hash)s
   FOR UPDATE

-- name: list
SELECT client_id, client_name, scopes, audiences, resource_identifiers, permissions,
       extract(epoch FROM created_at)::bigint, registration_token_hash IS NOT NULL
  FROM clients ORDER BY client_id

-- name: insert
-- Without what is an operator's to give, which the role that serves requests cannot write (sql/roles.sql).
INSERT INTO clients (client_id, client_name, grant_types, token_endpoint_auth_method, scopes, default_scopes, audiences,
                     resource_identifiers, access_token_format, registration_token_hash)
VALUES (%(client_id)s, %(client_name)s, %(grant_types)s, %(token_endpoint_auth_method)s, %(scopes)s, %(default_scopes)s,
        %(audiences)s, %(resource_identifiers)s, %(access_token_format)s, %(registration_token_hash)s)

-- name: give
UPDATE clients SET permissions = %(permissions)s, access_token_lifetime = %(access_token_lifetime)s
 WHERE client_id = %(client_id)s

-- name: replace
-- What a client may say of itself (RFC 7592 §2.2). Its permissions and lifetime are the operator's.
UPDATE clients
   SET client_name = %(client_name)s, grant_types = %(grant_types)s,
       token_endpoint_auth_method = %(token_endpoint_auth_method)s, scopes = %(scopes)s,
       default_scopes = %(default_scopes)s, audiences = %(audiences)s, resource_identifiers = %(resource_identifiers)s,
       access_token_format = %(access_token_format)s
 WHERE client_id = %(client_id)s

-- name: revoke_tokens
-- A little ahead, for clocks that disagree and for tokens that are being issued while this commits. What is issued
-- afterwards says at least this time, and so the next call has to move it on.
UPDATE clients
   SET tokens_valid_from = greatest(tokens_valid_from + 1, floor(extract(epoch FROM clock_timestamp()))::bigint + 2)
 WHERE client_id = %(client_id)s RETURNING id

-- name: delete
DELETE FROM clients WHERE client_id = %(client_id)s RETURNING id

-- name: lock_resource_identifiers
-- Two registrations that claim one identifier at the same instant must see each other.
SELECT pg_advisory_xact_lock(hashtext('authserver resource identifiers'))

-- name: resource_identifier_owner
SELECT client_id FROM clients
 WHERE resource_identifiers && %(resource_identifiers)s::text[] AND client_id <> %(client_id)s
 LIMIT 1

-- name: insert_secret
INSERT INTO client_secrets (client, label, secret_hash, expires_at)
SELECT id, %(label)s, %(secret_hash)s, to_timestamp(%(expires_at)s::bigint) FROM clients WHERE client_id = %(client_id)s
RETURNING id

-- name: delete_secret
DELETE FROM client_secrets s USING clients c
 WHERE c.id = s.client AND c.client_id = %(client_id)s AND s.label = %(label)s
RETURNING s.id
