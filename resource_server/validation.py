"""Which verifier the settings ask for (OAUTH2_VALIDATION, OAUTH2_REVOCATIONS_URL)."""

from dataclasses import replace

from resource_server.access_token import AccessToken
from resource_server.cache import TokenCache
from resource_server.config import Config
from resource_server.deadline import Deadline
from resource_server.endpoint import Endpoint, basic
from resource_server.feed import MAX_PAGE, Feed
from resource_server.followed import Confirmed, Fallback, FollowedIntrospection, FollowedJwt
from resource_server.follower import Follower
from resource_server.following import Following
from resource_server.introspection import Introspection
from resource_server.jwks import Jwks
from resource_server.jwt import Jwt, JwtVerifier
from resource_server.stats import Stats, Status
from resource_server.transport import Transport
from resource_server.verifier import CachedVerifier, TokenVerifier


class Validation:
    """The verifier that `config` describes, and how it fares. Nothing is opened before the first token comes."""

    def __init__(self, config: Config, stats: Stats | None = None) -> None:
        self._config, self._stats = config, stats or Stats()
        self._ask = self._introspection() if config.introspect_url else None
        self._local = None if config.validation == "introspect" else self._jwt_verifier()
        self._following = self._follow(config.revocations_url) if config.revocations_url else None
        self.verify = self._verifier()

    def status(self) -> Status:
        """Return how things stand in this process."""
        stats, follower = self._stats, self._following.peek() if self._following else None
        return Status(
            fresh=follower.fresh() is not None if follower else None,
            seconds_since_poll=follower.age() if follower else None,
            problem=follower.problem if follower else "",
            tombstones=len(follower.era.tombstones) if follower else 0,
            cache_hits=stats.total("cache_hits"),
            cache_misses=stats.total("cache_misses"),
            fallbacks=stats.labelled("fallbacks"),
            jwks_fetches=stats.labelled("jwks_fetches"),
            polls=stats.labelled("polls"),
        )

    def close(self) -> None:
        """End this process's thread, if there is one."""
        if self._following:
            self._following.stop()

    def _verifier(self) -> TokenVerifier:
        jwt = self._jwts(self._local) if self._local else None
        if self._config.validation == "jwt" and jwt:
            return jwt
        others = self._others(self._ask) if self._ask else None
        if jwt and others:
            return ByShape(jwt, others)
        if others is None:
            raise ValueError("no introspection endpoint")
        return others

    def _jwts(self, local: JwtVerifier) -> TokenVerifier:
        choice = self._config.jwt_without_feed or ("introspect" if self._following else "accept")
        confirmed = Confirmed(local, self._ask)
        without_feed = local if choice == "accept" else confirmed
        if self._following is None:
            return without_feed
        fallback = Fallback(confirmed, without_feed, self._stats)
        return FollowedJwt(local, self._following, fallback, self._config.deadline)

    def _others(self, ask: Introspection) -> TokenVerifier:
        ttl, patience = self._config.cache_ttl, self._config.deadline
        without_feed: TokenVerifier = ask
        if ttl > 0:
            without_feed = CachedVerifier(ask, lambda: TokenCache(ttl), stats=self._stats, patience=patience)
        if self._following is None:
            return without_feed
        fallback = Fallback(ask, without_feed, self._stats)
        return FollowedIntrospection(ask, self._following, fallback, self._stats, patience)

    def _introspection(self) -> Introspection:
        config = self._config
        endpoint = Endpoint(
            config.introspect_url or "",
            config.client_id,
            config.client_secret,
            http=config.http(),
            tell_breaker=lambda is_open: self._stats.measure("breaker_open", float(is_open)),
        )
        return Introspection(endpoint, self._stats)

    def _jwt_verifier(self) -> JwtVerifier:
        config, issuer = self._config, self._config.issuer or ""
        document = Endpoint(config.jwks_url or issuer.removesuffix("/") + "/.well-known/jwks.json", http=config.http())
        keys = Jwks(document.get, config.jwt_algorithms, stats=self._stats)
        return JwtVerifier(keys, issuer, config.resource or "", stats=self._stats)

    def _follow(self, url: str) -> Following:
        config, local = self._config, self._local
        http = replace(config.http(), pool_size=1, max_body=MAX_PAGE)
        feed = Feed(Transport(url, http, basic(config.client_id, config.client_secret)))
        forget = local.forget if local else lambda: None
        return Following(lambda: Follower(feed, whole=local is not None, stats=self._stats, forget=forget))


class ByShape:
    """Sends what looks like a JWT to one verifier and everything else to another."""

    def __init__(self, jwt: TokenVerifier, other: TokenVerifier) -> None:
        self._jwt, self._other = jwt, other

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Find out about `token`; a JWT that cannot be verified is not tried elsewhere."""
        return (self._other if Jwt.parse(token) is None else self._jwt)(token, deadline)
