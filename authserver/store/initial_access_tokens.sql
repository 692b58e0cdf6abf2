-- name: is_good
SELECT 1 FROM initial_access_tokens
 WHERE token_hash = %(token_hash)s AND (expires_at IS NULL OR expires_at > to_timestamp(%(now)s::bigint))

-- name: any
SELECT EXISTS (SELECT 1 FROM initial_access_tokens
                WHERE expires_at IS NULL OR expires_at > to_timestamp(%(now)s::bigint))

-- name: insert
INSERT INTO initial_access_tokens (label, token_hash, expires_at)
VALUES (%(label)s, %(token_hash)s, to_timestamp(%(expires_at)s::bigint))

-- name: list
SELECT label, extract(epoch FROM created_at)::bigint, extract(epoch FROM expires_at)::bigint
  FROM initial_access_tokens ORDER BY label

-- name: delete
DELETE FROM initial_access_tokens WHERE label = %(label)s RETURNING id
