"""Which addresses may be connected to on behalf of somebody else: public ones, and what the operator allows."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# Only these IPv6 addresses are assigned to hosts of the Internet at all. It leaves out, among others, loopback,
# link-local, unique and site-local, multicast, mapped and compatible IPv4, and NAT64.
_IPV6_HOSTS = ip_network("2000::/3")
# Python learnt only lately that some of these are not global; and the IPv4 address inside a tunnel may be any.
_NEVER = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",
        "240.0.0.0/4",
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)


def may_connect(address: str, allowed: Sequence[Network]) -> bool:
    """Whether this address is a public one, or in a network that the operator allows."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in allowed) or _is_public(parsed)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address not in _IPV6_HOSTS or address.scope_id is not None):
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NEVER)
