-- name: version
SELECT version FROM signing_key_ring

-- name: list
-- In one statement, so that the version is that of these rows.
SELECT ring.version, key.kid, key.alg, key.public_key, key.private_key, key.created_at, key.signs_from, key.revoked_at
  FROM signing_key_ring ring LEFT JOIN signing_keys key ON true
 ORDER BY key.signs_from, key.created_at, key.kid

-- name: prove
-- All that issuing a JWT asks of the database: is the client the present one, and are the keys?
SELECT ring.version
  FROM clients client CROSS JOIN signing_key_ring ring
 WHERE client.id = %(client)s AND client.version = %(version)s

-- name: insert
INSERT INTO signing_keys (kid, alg, public_key, private_key, created_at, signs_from)
VALUES (%(kid)s, %(alg)s, %(public_key)s, %(private_key)s, %(created_at)s, %(signs_from)s)

-- name: revoke
UPDATE signing_keys SET revoked_at = %(now)s WHERE kid = %(kid)s AND revoked_at IS NULL RETURNING kid

-- name: reseal
UPDATE signing_keys SET private_key = %(private_key)s WHERE kid = %(kid)s

-- name: delete
DELETE FROM signing_keys WHERE kid = %(kid)s
