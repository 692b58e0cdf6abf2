-- name: load
-- A client with all its secrets in one row, so that both are of one moment. There is a row for an unknown client too, by
-- the same steps and with as much to read: how long it takes must not tell whether there is such a client.
SELECT c.id, c.client_id, c.version, c.client_name, coalesce(c.grant_types, nobodys.words),
       c.token_endpoint_auth_method, c.token_endpoint_auth_signing_alg, c.jwks, c.jwks_uri,
       coalesce(c.scopes, nobodys.words), coalesce(c.default_scopes, nobodys.words),
       coalesce(c.audiences, nobodys.words), coalesce(c.resource_identifiers, nobodys.words),
       coalesce(c.permissions, nobodys.words), c.access_token_lifetime,
       c.access_token_format, c.tokens_per_minute, c.tokens_valid_from,
       extract(epoch FROM c.created_at)::bigint, c.managed_by, c.registration_token_hash IS NOT NULL,
       coalesce((SELECT json_agg(json_build_object(
                            'label', s.label,
                            'secret_hash', encode(s.secret_hash, 'hex'),
                            'created_at', extract(epoch FROM s.created_at)::bigint,
                            'expires_at', extract(epoch FROM s.expires_at)::bigint,
                            'last_used_at', extract(epoch FROM s.last_used_at)::bigint) ORDER BY s.id)
                   FROM (SELECT * FROM client_secrets WHERE client = coalesce(c.id, 0)
                         UNION ALL
                         SELECT 0, 0, 'nothing', sha256(''), now(), now(), now() WHERE c.id IS NULL) s), '[]')
  FROM (VALUES ('{nothing}'::text[])) nobodys (words) LEFT JOIN clients c ON c.client_id = %(client_id)s

-- name: is_current
-- For a request that needs nothing else from the database: is the cached client row still the present one?
SELECT 1 FROM clients WHERE id = %(client)s AND version = %(version)s

-- name: by_registration_token
SELECT token_endpoint_auth_method FROM clients
 WHERE client_id = %(client_id)s AND registration_token_hash = %(registration_token_hash)s
   FOR UPDATE

-- name: list
SELECT client_id, client_name, scopes, audiences, resource_identifiers, permissions,
       extract(epoch FROM created_at)::bigint, registration_token_hash IS NOT NULL, managed_by
  FROM clients ORDER BY client_id

-- name: insert
-- Without what is an operator's to give, which the role that serves requests cannot write (sql/roles.sql).
INSERT INTO clients (client_id, client_name, grant_types, token_endpoint_auth_method,
                     token_endpoint_auth_signing_alg, jwks, jwks_uri, scopes, default_scopes, audiences,
                     resource_identifiers, access_token_format, registration_token_hash)
VALUES (%(client_id)s, %(client_name)s, %(grant_types)s, %(token_endpoint_auth_method)s,
        %(token_endpoint_auth_signing_alg)s, %(jwks)s, %(jwks_uri)s, %(scopes)s, %(default_scopes)s, %(audiences)s,
        %(resource_identifiers)s, %(access_token_format)s, %(registration_token_hash)s)

-- name: give
UPDATE clients
   SET permissions = %(permissions)s, access_token_lifetime = %(access_token_lifetime)s,
       tokens_per_minute = %(tokens_per_minute)s
 WHERE client_id = %(client_id)s

-- name: replace
-- What a client may say of itself (RFC 7592 §2.2). Its permissions, lifetime and budget are the operator's.
UPDATE clients
   SET client_name = %(client_name)s, grant_types = %(grant_types)s,
       token_endpoint_auth_method = %(token_endpoint_auth_method)s,
       token_endpoint_auth_signing_alg = %(token_endpoint_auth_signing_alg)s, jwks = %(jwks)s, jwks_uri = %(jwks_uri)s,
       scopes = %(scopes)s, default_scopes = %(default_scopes)s, audiences = %(audiences)s,
       resource_identifiers = %(resource_identifiers)s, access_token_format = %(access_token_format)s
 WHERE client_id = %(client_id)s

