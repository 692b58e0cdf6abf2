"""Reads settings as typed values; what is wrong is said in one line that begins with the setting."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Never
from urllib.parse import urlsplit

from resource_server.errors import ConfigError
from resource_server.scope import Scope


class Values:
    """The settings by name, defaults filled in. Each method raises `ConfigError`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        return self._values[name]

    def required(self, name: str) -> str:
        return self._values[name] or wrong(name, "is required")

    def secret(self, name: str) -> str:
        value, path = self._values[name], self.file(f"{name}_FILE")
        if value and path:
            wrong(name, f"is set as well as {name}_FILE")
        return _read(f"{name}_FILE", path) if path else value

    def file(self, name: str) -> str | None:
        path = self._values[name]
        if path and not Path(path).is_file():
            wrong(name, "is not a file")
        return path or None

    def url(self, name: str) -> str | None:
        url = self._values[name]
        if url and (problem := _url_problem(url)):
            wrong(name, problem)
        return url or None

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._values[name]
        return value if value in choices else wrong(name, f"is not one of {', '.join(filter(None, choices))}")

    def choices(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        values = tuple(filter(None, (value.strip() for value in self._values[name].split(","))))
        if not values or not set(values) <= set(choices):
            wrong(name, f"takes one or more of {','.join(choices)}")
        return values

    def scope(self, name: str) -> tuple[str, ...]:
        scopes = tuple(self._values[name].split())
        try:
            Scope(*scopes)
        except ConfigError:
            wrong(name, "is not a scope (RFC 6749 section 3.3)")
        return scopes

    def number(self, name: str, least: float, most: float) -> float:
        try:
            value = float(self._values[name])
        except ValueError:
            value = math.nan
        # a NaN is in no range
        return value if least <= value <= most else wrong(name, f"is not a number from {least:g} to {most:g}")

    def whole(self, name: str, least: int, most: int) -> int:
        value = self.number(name, least, most)
        return int(value) if value == int(value) else wrong(name, "is not a whole number")


def wrong(name: str, problem: str) -> Never:
    """Raise `ConfigError` about the setting `name`."""
    # raised without context, and without the value: it may be a secret in the wrong place
    raise ConfigError(f"{name} {problem}") from None


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip() or wrong(name, "is empty")
    except (OSError, UnicodeDecodeError):
        wrong(name, "cannot be read as UTF-8 text")


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        return "is not an http or https URL"
    if "@" in parts.netloc:
        return "must not hold credentials"
    return "must not have a fragment" if "#" in url else ""
