-- name: facts
-- For metrics: one look at what an operator has to act on. Under the role that serves requests, which may read all of this.
SELECT coalesce(pg_sequence_last_value('revocations_seq'), 0),
       -- Transactions begun since the oldest that is still open: what they revoked, followers are told again and again.
       (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - pg_snapshot_xmin(pg_current_snapshot())::text::bigint),
       (SELECT count(*) FROM clients),
       (SELECT count(*) FROM client_secrets WHERE expires_at <= to_timestamp(%(now)s)),
       (SELECT count(*) FROM client_secrets WHERE expires_at > to_timestamp(%(now)s) AND expires_at <= to_timestamp(%(soon)s)),
       extract(epoch FROM clock_timestamp())::double precision

-- name: default_partition_bytes
-- Not 0: rows came for which there was no partition.
SELECT pg_relation_size(to_regclass(%(partition)s))
