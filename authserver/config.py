"""The settings: one table with name, default and help, read once from the environment."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from authserver.oauth.jose import SIGNING_ALGORITHMS
from authserver.oauth.key_encryption import KeyEncryption, read_key_encryption

PREFIX = "AUTHSERVER_"
_OTEL = (
    "opentelemetry.sdk.trace",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.instrumentation.wsgi",
)


class ConfigError(Exception):
    """A setting is missing or wrong; the message is one line that names it."""


@dataclass(frozen=True)
class Setting:
    """One row of the table. `name` lacks the prefix; `default` None means there is none."""

    name: str
    default: str | None
    help: str
    parse: Callable[[str], Any] = str
    secret: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + self.name


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def _issuer(text: str) -> str:
    # RFC 8414 §2: a URL without query or fragment. http is for one machine and for behind a proxy that ends TLS
    # elsewhere; whether to expose it is the operator's to know.
    parts = urlsplit(text)
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError("must be an http(s) URL without query, fragment or user")
    if text.endswith("/"):
        raise ValueError("must not end in '/': it is compared character by character")
    return text


def _long_secret(text: str) -> str:
    if len(text) < 32:  # noqa: PLR2004 - said in the message
        raise ValueError(
            "must have at least 32 characters; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return text


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return parse


def _switch(text: str) -> bool:
    return _choice("0", "1")(text) == "1"


def _opentelemetry(text: str) -> bool:
    wanted = _switch(text)
    if wanted and not all(map(_is_installed, _OTEL)):
        raise ValueError("needs the extra otel: pip install 'authserver[otel]'")
    return wanted


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of what it is in
        return False


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas") from None


def _ca_bundle(text: str) -> ssl.SSLContext | None:
    if not text:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(text)
    except OSError:
        raise ValueError("must be a PEM file of certificates") from None
    return context


def _bind(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if text.startswith("unix:"):
        valid = len(text) > len("unix:")
    elif text.startswith("fd://"):
        valid = text.removeprefix("fd://").isdecimal()
    else:
        bare = re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+", host) is not None
        valid = bool(colon) and bare and re.fullmatch(r"[0-9]{1,5}", port) is not None and int(port) <= 65535  # noqa: PLR2004 - the highest port
    if not valid:
        raise ValueError("must be HOST:PORT, unix:PATH or fd://NUMBER")
    return text


def _metrics_bind(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    _bind(text)
    host, _, port = text.rpartition(":")
    if text.startswith(("unix:", "fd://")):
        raise ValueError("must be HOST:PORT")
    return host.strip("[]"), int(port)


def _appendable(text: str) -> str | None:
    path = Path(text)
    if text and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
        raise ValueError("must be a file that can be written, or one that can be made in a directory that is there")
    return text or None


def _proxies(text: str) -> str:
    try:
        for proxy in text.split(","):
            if proxy.strip() not in ("", "*"):
                ip_network(proxy.strip())
    except ValueError:
        raise ValueError("must be IP addresses or networks, separated by commas, or *") from None
    return text


def _partition_hours(text: str) -> int:
    hours = _integer(1, 24)(text)
    if 24 % hours:
        raise ValueError("must divide 24")
    return hours


SETTINGS: tuple[Setting, ...] = (
    Setting("DATABASE_URL", None, "PostgreSQL connection string or URL (14 or newer).", secret=True),
    Setting(
        "DATABASE_POOLER",
        "",
        "transaction: the database URL leads to PgBouncer in transaction mode. Empty: to PostgreSQL itself.",
        lambda text: _choice("transaction")(text) if text else "",
    ),
    Setting(
        "ISSUER",
        None,
        "Issuer identifier: the URL under which clients reach this server, without a trailing slash.",
        _issuer,
    ),
    Setting(
        "ACCESS_TOKEN_LIFETIME",
        "3600",
        "Seconds an access token lives, unless its client has a lifetime of its own.",
        _integer(1, 86400),
    ),
    Setting(
        "TOKENS_PER_MINUTE",
        "0",
        "Access tokens that a client may be issued in a minute, unless it has a number of its own. 0: any number.",
        _integer(0, 1_000_000),
    ),
    Setting(
        "INITIAL_ACCESS_TOKEN",
        "",
        "Bearer token that may register clients, beside those made with the command line. Empty: none.",
        lambda text: _long_secret(text) if text else None,
        secret=True,
    ),
    Setting(
        "KEY_ENCRYPTION_KEY",
        "",
        "Keys that encrypt the signing keys, 32 bytes in base64url each, the newest first. Empty: no JWTs.",
        lambda text: read_key_encryption(text) if text else None,
        secret=True,
    ),
    Setting(
        "SIGNING_ALGORITHM",
        SIGNING_ALGORITHMS[0],
        "Algorithm of new signing keys: ES256, EdDSA or RS256.",
        _choice(*SIGNING_ALGORITHMS),
    ),
    Setting(
        "KEY_ROTATION_DAYS",
        "30",
        "Days after which maintenance makes a new signing key. 0: only by hand.",
        _integer(0, 3650),
    ),
    Setting(
        "PARTITION_HOURS",
        "6",
        "Hours of expiry that share one partition of the token table; must divide 24.",
        _partition_hours,
    ),
    Setting(
        "JWKS_ALLOWED_NETWORKS",
        "",
        "Networks, beside public addresses, from which keys (jwks_uri) may be fetched, separated by commas.",
        _networks,
    ),
    Setting(
        "JWKS_ALLOW_HTTP",
        "no",
        "yes: keys may be fetched without TLS. For development only.",
        _choice("yes", "no"),
    ),
    Setting(
        "JWKS_CA_BUNDLE",
        "",
        "PEM file of authorities to trust, beside the system's, when keys are fetched.",
        _ca_bundle,
    ),
    Setting("BIND", "127.0.0.1:8000", "Address to listen on: HOST:PORT, unix:PATH or fd://NUMBER.", _bind),
    Setting(
        "WORKERS",
        "",
        "Worker processes. Empty: one for each processor.",
        lambda text: _integer(1, 512)(text) if text else len(os.sched_getaffinity(0)),
    ),
    Setting("THREADS", "8", "Threads of a worker process; each keeps one database connection.", _integer(1, 256)),
    Setting("KEEPALIVE", "65", "Seconds an idle client connection stays open.", _integer(0, 3600)),
    Setting(
        "REQUEST_TIMEOUT",
        "15",
        "Seconds a client may take to send a request and to be answered before its connection is cut.",
        _integer(1, 600),
    ),
    Setting(
        "GRACEFUL_TIMEOUT",
        "30",
        "Seconds that requests under way have to finish at a stop.",
        _integer(1, 600),
    ),
    Setting(
        "FORWARDED_ALLOW_IPS",
        "127.0.0.1,::1",
        "Proxies whose forwarding headers are believed, separated by commas; * for any.",
        _proxies,
    ),
    Setting("API_DOCS", "0", "1: serve a page at /docs that documents the API. 0: do not.", _switch),
    Setting(
        "METRICS_BIND",
        "",
        "Address for /metrics, apart from the public one: HOST:PORT. Empty: no metrics.",
        _metrics_bind,
    ),
    Setting("AUDIT_FILE", "", "File that audit events are appended to. Empty: standard error.", _appendable),
    Setting("AUDIT_INTROSPECTIONS", "0", "1: an audit event also for each introspection. 0: do without.", _switch),
    Setting(
        "OPENTELEMETRY",
        "0",
        "1: OpenTelemetry traces, with the extra otel and as OTEL_ variables say. 0: none.",
        _opentelemetry,
    ),
    Setting("LOG_LEVEL", "info", "debug, info, warning or error.", _choice("debug", "info", "warning", "error")),
)


@dataclass(frozen=True)
class Config:
    """The settings, parsed. Secrets are left out of the representation."""

    database_url: str = field(repr=False)
    database_pooler: str
    issuer: str
    access_token_lifetime: int
    tokens_per_minute: int
    initial_access_token: str | None = field(repr=False)
    key_encryption_key: KeyEncryption | None = field(repr=False)
    signing_algorithm: str
    key_rotation_days: int
    partition_hours: int
    jwks_allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    jwks_allow_http: str
    jwks_ca_bundle: ssl.SSLContext | None
    bind: str
    workers: int
    threads: int
    keepalive: int
    request_timeout: int
    graceful_timeout: int
    forwarded_allow_ips: str
    api_docs: bool
    metrics_bind: tuple[str, int] | None
    audit_file: str | None
    audit_introspections: bool
    opentelemetry: bool
    log_level: str


def read_config(environ: Mapping[str, str]) -> Config:
    """Read all settings. Raises ConfigError for the first that is missing or wrong."""
    return Config(**{setting.name.lower(): read_setting(setting, environ) for setting in SETTINGS})


def read_one(name: str, environ: Mapping[str, str]) -> Any:
    """Read one setting, for commands that need no other. Raises ConfigError."""
    return read_setting(next(setting for setting in SETTINGS if setting.name == name), environ)


def read_setting(setting: Setting, environ: Mapping[str, str]) -> Any:
    """Read and parse one setting. Raises ConfigError, whose message never holds the value."""
    text = _raw(setting, environ)
    if text is None:
        also = f" (or {setting.variable}_FILE)" if setting.secret else ""
        raise ConfigError(f"{setting.variable}{also} is not set: {setting.help}")
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigError(f"{setting.variable} {error}") from None


def describe(
    environ: Mapping[str, str], show: Mapping[str, Callable[[str], str]] = MappingProxyType({})
) -> list[tuple[str, str | None, str]]:
    """Each setting with its value, if any, and its help: what is wrong named, secrets masked, or as `show` has them."""
    rows: list[tuple[str, str | None, str]] = []
    for setting in SETTINGS:
        try:
            value = _raw(setting, environ)
            if value is not None:
                setting.parse(value)
        except (ConfigError, ValueError) as error:
            shown: str | None = f"wrong: {error}"
        else:
            mask = show.get(setting.name, lambda _value: "********") if setting.secret else str
            shown = mask(value) if value else None
        rows.append((setting.variable, shown, setting.help))
    return rows


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that looks like a setting and is none, with the setting that may have been meant."""
    known = [setting.name for setting in SETTINGS]
    known += [f"{setting.name}_FILE" for setting in SETTINGS if setting.secret]
    lines = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in known or _is_service_link(name, environ[name]):
            continue
        (meant,) = get_close_matches(name.removeprefix(PREFIX), known, n=1, cutoff=0.0)
        lines.append(f"{name} is not a setting and has no effect; the closest one is {PREFIX}{meant}")
    return lines


def _is_service_link(name: str, value: str) -> bool:
    # Kubernetes puts such variables into every container for each service, and one may well be called "authserver".
    return re.fullmatch(
        r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_[A-Z]+(_PROTO|_PORT|_ADDR)?", name
    ) is not None or (name.endswith("_PORT") and "://" in value)


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file cannot be read, in the system's words; nothing of what it holds."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8"


def _raw(setting: Setting, environ: Mapping[str, str]) -> str | None:
    # An empty variable counts as not set: that is how a manifest or a compose file leaves one out.
    value, path = environ.get(setting.variable) or None, environ.get(setting.variable + "_FILE") or None
    if not setting.secret or path is None:
        return setting.default if value is None else value
    if value is not None:
        raise ConfigError(f"{setting.variable} and {setting.variable}_FILE are both set: keep one")
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{setting.variable}_FILE cannot be read: {unreadable(error)}") from None
    if not text:
        # Unlike an empty variable, a file is there on purpose: its content has gone missing.
        raise ConfigError(f"{setting.variable}_FILE is empty")
    return text