-- name: update
-- What an operator may say of it, except how it authenticates.
UPDATE clients
   SET client_name = %(client_name)s, grant_types = %(grant_types)s, scopes = %(scopes)s,
       default_scopes = %(default_scopes)s, audiences = %(audiences)s, resource_identifiers = %(resource_identifiers)s,
       permissions = %(permissions)s, access_token_lifetime = %(access_token_lifetime)s,
       access_token_format = %(access_token_format)s, tokens_per_minute = %(tokens_per_minute)s
 WHERE id = %(client)s AND version = %(version)s
RETURNING id

-- name: revoke_tokens
-- A little ahead, for clocks that disagree and for tokens that are being issued while this commits. What is issued
-- afterwards says at least this time, and so the next call has to move it on.
UPDATE clients
   SET tokens_valid_from = greatest(tokens_valid_from + 1, floor(extract(epoch FROM clock_timestamp()))::bigint + 2)
 WHERE client_id = %(client_id)s RETURNING id

-- name: replace_keys
UPDATE clients
   SET token_endpoint_auth_method = %(token_endpoint_auth_method)s,
       token_endpoint_auth_signing_alg = %(token_endpoint_auth_signing_alg)s, jwks = %(jwks)s, jwks_uri = %(jwks_uri)s
 WHERE client_id = %(client_id)s
RETURNING id

-- name: delete
DELETE FROM clients WHERE client_id = %(client_id)s RETURNING id

-- name: lock_resource_identifiers
-- Two registrations that claim one identifier at the same instant must see each other.
SELECT pg_advisory_xact_lock(hashtext('authserver resource identifiers'))

-- name: resource_identifier_claimed
-- By another client, of those that this one does not have already. Who registers by itself cannot claim what others get
-- tokens for, either: it would see those tokens.
WITH claim AS (
         SELECT array_agg(identifier) AS identifiers FROM unnest(%(resource_identifiers)s::text[]) identifier
          WHERE NOT EXISTS (SELECT FROM clients
                             WHERE client_id = %(client_id)s AND identifier = ANY (resource_identifiers)))
SELECT 1 FROM clients, claim
 WHERE client_id <> %(client_id)s
   AND (resource_identifiers && identifiers OR (%(by_itself)s AND audiences && identifiers))
 LIMIT 1

-- name: insert_secret
INSERT INTO client_secrets (client, label, secret_hash, expires_at)
SELECT id, %(label)s, %(secret_hash)s, to_timestamp(%(expires_at)s::bigint) FROM clients WHERE client_id = %(client_id)s
RETURNING id

-- name: note_use
-- Of several processes one writes. A row that another holds is left to it: no request waits for this.
UPDATE client_secrets SET last_used_at = to_timestamp(%(now)s::bigint)
 WHERE id = (SELECT id FROM client_secrets
              WHERE client = %(client)s AND secret_hash = %(secret_hash)s
                AND (last_used_at IS NULL OR last_used_at <= to_timestamp(%(before)s::bigint))
                FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id

-- name: expiring_secrets
-- Those that have expired already are no news.
SELECT c.client_id, s.label, extract(epoch FROM s.expires_at)::bigint
  FROM client_secrets s JOIN clients c ON c.id = s.client
 WHERE s.expires_at > to_timestamp(%(now)s::bigint) AND s.expires_at <= to_timestamp(%(until)s::bigint)
 ORDER BY s.expires_at, c.client_id, s.label

-- name: delete_secrets
DELETE FROM client_secrets s USING clients c WHERE c.id = s.client AND c.client_id = %(client_id)s

-- name: delete_secret
DELETE FROM client_secrets s USING clients c
 WHERE c.id = s.client AND c.client_id = %(client_id)s AND s.label = %(label)s
RETURNING s.id
