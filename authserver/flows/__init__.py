"""Use cases: what HTTP and the command line share."""
