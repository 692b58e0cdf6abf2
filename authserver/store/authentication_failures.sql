-- name: count
INSERT INTO authentication_failures (minute, who, failures) VALUES (%(minute)s, %(who)s, 1)
ON CONFLICT (minute, who) DO UPDATE SET failures = authentication_failures.failures + 1
RETURNING failures

-- name: forget
DELETE FROM authentication_failures WHERE minute < %(minute)s
