"""Where a request comes from, through proxies that may say so and no others."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

import falcon

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_REMEMBERED = 4096


class ClientAddress:
    """Tells the address of a request's sender. `trusted` is a list of proxies: networks separated by commas, or `*`."""

    def __init__(self, trusted: str) -> None:
        words = [word.strip() for word in trusted.split(",")]
        self._all = "*" in words
        self._networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = [
            ipaddress.ip_network(word) for word in words if word not in ("", "*")
        ]
        # Services keep asking from the same few addresses, and reading one takes longer than looking it up.
        self._find = lru_cache(_REMEMBERED)(self._find_through_proxies)

    def __call__(self, req: falcon.Request) -> str:
        """The last address that no trusted proxy has; of IPv6 the /64, which is what one sender has."""
        return self._find(str(req.env.get("REMOTE_ADDR", "")), req.get_header("X-Forwarded-For") or "")

    def _find_through_proxies(self, peer: str, forwarded_for: str) -> str:
        found = peer
        for hop in [peer, *reversed(forwarded_for.split(","))]:
            address = _parse(hop)
            if address is None:
                break
            found = _shortened(address)
            if not self._is_trusted(address):
                break
        return found

    def _is_trusted(self, address: Address) -> bool:
        return self._all or any(address in network for network in self._networks)


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _shortened(address: Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
