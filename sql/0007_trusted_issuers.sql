-- Workload identities as client assertions: whose tokens are believed, and which client each of their subjects is.

BEGIN;

CREATE TABLE trusted_issuers (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text        NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    -- What tokens must say in iss and aud. Several clusters may share an iss (the default of Kubernetes, for one).
    issuer        text        NOT NULL CHECK (issuer <> ''),
    audience      text        NOT NULL CHECK (audience <> ''),
    -- A JWK Set without private or symmetric keys; NULL: found through <issuer>/.well-known/openid-configuration.
    jwks          jsonb       CHECK (NOT jsonb_path_exists(jwks, '$.keys[*] ? (exists (@.d) || exists (@.k))')),
    algorithms    text[]      NOT NULL
        CHECK (cardinality(algorithms) > 0 AND algorithms <@ ARRAY['ES256', 'EdDSA', 'RS256', 'PS256']),
    -- The claim that names the subject.
    subject_claim text        NOT NULL DEFAULT 'sub' CHECK (subject_claim <> ''),
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT trusted_issuers_name_is_unique UNIQUE (name),
    CONSTRAINT trusted_issuers_audience_tells_apart UNIQUE (issuer, audience)
);

CREATE TABLE client_bindings (
    trusted_issuer bigint      NOT NULL REFERENCES trusted_issuers ON DELETE CASCADE,
    -- The default service account of a namespace is that of every pod which asks for none.
    subject        text        NOT NULL CHECK (subject <> '' AND subject !~ '^system:serviceaccount:[^:]*:default$'),
    client         bigint      NOT NULL REFERENCES clients ON DELETE CASCADE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- A subject is one client; a client may have several subjects.
    CONSTRAINT client_bindings_subject_is_one_client PRIMARY KEY (trusted_issuer, subject)
);

CREATE INDEX client_bindings_client ON client_bindings (client);

-- As for secrets: whoever remembers a client by its binding notices at the next statement that it is no longer so.
CREATE FUNCTION client_bindings_move_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE clients SET version = version WHERE id = OLD.client;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE clients SET version = version WHERE id = NEW.client;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER client_bindings_move_version AFTER INSERT OR UPDATE OR DELETE ON client_bindings
    FOR EACH ROW EXECUTE FUNCTION client_bindings_move_version();

-- An issuer that is deleted takes its bindings along, and these move the versions.
CREATE FUNCTION trusted_issuers_move_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE clients SET version = version
     WHERE id IN (SELECT client FROM client_bindings WHERE trusted_issuer = NEW.id);
    RETURN NULL;
END
$$;

CREATE TRIGGER trusted_issuers_move_versions AFTER UPDATE ON trusted_issuers
    FOR EACH ROW EXECUTE FUNCTION trusted_issuers_move_versions();

INSERT INTO schema_migrations (version, name) VALUES (7, 'trusted_issuers');

COMMIT;
