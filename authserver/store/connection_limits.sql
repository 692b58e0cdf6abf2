-- name: most
-- What is left for this role in this database when the server keeps back what it reserves.
SELECT least(current_setting('max_connections')::integer
             - current_setting('superuser_reserved_connections')::integer
             - coalesce(current_setting('reserved_connections', true)::integer, 0),
             (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0),
             (SELECT datconnlimit FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0))
