"""What an operator sees: audit events, the trace that a request belongs to, and metrics."""
