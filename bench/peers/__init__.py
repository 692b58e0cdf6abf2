"""Other servers of the same kind, in pinned versions; installed on demand into a cache of their own."""
