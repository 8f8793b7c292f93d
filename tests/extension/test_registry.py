from __future__ import annotations

import asyncio
from typing import Any, Protocol

import pytest

from mgmtnode.errors import ApiError, DeclarationError
from mgmtnode.extension.point import Extension, extension_point, strategy
from mgmtnode.extension.registry import Extensions


@extension_point
class BeforeStart(Protocol):
    async def before_start(self, vm: str, host: str) -> None: ...


@strategy
class Driver(Protocol):
    kind: str

    def plan(self, vm: str) -> str: ...


class Plain(Protocol):
    def anything(self) -> None: ...


class Observer:
    def __init__(self, heard: list[str], name: str, *, broken: bool = False) -> None:
        self.heard, self.name, self.broken = heard, name, broken

    async def before_start(self, vm: str, host: str) -> None:
        if self.broken:
            raise RuntimeError(self.name)
        self.heard.append(f"{self.name}:{vm}@{host}")


class Fast:
    kind = "fast"

    def plan(self, vm: str) -> str:
        return f"{vm} fast"


class WithMore(Fast):
    def plan(self, vm: str, *, slowly: bool = False) -> str:
        return f"{vm} slow"


def refused(extension: Extension, manifest: str = "kvm") -> str:
    with pytest.raises(DeclarationError) as raised:
        Extensions().add(manifest, extension, None)
    return str(raised.value)


def observers(*entries: tuple[str, int, bool]) -> tuple[Extensions, list[str]]:
    made, heard = Extensions(), list[str]()
    for name, order, broken in entries:
        observer = Observer(heard, name, broken=broken)
        made.add(name, Extension(BeforeStart, lambda _, o=observer: o, order=order), None)
    return made, heard


def test_implementors_come_in_their_order_and_then_by_manifest() -> None:
    made, _ = observers(("zeta", 50, False), ("beta", 100, False), ("alpha", 100, False))
    assert [o.name for o in made.all(BeforeStart)] == ["zeta", "alpha", "beta"]  # type: ignore[attr-defined]


def test_a_point_nobody_implements_is_empty() -> None:
    assert Extensions().all(BeforeStart) == ()
    assert Extensions().keys(Driver) == []


def test_an_implementor_is_made_from_its_service() -> None:
    made, service = Extensions(), object()
    seen: list[Any] = []
    made.add("kvm", Extension(Driver, lambda s: seen.append(s) or Fast(), key="fast"), service)
    assert seen == [service]
    assert made.pick(Driver, "fast").plan("vm-1") == "vm-1 fast"


def test_an_unknown_key_is_refused_naming_the_known_ones() -> None:
    made = Extensions()
    made.add("kvm", Extension(Driver, lambda _: Fast(), key="kvm"), None)
    made.add("sim", Extension(Driver, lambda _: WithMore(), key="simulator"), None)
    with pytest.raises(ApiError, match="Driver: unknown 'xen'; known are: kvm, simulator") as raised:
        made.pick(Driver, "xen")
    assert raised.value.code == "extension.unknown-key"
    assert made.keys(Driver) == ["kvm", "simulator"]


def test_one_key_implemented_twice_is_refused() -> None:
    made = Extensions()
    made.add("kvm", Extension(Driver, lambda _: Fast(), key="kvm"), None)
    with pytest.raises(DeclarationError, match="xen: Driver: the key 'kvm' is implemented by kvm already"):
        made.add("xen", Extension(Driver, lambda _: Fast(), key="kvm"), None)


def test_a_protocol_that_is_not_marked_is_refused() -> None:
    assert refused(Extension(Plain, lambda _: object())) == (
        "kvm: Plain is not marked with @extension_point or @strategy"
    )


def test_a_strategy_without_a_key_and_a_point_with_one_are_refused() -> None:
    assert "a strategy needs a key" in refused(Extension(Driver, lambda _: Fast()))
    assert "an extension point has none" in refused(Extension(BeforeStart, lambda _: Fast(), key="x"))


def test_what_does_not_have_the_shape_of_its_contract_is_refused_by_name() -> None:
    class NoMethod:
        kind = "x"

    class NoKind:
        def plan(self, vm: str) -> str:
            return vm

    class OtherName:
        kind = "x"

        def plan(self, machine: str) -> str:
            return machine

    class Needs(Fast):
        def plan(self, vm: str, host: str) -> str:
            return vm

    class Sync:
        def before_start(self, vm: str, host: str) -> None: ...

    def driver(made: Any) -> str:
        return refused(Extension(Driver, lambda _: made, key="x"))

    assert driver(NoMethod()) == "kvm: Driver: NoMethod.plan is missing"
    assert driver(NoKind()) == "kvm: Driver: NoKind has no attribute kind"
    assert driver(OtherName()) == "kvm: Driver: OtherName.plan takes (machine), the contract says (vm)"
    assert driver(Needs()) == "kvm: Driver: Needs.plan takes (vm, host), the contract says (vm)"
    assert refused(Extension(BeforeStart, lambda _: Sync())) == (
        "kvm: BeforeStart: Sync.before_start must be async def"
    )


def test_observers_are_all_told_even_if_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    made, heard = observers(("a", 1, False), ("b", 2, True), ("c", 3, False))
    asyncio.run(made.notify_each(BeforeStart, lambda o: o.before_start("vm-1", host="h-1")))
    assert heard == ["a:vm-1@h-1", "c:vm-1@h-1"]
    assert "BeforeStart of b failed" in caplog.text


def test_an_implementor_of_a_point_may_veto() -> None:
    made, heard = observers(("a", 1, False), ("b", 2, True), ("c", 3, False))

    async def flow() -> None:
        for each in made.all(BeforeStart):
            await each.before_start("vm-1", "h-1")

    with pytest.raises(RuntimeError, match="b"):
        asyncio.run(flow())
    assert heard == ["a:vm-1@h-1"]
