"""Address arithmetic: what range requests mean, and that every address comes up once."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmtnode.contracts.ip_range import BAD_GATEWAY, BAD_RANGE, RANGE_TOO_LARGE, CreateIpRange
from mgmtnode.errors import ApiError, ErrorCode
from services.network.addresses import LARGEST, Addresses, Span, Subnet, number_of, subnet_of, text_of

L3 = "00000000-0000-7000-8000-00000000000a"
PRIVATE = int(IPv4Address("10.0.0.0"))

prefixes = st.integers(8, 32)
numbers = st.integers(PRIVATE, PRIVATE + (1 << 24) - 1)
networks = st.builds(lambda n, prefix: IPv4Network((n, prefix), strict=False), numbers, st.integers(12, 32))
span_lists = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=6)


def asked(**fields: str | None) -> Subnet:
    return subnet_of(CreateIpRange(l3_network_uuid=L3, **fields))


def fails_with(code: ErrorCode, **fields: str | None) -> None:
    with pytest.raises(ApiError) as failed:
        asked(**fields)
    assert failed.value.code == code.id


def spans_of(pairs: list[tuple[int, int]]) -> list[Span]:
    """Spans from (gap before, length)."""
    spans, at = [], 0
    for gap, length in pairs:
        spans.append(Span(at + gap, at + gap + length - 1))
        at += gap + length
    return spans


@given(st.integers(0, (1 << 32) - 1))
def test_an_address_reads_back_as_its_number(number: int) -> None:
    assert number_of(text_of(number)) == number


@given(networks)
def test_a_whole_subnet_is_its_hosts_without_the_gateway(network: IPv4Network) -> None:
    subnet = asked(cidr=str(network))
    hosts = [int(h) for h in network.hosts()] if network.num_addresses <= 4096 else None
    if network.prefixlen == 32:
        assert (subnet.gateway, len(subnet.span)) == (None, 1)
    else:
        assert subnet.gateway == (hosts[0] if hosts else int(network.network_address) + 1)
        assert subnet.gateway not in subnet.span
    if hosts:
        mine = {*range(subnet.span.first, subnet.span.last + 1)} | {subnet.gateway} - {None}
        assert mine == set(hosts)


@given(networks)
def test_the_gateway_may_be_the_last_address(network: IPv4Network) -> None:
    if network.prefixlen >= 31:
        return
    last = int(network.broadcast_address) - 1
    subnet = asked(cidr=str(network), gateway=text_of(last))
    assert (subnet.gateway, subnet.span.last) == (last, last - 1)


@given(networks, st.data())
def test_bounds_lose_network_and_broadcast_address_and_nothing_else(
    network: IPv4Network, data: st.DataObject
) -> None:
    low, high = int(network.network_address), int(network.broadcast_address)
    first = data.draw(st.integers(low, high))
    last = data.draw(st.integers(first, high))
    kept = [n for n in (first, last) if network.prefixlen >= 31 or n not in (low, high)]
    fields = {"start_ip": text_of(first), "end_ip": text_of(last), "netmask": str(network.netmask)}
    if not kept and last - first < 2:
        fails_with(BAD_RANGE, **fields)
        return
    subnet = asked(**fields)
    stripped = network.prefixlen < 31
    assert subnet.span.first == (first + 1 if stripped and first == low else first)
    assert subnet.span.last == (last - 1 if stripped and last == high else last)
    assert subnet.network == network


@given(networks, st.data())
def test_a_gateway_is_usable_and_outside_of_the_range(network: IPv4Network, data: st.DataObject) -> None:
    low, high = int(network.network_address), int(network.broadcast_address)
    if network.prefixlen > 29:
        return
    first = data.draw(st.integers(low + 1, high - 1))
    last = data.draw(st.integers(first, high - 1))
    gateway = data.draw(st.integers(low - 2, high + 2))
    fields = {"start_ip": text_of(first), "end_ip": text_of(last), "netmask": str(network.netmask)}
    if low < gateway < high and not first <= gateway <= last:
        assert asked(**fields, gateway=text_of(gateway)).gateway == gateway
    else:
        fails_with(BAD_GATEWAY, **fields, gateway=text_of(gateway))


@given(numbers, prefixes)
def test_a_cidr_names_the_subnet_itself(number: int, prefix: int) -> None:
    network = IPv4Network((number, prefix), strict=False)
    if int(network.network_address) != number:
        fails_with(BAD_RANGE, cidr=f"{text_of(number)}/{prefix}")


@pytest.mark.parametrize(("prefix", "size"), [(32, 1), (31, 1), (30, 1), (29, 5), (12, LARGEST - 3)])
def test_small_and_large_subnets_have_this_many_addresses(prefix: int, size: int) -> None:
    assert len(asked(cidr=f"10.0.0.0/{prefix}" if prefix > 12 else "10.16.0.0/12").span) == size


def test_a_range_has_at_most_a_million_addresses() -> None:
    fields = {"start_ip": "10.0.0.1", "netmask": "255.0.0.0"}
    assert len(asked(**fields, end_ip=text_of(PRIVATE + LARGEST)).span) == LARGEST
    fails_with(RANGE_TOO_LARGE, **fields, end_ip=text_of(PRIVATE + LARGEST + 1))


@given(st.tuples(numbers, numbers), st.tuples(numbers, numbers))
def test_spans_overlap_exactly_if_they_have_an_address_in_common(
    one: tuple[int, int], two: tuple[int, int]
) -> None:
    a, b = Span(min(one), max(one)), Span(min(two), max(two))
    common = max(a.first, b.first) <= min(a.last, b.last)
    assert a.overlaps(b) is b.overlaps(a) is common


@given(span_lists, st.integers(0, 500))
def test_a_round_comes_by_every_address_once_and_begins_at_or_after_where_it_starts(
    pairs: list[tuple[int, int]], start: int
) -> None:
    spans = spans_of(pairs)
    addresses = Addresses(list(reversed(spans)))
    every = [n for span in spans for n in range(span.first, span.last + 1)]
    round_ = list(addresses.round_from(start))
    assert sorted(round_) == every
    assert len(addresses) == len(every)
    assert round_[0] == addresses.at_or_after(start)
    assert [addresses.nth(index) for index in range(len(every))] == every


@given(span_lists, st.integers(0, 500))
def test_the_next_address_is_the_lowest_that_is_not_below_or_the_lowest_of_all(
    pairs: list[tuple[int, int]], start: int
) -> None:
    spans = spans_of(pairs)
    addresses = Addresses(spans)
    every = [n for span in spans for n in range(span.first, span.last + 1)]
    assert addresses.at_or_after(start) == min((n for n in every if n >= start), default=every[0])
    assert (start in addresses) is (start in every)
