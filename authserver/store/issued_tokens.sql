-- name: add
INSERT INTO issued_tokens (minute, client, tokens) VALUES (%(minute)s, %(client)s, %(tokens)s)
ON CONFLICT (minute, client) DO UPDATE SET tokens = issued_tokens.tokens + excluded.tokens
RETURNING tokens

-- name: forget
DELETE FROM issued_tokens WHERE minute < %(minute)s
