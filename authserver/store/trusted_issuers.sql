-- name: find
-- One row for each issuer that the token may be of; more than one, and its audience is ambiguous. The client's version is
-- that of the binding and the issuer too: a change to either moves it.
SELECT i.id, i.name, i.issuer, i.audience, i.jwks, i.algorithms, i.subject_claim, b.subject, c.client_id, c.version
  FROM trusted_issuers i
  LEFT JOIN (client_bindings b JOIN clients c ON c.id = b.client)
    ON b.trusted_issuer = i.id AND b.subject = %(claims)s::jsonb ->> i.subject_claim
 WHERE i.issuer = %(issuer)s AND i.audience = ANY (%(audiences)s::text[])
 LIMIT 2

-- name: insert
INSERT INTO trusted_issuers (name, issuer, audience, jwks, algorithms, subject_claim)
VALUES (%(name)s, %(issuer)s, %(audience)s, %(jwks)s, %(algorithms)s, %(subject_claim)s)

-- name: list
SELECT id, name, issuer, audience, jwks, algorithms, subject_claim FROM trusted_issuers ORDER BY name

-- name: by_name
SELECT id, name, issuer, audience, jwks, algorithms, subject_claim FROM trusted_issuers WHERE name = %(name)s

-- name: replace_keys
UPDATE trusted_issuers SET jwks = %(jwks)s WHERE name = %(name)s AND jwks IS NOT NULL RETURNING id

-- name: delete
DELETE FROM trusted_issuers WHERE name = %(name)s RETURNING id

-- name: bind
INSERT INTO client_bindings (trusted_issuer, subject, client)
SELECT i.id, %(subject)s, c.id FROM trusted_issuers i, clients c
 WHERE i.name = %(name)s AND c.client_id = %(client_id)s
RETURNING client

-- name: unbind
DELETE FROM client_bindings b USING trusted_issuers i, clients c
 WHERE i.id = b.trusted_issuer AND c.id = b.client
   AND i.name = %(name)s AND c.client_id = %(client_id)s AND b.subject = %(subject)s
RETURNING b.client

-- name: bindings
SELECT i.name, b.subject, c.client_id
  FROM client_bindings b JOIN trusted_issuers i ON i.id = b.trusted_issuer JOIN clients c ON c.id = b.client
 WHERE %(client_id)s::text IN (c.client_id, '') AND %(name)s::text IN (i.name, '')
 ORDER BY i.name, b.subject
