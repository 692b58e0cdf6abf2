-- Clients that are kept in a file (`authserver client apply`): which file keeps them, so that it may also delete them.

BEGIN;

ALTER TABLE clients
    -- The name that the file gives itself; NULL: no file keeps this client, and none deletes it.
    ADD COLUMN managed_by text CHECK (managed_by ~ '^[a-z0-9][a-z0-9._-]{0,62}$');

INSERT INTO schema_migrations (version, name) VALUES (10, 'managed_clients');

COMMIT;
