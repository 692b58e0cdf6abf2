"""Which verifier the settings ask for (OAUTH2_VALIDATION)."""

from resource_server.access_token import AccessToken
from resource_server.cache import TokenCache
from resource_server.config import Config
from resource_server.deadline import Deadline
from resource_server.endpoint import Endpoint
from resource_server.introspection import Introspection
from resource_server.jwks import Jwks
from resource_server.jwt import Jwt, JwtVerifier
from resource_server.verifier import CachedVerifier, TokenVerifier


def verifier_from(config: Config) -> TokenVerifier:
    """Build the verifier; nothing is opened before the first token comes."""
    if config.validation == "jwt":
        return _local(config)
    if config.validation == "auto":
        return ByShape(_local(config), _introspection(config))
    return _introspection(config)


class ByShape:
    """Sends what looks like a JWT to one verifier and everything else to another."""

    def __init__(self, jwt: TokenVerifier, other: TokenVerifier) -> None:
        self._jwt, self._other = jwt, other

    def __call__(self, token: str, deadline: Deadline | None = None) -> AccessToken | None:
        """Find out about `token`; a JWT that cannot be verified is not tried elsewhere."""
        return (self._other if Jwt.parse(token) is None else self._jwt)(token, deadline)


def _introspection(config: Config) -> TokenVerifier:
    endpoint = Endpoint(config.introspect_url or "", config.client_id, config.client_secret, http=config.http())
    introspection = Introspection(endpoint)
    if config.cache_ttl > 0:
        ttl, patience = config.cache_ttl, config.deadline
        return CachedVerifier(introspection, lambda: TokenCache(ttl), patience=patience)
    return introspection


def _local(config: Config) -> JwtVerifier:
    issuer = config.issuer or ""
    document = Endpoint(config.jwks_url or issuer.removesuffix("/") + "/.well-known/jwks.json", http=config.http())
    return JwtVerifier(Jwks(document.get, config.jwt_algorithms), issuer, config.resource or "")
