"""Files that hold client secrets: taken from there (a Kubernetes Secret, say), or made and put there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from authserver.cli.common import CommandError
from authserver.flows.apply_clients import SecretFiles
from authserver.oauth.client_document import DeclaredSecret
from authserver.oauth.credentials import CLIENT_SECRET, is_client_secret

_MAX_BYTES = 4096


@contextmanager
def secret_files(
    directory: Path, secrets: Iterable[DeclaredSecret], *, may_be_elsewhere: bool
) -> Iterator[SecretFiles]:
    """The files that secrets name, relative to a directory. Those written are removed again if anything raises before
    they are to be kept.

    `may_be_elsewhere`: a file may be missing though it is not to be made. Raises CommandError.
    """
    written: list[Path] = []

    def write(path: str, secret: str) -> None:
        target = directory / path
        try:
            # Of its owner alone from the first moment, and never in place of another file.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written.append(target)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secret + "\n")
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise CommandError(f"{target}: cannot be written: {type(error).__name__}") from None

    try:
        yield SecretFiles(
            {
                secret.file: _read(directory / secret.file, may_be_missing=secret.generate or may_be_elsewhere)
                for secret in secrets
            },
            write,
            written.clear,
        )
    except BaseException:
        for target in written:
            target.unlink(missing_ok=True)
        raise


def _read(path: Path, *, may_be_missing: bool) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("ascii").strip()
    except FileNotFoundError:
        if may_be_missing:
            return None
        raise CommandError(f"{path}: is not there (with generate: true it is made)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read: {type(error).__name__}") from None
    if not is_client_secret(text):
        raise CommandError(f"{path}: holds no client secret: {CLIENT_SECRET} and 43 or more of A-Z, a-z, 0-9, '_', '-'")
    return text
