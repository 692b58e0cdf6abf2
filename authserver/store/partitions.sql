-- name: list
-- The default partition has no bounds and is left out.
SELECT child.relname, pg_get_expr(child.relpartbound, child.oid)
  FROM pg_inherits
  JOIN pg_class child ON child.oid = inhrelid
 WHERE inhparent = to_regclass(%(table)s) AND pg_get_expr(child.relpartbound, child.oid) <> 'DEFAULT'
 ORDER BY child.relname

-- name: holders
-- Who has a lock on what is about to be locked, by transaction: requests come and go, a dump or a report stays.
SELECT DISTINCT virtualtransaction
  FROM pg_locks
 WHERE locktype = 'relation' AND granted AND pid <> pg_backend_pid()
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND relation IN (to_regclass(%(table)s), to_regclass(%(default)s))

-- name: limit_waiting
-- Behind a lock that waits, every request waits too: give up soon and try again.
SET LOCAL lock_timeout = '100ms'

-- name: create
CREATE TABLE {partition} (LIKE {table} INCLUDING ALL)

-- name: default_has_rows
SELECT EXISTS (SELECT 1 FROM {default} WHERE expires_at >= {lower} AND expires_at < {upper})

-- name: attach
-- Made apart and attached, it stops only writers of the default partition; CREATE TABLE ... PARTITION OF would stop all.
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ({lower}) TO ({upper})

-- name: detach
ALTER TABLE {table} DETACH PARTITION {partition}

-- name: drop
DROP TABLE {partition}

-- name: delete_expired_default
DELETE FROM {default} WHERE expires_at < {now}
