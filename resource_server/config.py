"""All settings in one table, read once from a mapping."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Never, Self
from urllib.parse import urlsplit

from resource_server.cache import MAX_TTL
from resource_server.errors import ConfigError
from resource_server.scope import Scope
from resource_server.transport import Http


class Setting(NamedTuple):
    """A row of the table; an empty value in the environment counts as not set."""

    name: str
    default: str
    help: str


SETTINGS: Final = (
    Setting("OAUTH2_INTROSPECT_URL", "", "introspection endpoint of the authorization server; required"),
    Setting("OAUTH2_CLIENT_ID", "", "this server's own client identifier there; required"),
    Setting("OAUTH2_CLIENT_SECRET", "", "its secret; required unless OAUTH2_CLIENT_SECRET_FILE is set"),
    Setting("OAUTH2_CLIENT_SECRET_FILE", "", "file that holds the secret"),
    Setting("REQUIRED_SCOPE", "read", "scope that protected routes need by default; several: all of them"),
    Setting("OAUTH2_RESOURCE", "", "this server's resource identifier (URL): required in aud, published"),
    Setting("OAUTH2_AUTHORIZATION_SERVER", "", "issuer to publish in the RFC 9728 document"),
    # Without a revocation feed a cache outlives a revocation by its time to live: for operators to choose.
    Setting("OAUTH2_CACHE_TTL", "0", "seconds to remember answers, 0 to 30; 0: revocation works at once"),
    Setting("OAUTH2_CLOCK_SKEW", "0", "seconds of clock difference to forgive in exp and nbf, 0 to 60"),
    Setting("OAUTH2_CONNECT_TIMEOUT", "0.5", "seconds to connect to the authorization server"),
    Setting("OAUTH2_READ_TIMEOUT", "2", "seconds to wait for it to send something"),
    Setting("OAUTH2_DEADLINE", "3", "seconds for a whole introspection, retry included"),
    Setting("OAUTH2_CA_BUNDLE", "", "PEM file of the authorities to trust instead of the built-in ones"),
    Setting("RESOURCE_SERVER_BIND", "127.0.0.1:8001", "address to listen on"),
    Setting("WEB_CONCURRENCY", "2", "worker processes"),
    Setting("WEB_THREADS", "8", "threads per worker; also the connections it keeps"),
    Setting("WEB_GRACEFUL_TIMEOUT", "30", "seconds that running requests get at a stop"),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, checked. Times are seconds."""

    introspect_url: str
    client_id: str
    client_secret: str = field(repr=False)
    required_scope: tuple[str, ...] = ("read",)
    resource: str | None = None
    authorization_server: str | None = None
    cache_ttl: float = 0
    clock_skew: float = 0
    connect_timeout: float = 0.5
    read_timeout: float = 2
    deadline: float = 3
    ca_bundle: str | None = None
    bind: str = "127.0.0.1:8001"
    workers: int = 2
    threads: int = 8
    graceful_timeout: int = 30

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the table from `environ`. Raises `ConfigError`: one line that begins with the setting."""
        values = _Values(environ)
        return cls(
            introspect_url=values.url("OAUTH2_INTROSPECT_URL", required=True) or "",
            client_id=values.required("OAUTH2_CLIENT_ID"),
            client_secret=values.secret("OAUTH2_CLIENT_SECRET"),
            required_scope=values.scope("REQUIRED_SCOPE"),
            resource=values.url("OAUTH2_RESOURCE"),
            authorization_server=values.url("OAUTH2_AUTHORIZATION_SERVER"),
            cache_ttl=values.number("OAUTH2_CACHE_TTL", 0, MAX_TTL),
            clock_skew=values.number("OAUTH2_CLOCK_SKEW", 0, 60),
            connect_timeout=values.number("OAUTH2_CONNECT_TIMEOUT", 0.01, 60),
            read_timeout=values.number("OAUTH2_READ_TIMEOUT", 0.01, 60),
            deadline=values.number("OAUTH2_DEADLINE", 0.01, 60),
            ca_bundle=values.file("OAUTH2_CA_BUNDLE"),
            bind=values.required("RESOURCE_SERVER_BIND"),
            workers=values.whole("WEB_CONCURRENCY", 1, 1024),
            threads=values.whole("WEB_THREADS", 1, 1024),
            graceful_timeout=values.whole("WEB_GRACEFUL_TIMEOUT", 0, 3600),
        )

    def http(self) -> Http:
        """Return the limits for calls to the authorization server."""
        return Http(
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            deadline=self.deadline,
            pool_size=self.threads,
            ca_bundle=self.ca_bundle,
        )


class _Values:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values = {row.name: environ.get(row.name, "").strip() or row.default for row in SETTINGS}

    def required(self, name: str) -> str:
        return self._values[name] or _wrong(name, "is required")

    def secret(self, name: str) -> str:
        value, path = self._values[name], self.file(f"{name}_FILE")
        if value and path:
            _wrong(name, f"is set as well as {name}_FILE")
        return (_read(f"{name}_FILE", path) if path else value) or _wrong(name, "is required")

    def file(self, name: str) -> str | None:
        path = self._values[name]
        if path and not Path(path).is_file():
            _wrong(name, "is not a file")
        return path or None

    def url(self, name: str, *, required: bool = False) -> str | None:
        url = self.required(name) if required else self._values[name]
        if url and (problem := _url_problem(url)):
            _wrong(name, problem)
        return url or None

    def scope(self, name: str) -> tuple[str, ...]:
        scopes = tuple(self._values[name].split())
        try:
            Scope(*scopes)
        except ConfigError:
            _wrong(name, "is not a scope (RFC 6749 section 3.3)")
        return scopes

    def number(self, name: str, least: float, most: float) -> float:
        try:
            value = float(self._values[name])
        except ValueError:
            value = math.nan
        # a NaN is in no range
        return value if least <= value <= most else _wrong(name, f"is not a number from {least:g} to {most:g}")

    def whole(self, name: str, least: int, most: int) -> int:
        value = self.number(name, least, most)
        return int(value) if value == int(value) else _wrong(name, "is not a whole number")


def _wrong(name: str, problem: str) -> Never:
    # raised without context, and without the value: it may be a secret in the wrong place
    raise ConfigError(f"{name} {problem}") from None


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        _wrong(name, "cannot be read as UTF-8 text")


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
