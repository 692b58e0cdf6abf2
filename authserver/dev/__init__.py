"""For trying out and for tests: an embedded PostgreSQL, and a whole installation on one machine."""
