"""Address arithmetic: spans of IPv4 addresses as numbers, what a range request means, which address comes next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from mgmtnode.contracts.ip_range import BAD_GATEWAY, BAD_RANGE, RANGE_RESERVED, RANGE_TOO_LARGE, CreateIpRange

LARGEST = 1 << 20
POINT_TO_POINT = 31  # from this prefix on, every address of a subnet is usable (RFC 3021)
SPECIAL = tuple(
    IPv4Network(block)
    for block in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)


def number_of(ip: str) -> int:
    return int(IPv4Address(ip))


def text_of(number: int) -> str:
    return str(IPv4Address(number))


@dataclass(frozen=True, slots=True)
class Span:
    """The addresses from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.first <= number <= self.last

    def overlaps(self, other: Span) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Subnet:
    """A range as it will be: the span that is handed out, in ``network``, with a gateway outside of the span."""

    network: IPv4Network
    span: Span
    gateway: int | None

    @property
    def usable(self) -> Span:
        return usable_of(self.network)


def usable_of(network: IPv4Network) -> Span:
    """The addresses of a subnet without its network and broadcast address."""
    first, last = int(network.network_address), int(network.broadcast_address)
    return Span(first, last) if network.prefixlen >= POINT_TO_POINT else Span(first + 1, last - 1)


def subnet_of(msg: CreateIpRange) -> Subnet:
    """What a request asks for. Raises network.bad-range, bad-gateway, range-too-large, range-reserved."""
    bounds = (msg.start_ip, msg.end_ip, msg.netmask)
    if msg.cidr is not None and not any(bounds):
        subnet = _from_cidr(msg.cidr, msg.gateway)
    elif msg.cidr is None and msg.start_ip and msg.end_ip and msg.netmask:
        gateway = number_of(msg.gateway) if msg.gateway else None
        subnet = _from_bounds(number_of(msg.start_ip), number_of(msg.end_ip), msg.netmask, gateway)
    else:
        raise BAD_RANGE.error("give either cidr, or start_ip, end_ip and netmask")
    if len(subnet.span) > LARGEST:
        raise RANGE_TOO_LARGE.error(
            f"the range has {len(subnet.span)} addresses, at most {LARGEST} are possible", largest=LARGEST
        )
    for block in SPECIAL:
        if subnet.network.overlaps(block):
            raise RANGE_RESERVED.error(
                f"{subnet.network} lies in {block}, which hosts do not route", block=str(block)
            )
    return subnet


def _from_cidr(cidr: str, gateway: str | None) -> Subnet:
    network = IPv4Network(cidr, strict=False)
    if network.network_address != IPv4Address(cidr.partition("/")[0]):
        raise BAD_RANGE.error(f"{cidr} is an address in a subnet; the subnet is {network}", field="cidr")
    usable = usable_of(network)
    if len(usable) == 1 and gateway is None:
        return Subnet(network, usable, None)
    door = number_of(gateway) if gateway else usable.first
    if len(usable) > 1 and door == usable.first:
        return Subnet(network, Span(usable.first + 1, usable.last), door)
    if len(usable) > 1 and door == usable.last:
        return Subnet(network, Span(usable.first, usable.last - 1), door)
    raise BAD_GATEWAY.error(
        f"the gateway of a whole subnet is its first or last usable address, not {gateway}; "
        "give start_ip, end_ip and netmask for another one",
        field="gateway",
    )


def _from_bounds(first: int, last: int, netmask: str, gateway: int | None) -> Subnet:
    network = _network(first, netmask)
    if first > last:
        raise BAD_RANGE.error("start_ip is above end_ip", field="start_ip")
    if last > int(network.broadcast_address):
        raise BAD_RANGE.error(
            f"end_ip {text_of(last)} is not in the subnet {network} of start_ip", field="end_ip"
        )
    usable = usable_of(network)
    span = Span(max(first, usable.first), min(last, usable.last))
    if span.first > span.last:
        raise BAD_RANGE.error(
            f"{text_of(first)} is the network or broadcast address of {network}", field="start_ip"
        )
    if gateway is not None and gateway not in usable:
        raise BAD_GATEWAY.error(f"{text_of(gateway)} is no usable address of {network}", field="gateway")
    if gateway is not None and gateway in span:
        raise BAD_GATEWAY.error(
            f"{text_of(gateway)} lies in the range that would be handed out", field="gateway"
        )
    return Subnet(network, span, gateway)


def _network(address: int, netmask: str) -> IPv4Network:
    bits = f"{number_of(netmask):032b}"
    ones = bits.rstrip("0")
    if "0" in ones or not ones:
        raise BAD_RANGE.error(f"{netmask} is not a netmask such as 255.255.255.0", field="netmask")
    return IPv4Network((address, len(ones)), strict=False)


class Addresses:
    """The addresses of all ranges of a network, in ascending order. Spans do not overlap."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = sorted(spans, key=lambda span: span.first)
        self._firsts = [span.first for span in self.spans]

    def __len__(self) -> int:
        return sum(len(span) for span in self.spans)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number)
        return place > 0 and number in self.spans[place - 1]

    def nth(self, index: int) -> int:
        """The address at ``index``, counted from the lowest."""
        for span in self.spans:
            if index < len(span):
                return span.first + index
            index -= len(span)
        raise IndexError(index)

    def at_or_after(self, number: int) -> int:
        """``number`` if it is one of the addresses, otherwise the next higher one, or the lowest of all."""
        if number in self:
            return number
        place = bisect_right(self._firsts, number)
        return self._firsts[place % len(self._firsts)]

    def round_from(self, number: int) -> Iterator[int]:
        """Every address once, upwards from ``number``, then from the lowest."""
        for span in self.spans:
            yield from range(max(span.first, number), span.last + 1)
        for span in self.spans:
            yield from range(span.first, min(span.last, number - 1) + 1)
