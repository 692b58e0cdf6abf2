-- name: use
-- No row returned: the client changed or is gone. False: used before, by another request. The neighbouring windows are
-- looked at because a jti must not come back with another expiry; a repeated statement finds its own row and is content.
-- Where the answer waits for the disk, this commit need not: what is lost in a crash has proved nothing to anyone.
WITH client AS (SELECT id FROM clients WHERE id = %(client)s AND version = %(version)s),
     before AS (
         SELECT used_by FROM assertion_jtis
          WHERE expires_at IN (%(window)s - %(width)s, %(window)s, %(window)s + %(width)s) AND jti_hash = %(jti_hash)s),
     used AS (
         INSERT INTO assertion_jtis (expires_at, jti_hash, used_by)
         SELECT %(window)s, %(jti_hash)s, %(used_by)s FROM client WHERE NOT EXISTS (SELECT 1 FROM before)
         ON CONFLICT (expires_at, jti_hash) DO NOTHING
         RETURNING 1)
SELECT EXISTS (SELECT 1 FROM used) OR EXISTS (SELECT 1 FROM before WHERE used_by = %(used_by)s),
       CASE WHEN NOT %(must_wait)s THEN set_config('synchronous_commit', 'off', true) END
  FROM client
