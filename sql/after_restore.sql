-- After a restore from a dump or to a point in time, before the servers face anybody again. No migration.
--
--     psql -v ON_ERROR_STOP=1 -f sql/after_restore.sql "$URL_OF_authserver_owner"
--
-- What was revoked after the backup is alive again in what was restored, and nothing in it says what that was. So every token
-- that was issued up to now becomes inactive, whatever its format, and clients get new ones. Clients, secrets, keys, bindings
-- and issuers that were withdrawn after the backup are back as well: withdraw them again by hand (docs/operations.md).

BEGIN;

-- Followers of the revocation feed begin anew: what they remember is of another history.
UPDATE revocation_feed SET epoch = gen_random_uuid();

-- In another cluster transactions are counted from another number. What is remembered counts as of now, and is told once more.
DELETE FROM revocation_feed_marks;
UPDATE revocations SET xid = pg_current_xact_id();

-- A little ahead, for clocks that disagree. The trigger tells the feed.
UPDATE clients
   SET tokens_valid_from = greatest(tokens_valid_from + 1, floor(extract(epoch FROM clock_timestamp()))::bigint + 2);

COMMIT;
