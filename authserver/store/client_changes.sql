-- name: one_at_a_time
SELECT pg_advisory_xact_lock(hashtext('authserver client apply'))

-- name: lock
-- Whatever changes one of these clients, its secrets or its bindings waits until this transaction ends: each moves the
-- version of the client.
SELECT client_id FROM clients
 WHERE client_id = ANY (%(client_ids)s) OR managed_by = %(managed_by)s
 ORDER BY client_id FOR UPDATE

-- name: managed
SELECT client_id FROM clients WHERE managed_by = %(managed_by)s ORDER BY client_id

-- name: release_resources
-- Before anybody claims any: what one client gives up another one may have.
UPDATE clients SET resource_identifiers = %(kept)s WHERE client_id = %(client_id)s

-- name: declare
UPDATE clients
   SET client_name = %(client_name)s, grant_types = %(grant_types)s,
       token_endpoint_auth_method = %(token_endpoint_auth_method)s,
       token_endpoint_auth_signing_alg = %(token_endpoint_auth_signing_alg)s, jwks = %(jwks)s, jwks_uri = %(jwks_uri)s,
       scopes = %(scopes)s, default_scopes = %(default_scopes)s, audiences = %(audiences)s,
       resource_identifiers = %(resource_identifiers)s, access_token_format = %(access_token_format)s,
       permissions = %(permissions)s, access_token_lifetime = %(access_token_lifetime)s,
       tokens_per_minute = %(tokens_per_minute)s, managed_by = coalesce(%(managed_by)s, managed_by)
 WHERE client_id = %(client_id)s

-- name: bind
-- One that is another client's already is no error: the transaction has to go on, to tell of what else is wrong.
WITH bound AS (
  INSERT INTO client_bindings (trusted_issuer, subject, client)
  SELECT i.id, %(subject)s, c.id FROM trusted_issuers i, clients c
   WHERE i.name = %(name)s AND c.client_id = %(client_id)s
  ON CONFLICT DO NOTHING
  RETURNING client
)
SELECT EXISTS (SELECT FROM trusted_issuers WHERE name = %(name)s), EXISTS (SELECT FROM bound)

-- name: set_expiry
UPDATE client_secrets s SET expires_at = to_timestamp(%(expires_at)s::bigint)
  FROM clients c WHERE c.id = s.client AND c.client_id = %(client_id)s AND s.label = %(label)s
