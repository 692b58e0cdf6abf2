-- name: begin
-- At this level a transaction holds no snapshot between its statements, whatever the database's default is.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED

-- name: try_lock
-- Tried again and again, never waited for: a waiting statement holds a snapshot, and CREATE INDEX CONCURRENTLY
-- in the process that has the lock would wait for that snapshot in turn.
SELECT pg_try_advisory_xact_lock(hashtext(%(name)s))

-- name: keep
-- The transaction is idle while the work is done. This statement also ends the portal of the one before, and its snapshot.
SET LOCAL idle_in_transaction_session_timeout = 0
