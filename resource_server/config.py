"""All settings in one table, read once from a mapping."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from resource_server.cache import MAX_TTL
from resource_server.environment import Values, wrong
from resource_server.follower import FRESH
from resource_server.jwk import ALGORITHMS
from resource_server.transport import Http

VALIDATIONS: Final = ("introspect", "jwt", "auto")


class Setting(NamedTuple):
    """A row of the table; an empty value in the environment counts as not set."""

    name: str
    default: str
    help: str


SETTINGS: Final = (
    Setting(
        "OAUTH2_VALIDATION",
        "introspect",
        "introspect, jwt (local, no other tokens), or auto (JWTs locally, others by introspection)",
    ),
    Setting("OAUTH2_INTROSPECT_URL", "", "introspection endpoint of the authorization server; required unless jwt"),
    Setting("OAUTH2_CLIENT_ID", "", "this server's own client identifier there; required to ask it anything"),
    Setting("OAUTH2_CLIENT_SECRET", "", "its secret; required likewise unless OAUTH2_CLIENT_SECRET_FILE is set"),
    Setting("OAUTH2_CLIENT_SECRET_FILE", "", "file that holds the secret"),
    Setting("REQUIRED_SCOPE", "read", "scope that protected routes need by default; several: all of them"),
    Setting("OAUTH2_RESOURCE", "", "this server's resource identifier (URL): required in aud, published"),
    Setting("OAUTH2_AUTHORIZATION_SERVER", "", "issuer to publish in the RFC 9728 document"),
    Setting("OAUTH2_ISSUER", "", "iss that JWTs must have, exactly; required for jwt and auto"),
    Setting("OAUTH2_JWKS_URL", "", "the issuer's keys; empty: OAUTH2_ISSUER with /.well-known/jwks.json appended"),
    Setting("OAUTH2_JWT_ALGORITHMS", "ES256,EdDSA,RS256", "signature algorithms to accept, separated by commas"),
    Setting("OAUTH2_REVOCATIONS_URL", "", "revocation feed of the authorization server; empty: none"),
    Setting("OAUTH2_JWT_WITHOUT_FEED", "", "JWTs without a feed: accept or introspect; empty: accept if none is set"),
    # Without a revocation feed a cache outlives a revocation by its time to live: for operators to choose.
    Setting("OAUTH2_CACHE_TTL", "0", "seconds to remember answers without a feed, 0 to 30; 0: ask each time"),
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

    introspect_url: str | None = None
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    validation: str = "introspect"
    required_scope: tuple[str, ...] = ("read",)
    resource: str | None = None
    authorization_server: str | None = None
    issuer: str | None = None
    jwks_url: str | None = None
    jwt_algorithms: tuple[str, ...] = ("ES256", "EdDSA", "RS256")
    revocations_url: str | None = None
    jwt_without_feed: str = ""
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
        values = Values({row.name: environ.get(row.name, "").strip() or row.default for row in SETTINGS})
        config = cls(
            introspect_url=values.url("OAUTH2_INTROSPECT_URL"),
            client_id=values.text("OAUTH2_CLIENT_ID"),
            client_secret=values.secret("OAUTH2_CLIENT_SECRET"),
            validation=values.choice("OAUTH2_VALIDATION", VALIDATIONS),
            required_scope=values.scope("REQUIRED_SCOPE"),
            resource=values.url("OAUTH2_RESOURCE"),
            authorization_server=values.url("OAUTH2_AUTHORIZATION_SERVER"),
            issuer=values.url("OAUTH2_ISSUER"),
            jwks_url=values.url("OAUTH2_JWKS_URL"),
            jwt_algorithms=values.choices("OAUTH2_JWT_ALGORITHMS", tuple(ALGORITHMS)),
            revocations_url=values.url("OAUTH2_REVOCATIONS_URL"),
            jwt_without_feed=values.choice("OAUTH2_JWT_WITHOUT_FEED", ("", "accept", "introspect")),
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
        _require_together(config)
        return config

    def http(self) -> Http:
        """Return the limits for calls to the authorization server."""
        return Http(
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            deadline=self.deadline,
            pool_size=self.threads,
            ca_bundle=self.ca_bundle,
        )


def _require_together(config: Config) -> None:
    """Raise `ConfigError` where one setting needs another that is not there."""
    needed: dict[str, object] = {}
    if config.validation != "jwt":
        needed |= {"OAUTH2_INTROSPECT_URL": config.introspect_url}
    if config.validation != "introspect":
        # RFC 9068 §4: both are to be compared, so both have to be known
        needed |= {"OAUTH2_ISSUER": config.issuer, "OAUTH2_RESOURCE": config.resource}
    for name, value in needed.items():
        if not value:
            wrong(name, f"is required with OAUTH2_VALIDATION={config.validation}")
    if config.jwt_without_feed == "introspect" and not config.introspect_url:
        wrong("OAUTH2_INTROSPECT_URL", "is required with OAUTH2_JWT_WITHOUT_FEED=introspect")
    # A call that takes longer could bring an answer that is older than the feed promises.
    if config.revocations_url and config.deadline > FRESH:
        wrong("OAUTH2_DEADLINE", f"must not exceed {FRESH:g} with OAUTH2_REVOCATIONS_URL")
    if not (config.introspect_url or config.revocations_url):
        return
    for name, value in {"OAUTH2_CLIENT_ID": config.client_id, "OAUTH2_CLIENT_SECRET": config.client_secret}.items():
        if not value:
            wrong(name, "is required to introspect and to follow revocations")
