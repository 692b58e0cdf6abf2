"""Files that hold client secrets: taken from there (a Kubernetes Secret, say), or made and put there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from authserver.cli.common import CommandError
from authserver.flows.apply_clients import SecretFiles
from authserver.oauth.client_document import DeclaredSecret
from authserver.oauth.credentials import CLIENT_SECRET, is_client_secret

_MAX_BYTES = 4096


@contextmanager
def secret_files(
    directory: Path, secrets: Mapping[str, DeclaredSecret], *, may_be_elsewhere: bool
) -> Iterator[tuple[SecretFiles, list[str]]]:
    """The files that secrets name, relative to a directory, and a line for each that cannot be used. Those written are
    removed again if anything raises before they are to be kept.

    `secrets` are by where the document names the file. `may_be_elsewhere`: a file may be missing though it is not to be
    made. Writing raises CommandError.
    """
    written: list[Path] = []
    places = {secret.file: place for place, secret in secrets.items()}

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
            raise CommandError(f"{places[path]}: {target}: cannot be written: {error.strerror}") from None

    values: dict[str, str | None] = {}
    problems = []
    for place, secret in secrets.items():
        path = directory / secret.file
        try:
            values[secret.file] = _read(path, may_be_missing=secret.generate or may_be_elsewhere)
        except _Unusable as error:
            values[secret.file] = None
            problems.append(f"{place}: {path}: {error}")
    try:
        yield SecretFiles(values, write, written.clear), problems
    except BaseException:
        for target in written:
            target.unlink(missing_ok=True)
        raise


class _Unusable(Exception):
    """Why a file cannot be used."""


def _read(path: Path, *, may_be_missing: bool) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("ascii", errors="replace").strip()
    except FileNotFoundError:
        if may_be_missing:
            return None
        raise _Unusable("is not there (with generate: true it is made)") from None
    except OSError as error:
        raise _Unusable(f"cannot be read: {error.strerror}") from None
    if not is_client_secret(text):
        raise _Unusable(f"holds no client secret: {CLIENT_SECRET} and 43 or more of A-Z, a-z, 0-9, '_', '-'")
    return text
