-- Each of these is all that a hot request asks of the database. Each proves that the caller's row, which the process
-- remembers, is still the present one; where it is not, nothing is read or written and the caller is looked up anew.

-- name: insert
-- No row returned: the client changed or is gone. A repeated statement (the connection broke after the commit)
-- finds its own row and is content. Where the answer waits for the disk, this commit need not.
WITH client AS (SELECT id FROM clients WHERE id = %(client)s AND version = %(version)s),
     stored AS (
         INSERT INTO access_tokens (expires_at, short_hash, client, issued_at, scope, audience)
         SELECT %(expires_at)s, %(short_hash)s, id, %(issued_at)s, %(scope)s, %(audience)s FROM client
         ON CONFLICT (expires_at, short_hash) DO NOTHING)
SELECT CASE WHEN NOT %(must_wait)s THEN set_config('synchronous_commit', 'off', true) END FROM client

-- name: find
-- One partition, one index probe. The join with the owner is what makes the tokens of a deleted client inactive.
SELECT owner.client_id, token.scope, token.audience, token.issued_at, token.expires_at
  FROM clients caller
  LEFT JOIN (access_tokens token
             JOIN clients owner ON owner.id = token.client AND owner.tokens_valid_from <= token.issued_at)
    ON token.expires_at = %(expires_at)s AND token.short_hash = %(short_hash)s AND token.revoked_at IS NULL
 WHERE caller.id = %(caller)s AND caller.version = %(version)s

-- name: revoke
-- Only the client's own token (RFC 7009 §2.1). What it returns does not tell whether there was one.
WITH caller AS (SELECT id FROM clients WHERE id = %(caller)s AND version = %(version)s),
     revoked AS (
         UPDATE access_tokens token SET revoked_at = %(now)s
           FROM caller
          WHERE token.expires_at = %(expires_at)s AND token.short_hash = %(short_hash)s
            AND token.client = caller.id AND token.revoked_at IS NULL
      RETURNING token.expires_at, token.short_hash),
     told AS (INSERT INTO revocations (expires_at, short_hash) SELECT expires_at, short_hash FROM revoked)
SELECT 1 FROM caller
