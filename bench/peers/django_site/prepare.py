"""Make the tables and the two clients, which are given by name and secret in SECRETS."""

import json
import os

import django
from django.core.management import call_command


def main() -> None:
    """Prepare an empty database."""
    django.setup()
    call_command("migrate", verbosity=0)
    from oauth2_provider.models import Application  # noqa: PLC0415 - only after the setup

    for name, secret in json.loads(os.environ["SECRETS"]).items():
        Application.objects.create(
            name=name,
            client_id=name,
            client_secret=secret,
            hash_client_secret=name == "hashed",
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        )


if __name__ == "__main__":
    main()
