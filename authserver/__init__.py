"""A machine-to-machine OAuth 2.0 authorization server."""

__version__ = "0.1.0"
