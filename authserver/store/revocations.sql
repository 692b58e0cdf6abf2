-- JWTs have no row of their own: what is known of one beyond its signature is here. Each statement proves the caller's
-- row, as those of access_tokens do, and returns the version of the key ring for the process to compare.

-- name: find_jwt
SELECT ring.version, owner.client_id IS NOT NULL
  FROM clients caller
 CROSS JOIN signing_key_ring ring
  LEFT JOIN clients owner
    ON owner.client_id = %(client_id)s AND owner.tokens_valid_from <= %(issued_at)s
   AND NOT EXISTS (SELECT FROM revocations WHERE expires_at = %(expires_at)s AND token_hash = %(token_hash)s)
 WHERE caller.id = %(caller)s AND caller.version = %(version)s

-- name: revoke_jwt
WITH proof AS (
         SELECT ring.version FROM clients caller CROSS JOIN signing_key_ring ring
          WHERE caller.id = %(caller)s AND caller.version = %(version)s),
     revoked AS (
         INSERT INTO revocations (expires_at, token_hash)
         SELECT %(expires_at)s, %(token_hash)s FROM proof WHERE version = %(ring_version)s
         ON CONFLICT (expires_at, token_hash) DO NOTHING)
SELECT version FROM proof
