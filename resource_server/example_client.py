"""Service A of the example: calls a protected service once and tells how it went.

`python -m resource_server.example_client URL`: exit status 0 if the service answered 200. The settings are
OAUTH2_TOKEN_URL; OAUTH2_CLIENT_ASSERTION_FILE, or OAUTH2_CLIENT_ID and OAUTH2_CLIENT_SECRET; SCOPE (default read).
"""

import os
import sys
from collections.abc import Mapping, Sequence

import requests

from resource_server.client_credentials import ClientCredentials, assertion_from_file
from resource_server.errors import ConfigError


def credentials(environ: Mapping[str, str]) -> ClientCredentials:
    """Build the auth class from the environment. Raises `ConfigError`."""
    if not (token_url := environ.get("OAUTH2_TOKEN_URL")):
        raise ConfigError("OAUTH2_TOKEN_URL is not set")
    path = environ.get("OAUTH2_CLIENT_ASSERTION_FILE")
    return ClientCredentials(
        token_url,
        environ.get("OAUTH2_CLIENT_ID", ""),
        environ.get("OAUTH2_CLIENT_SECRET") or None,
        assertion=assertion_from_file(path) if path else None,
        scope=environ.get("SCOPE") or "read",
    )


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Call the one URL and print what it answered."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m resource_server.example_client URL\n")
        return 2
    try:
        answer = requests.get(arguments[0], auth=credentials(environ), timeout=10)
    except (ConfigError, requests.RequestException) as error:
        # the text of the library's own errors may quote the request
        reason = error if isinstance(error, ConfigError) else type(error).__name__
        sys.stderr.write(f"example_client: {reason}\n")
        return 1
    sys.stdout.write(f"{answer.status_code} {answer.text}\n")
    return 0 if answer.status_code == requests.codes.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
