-- What the provider keeps, by its kind and name: one table, one index probe.
CREATE TABLE payloads (
    id         text        PRIMARY KEY,
    payload    json        NOT NULL,
    grant_id   text,
    uid        text,
    expires_at timestamptz
);
CREATE INDEX payloads_grant_id ON payloads (grant_id) WHERE grant_id IS NOT NULL;
CREATE INDEX payloads_uid ON payloads (uid) WHERE uid IS NOT NULL;
