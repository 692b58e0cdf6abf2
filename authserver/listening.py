"""Find out before a start whether an address can be listened on.

gunicorn by itself tries an address five times in as many seconds and does not name the setting; and of a Unix socket
it would take the path away from the server that listens there.
"""

from __future__ import annotations

import socket
from pathlib import Path


class CannotListen(Exception):
    """The address is taken, not this machine's, or not permitted; the message says which."""


def check_address(address: tuple[str, int] | str) -> None:
    """Return if one could listen there: on (host, port), or on the path of a Unix socket. Raises CannotListen."""
    try:
        if isinstance(address, str):
            _check_path(address)
        else:
            _check_port(*address)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host name
        shown = address if isinstance(address, str) else f"{address[0]} port {address[1]}"
        raise CannotListen(f"{shown}: {getattr(error, 'strerror', None) or error}") from None


def _check_port(host: str, port: int) -> None:
    # As gunicorn does it: an address with a colon is IPv6, and any other one, also a name, IPv4.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _check_path(path: str) -> None:
    if Path(path).exists():
        if not Path(path).is_socket():
            raise CannotListen(f"{path}: there is a file, and it is no socket")
        if _is_answered(path):
            raise CannotListen(f"{path}: another process listens on it")
        Path(path).unlink()  # left by a process that has ended; gunicorn would remove it likewise
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(path)
        Path(path).unlink()


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True
