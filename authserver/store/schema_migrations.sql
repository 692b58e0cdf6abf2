-- name: ledger_exists
-- to_regclass follows the search_path, as the migrations themselves do.
SELECT to_regclass('schema_migrations') IS NOT NULL

-- name: applied
SELECT version, name, checksum FROM schema_migrations ORDER BY version

-- name: adopt
-- The file's own INSERT cannot know the file's checksum; and a file applied by hand has none yet.
UPDATE schema_migrations SET checksum = %(checksum)s WHERE version = %(version)s AND checksum IS NULL

-- name: has_serving_role
SELECT current_user = 'authserver_owner' AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'authserver_app')
