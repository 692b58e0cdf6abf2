-- JWTs have no row of their own: what is known of one beyond its signature is here. Each statement proves the caller's
-- row, as those of access_tokens do, and returns the version of the key ring for the process to compare.

-- name: find_jwt
SELECT ring.version, owner.client_id IS NOT NULL
  FROM clients caller
 CROSS JOIN signing_key_ring ring
  LEFT JOIN clients owner
    ON owner.client_id = %(client_id)s AND owner.tokens_valid_from <= %(issued_at)s
   AND NOT EXISTS (SELECT FROM revocations WHERE expires_at = %(expires_at)s AND short_hash = %(short_hash)s)
 WHERE caller.id = %(caller)s AND caller.version = %(version)s

-- name: revoke_jwt
WITH proof AS (
         SELECT ring.version FROM clients caller CROSS JOIN signing_key_ring ring
          WHERE caller.id = %(caller)s AND caller.version = %(version)s),
     revoked AS (
         INSERT INTO revocations (expires_at, short_hash)
         SELECT %(expires_at)s, %(short_hash)s FROM proof WHERE version = %(ring_version)s
         ON CONFLICT (expires_at, short_hash) DO NOTHING)
SELECT version FROM proof

-- name: feed
-- What has committed since the follower's snapshot: one index scan from its oldest transaction on, in each partition
-- that is not over. The answer's snapshot is that of this statement, so that nothing falls in between.
-- Clocks may disagree: what has expired is told a little longer.
SELECT left(feed.epoch::text, 8) || '-' || ltrim(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), '0'),
       pg_current_snapshot()::text,
       coalesce((SELECT mark FROM revocation_feed_marks WHERE noted_at < %(oldest)s
                  ORDER BY noted_at DESC LIMIT 1)::text, '0'),
       event.xid::text, event.seq, event.expires_at, event.short_hash, event.client_id, event.issued_before, event.kid
  FROM clients caller
 CROSS JOIN revocation_feed feed
  LEFT JOIN LATERAL (
         SELECT xid, seq, expires_at, short_hash, client_id, issued_before, kid
           FROM revocations
          WHERE expires_at > %(expired)s AND (xid, seq) > (%(xid)s::xid8, %(seq)s::bigint)
            AND NOT pg_visible_in_snapshot(xid, %(seen)s::pg_snapshot)
          ORDER BY xid, seq
          LIMIT %(limit)s) event ON true
 WHERE caller.id = %(caller)s AND caller.version = %(version)s
 ORDER BY event.xid, event.seq

-- name: note_mark
INSERT INTO revocation_feed_marks (noted_at, mark) VALUES (%(now)s, pg_snapshot_xmin(pg_current_snapshot()))
ON CONFLICT (noted_at) DO NOTHING

-- name: forget_marks
-- All but the newest of those that are too old: that one is the limit.
DELETE FROM revocation_feed_marks
 WHERE noted_at < (SELECT max(noted_at) FROM revocation_feed_marks WHERE noted_at < %(oldest)s)
