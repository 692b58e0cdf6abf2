-- name: try_lock
-- Tried again and again, never waited for: a waiting statement holds a snapshot, and CREATE INDEX CONCURRENTLY
-- in the process that has the lock would wait for that snapshot in turn.
SELECT pg_try_advisory_lock(hashtext(%(name)s))

-- name: unlock
SELECT pg_advisory_unlock(hashtext(%(name)s))
