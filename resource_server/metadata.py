"""Protected resource metadata (RFC 9728)."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """What this resource publishes about itself; `resource` is its identifier, an absolute URL."""

    resource: str
    authorization_server: str | None = None
    scopes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The path of the document: the well-known part comes before the resource's path (RFC 9728 §3.1)."""
        return _WELL_KNOWN + urlsplit(self.resource).path.removesuffix("/")

    @property
    def url(self) -> str:
        """The address of the document, for `resource_metadata` in challenges (RFC 9728 §5.1)."""
        parts = urlsplit(self.resource)
        return urlunsplit((parts.scheme, parts.netloc, self.path, parts.query, ""))

    def document(self) -> dict[str, Any]:
        """Build the document (RFC 9728 §2)."""
        document: dict[str, Any] = {"resource": self.resource, "bearer_methods_supported": ["header"]}
        if self.authorization_server:
            document["authorization_servers"] = [self.authorization_server]
        if self.scopes:
            document["scopes_supported"] = list(self.scopes)
        return document
