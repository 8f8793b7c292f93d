# ruff: noqa: E501  # a table of source texts
"""Every kind of malformed service is refused by name before anything is started."""

# ruff: noqa: E501  # one case a line or two: what is edited, what is said

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import pytest

from mgmtnode.agents.local import LocalAgents
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.memory import Hub
from mgmtnode.cluster.heart import NoHeart
from mgmtnode.cluster.lease import Lease
from mgmtnode.cluster.membership import Membership
from mgmtnode.cluster.records import Identity
from mgmtnode.config.file import Properties
from mgmtnode.db.engine import open_database
from mgmtnode.errors import DeclarationError
from mgmtnode.loader import LoadError, discover
from mgmtnode.parts import Edges, Parts, assemble
from mgmtnode.ports import SystemClock, SystemRng, UuidSource
from mgmtnode.ring.slots import Slots

CONTRACT = """
    from typing import Annotated, ClassVar, Protocol
    from mgmtnode.bus.message import *
    from mgmtnode.bus.message import Message
    from mgmtnode.errors import Category, ErrorCode
    from mgmtnode.extension.point import extension_point
    from mgmtnode.schema import Data, Inventory, Name, Ref, Resource, Uuid

    GONE = ErrorCode("box.gone", Category.STATE, "gone")

    class Box(Inventory):
        size: int

    BOX = Resource("{id}", "{id}-s", Box)

    class CreateBox(CreateJob[Box], frozen=True, kw_only=True):
        api: ClassVar[Api] = Api("{id}.create", "POST", "/{id}-s")
        creates: ClassVar[str] = "{id}"
        name: Name

    class OpenBox(ActionJob[Nothing], frozen=True, kw_only=True):
        api: ClassVar[Api] = Api("{id}.open", "POST", "/{id}-s/{{uuid}}/actions/open")
        resource_type: ClassVar[str] = "{id}"

    class Peek(Internal[Box], frozen=True, kw_only=True):
        box_uuid: Uuid

    class Weigh(InTx[Nothing], frozen=True, kw_only=True):
        box_uuid: Uuid

    class List(ApiCall[list[str]], frozen=True, kw_only=True):
        api: ClassVar[Api] = Api("{id}.list-colours", "GET", "/{id}-s/colours/all")

    class BoxOpened(Event, frozen=True, kw_only=True):
        name: ClassVar[str] = "{id}.opened"

    @extension_point
    class Watcher(Protocol):
        async def watch(self, box_uuid: str) -> None: ...
"""
SERVICE = """
    from __future__ import annotations
    from mgmtnode.bus.message import NOTHING, Nothing
    from mgmtnode.db.session import Tx
    from mgmtnode.jobs.job import Caller, WorkToken
    from mgmtnode.service import Service, handler, job, subscribe, validate
    from mgmtnode.workflow.flow import Flow, FlowContext
    from {package}.contract import *

    class Context(FlowContext):
        uuid: str

    class BoxService(Service):
        @job()
        def create(self, tx: Tx, msg: CreateBox) -> Box: ...

        @job(Flow("open", (), result=lambda *_: NOTHING))
        def open(self, msg: OpenBox, work: WorkToken) -> Context: ...

        @handler()
        async def peek(self, msg: Peek) -> Box: ...

        @handler()
        def weigh(self, tx: Tx, msg: Weigh) -> Nothing: ...

        @handler()
        async def list(self, msg: List, caller: Caller) -> list[str]: ...

        @validate
        def check(self, tx: Tx, msg: OpenBox, caller: Caller) -> None: ...

        @subscribe
        async def opened(self, event: BoxOpened) -> None: ...

    class Seer:
        async def watch(self, box_uuid: str) -> None: ...
"""
MANIFEST = """
    from sqlalchemy import Column, Integer, Table
    from mgmtnode.cascade.graph import OnDelete
    from mgmtnode.config.global_config import GlobalConfig
    from mgmtnode.config.properties import GlobalProperty
    from mgmtnode.db.base import UuidText, metadata, ref
    from mgmtnode.extension.point import Extension
    from mgmtnode.service import ServiceManifest
    from mgmtnode.tags.system_tag import SystemTag
    from sqlalchemy import MetaData, ForeignKey
    from {package} import contract, service

    tables = MetaData()
    core = metadata.tables["resource"].to_metadata(tables)
    box = Table("{id}", tables, Column("uuid", UuidText, ForeignKey("resource.uuid"), primary_key=True),
                Column("size", Integer), info={{"resource_type": "{id}"}})

    manifest = ServiceManifest(
        id="{id}", summary="Boxes", service=service.BoxService, contract=(contract,), tables=(box,),
        migrations="{package}.migrations",
        extensions=(Extension(contract.Watcher, lambda service_: service.Seer()),),
        config=(GlobalConfig("{id}.size", 1, "How large"),),
        properties=(GlobalProperty("{id}.colour", "red", "Which colour"),),
        tags=(SystemTag(on="{id}", format="colour::{{colour}}", description="Its colour"),),
    )
"""
Edit = tuple[str, str, str]  # file, old, new
Plant = Callable[..., EntryPoint]
numbers = itertools.count()


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """Writes a service into a package of its own: the sound one with some text replaced."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def make(*edits: Edit, id: str = "box", name: str = "", value: str = "manifest:manifest") -> EntryPoint:
        package = f"planted{next(numbers)}"
        files = {"contract": CONTRACT, "service": SERVICE, "manifest": MANIFEST}
        for file, old, new in edits:
            assert old in files[file], old
            files[file] = files[file].replace(old, new)
        directory = tmp_path / package
        directory.mkdir()
        (directory / "__init__.py").touch()
        for file, text in files.items():
            (directory / f"{file}.py").write_text(dedent(text).format(id=id, package=package))
        return EntryPoint(name or id, f"{package}.{value}", "mgmtnode.services")

    yield make
    for module in set(sys.modules) - before:
        if module.startswith("planted"):
            del sys.modules[module]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Parts]:
    def load(*points: EntryPoint, enabled: tuple[str, ...] = ()) -> Parts:
        manifests = discover(enabled, points)
        clock, rng, slots = SystemClock(), SystemRng(), Slots("n")
        properties = Properties(environ={})
        for manifest in manifests:
            properties.declare(manifest.id, manifest.properties)
        db = open_database(f"sqlite:///{tmp_path / 'unused.db'}", clock)
        bus = Bus("n", slots, Hub().transport("n.1"), clock=clock, rng=rng)
        membership = Membership(
            Identity("n", "n", "1", "n"), db, slots,
            heart=NoHeart(), lease=Lease(clock, forever=True), clock=clock, uuids=UuidSource(clock, rng),
        )  # fmt: skip
        return assemble(
            manifests,
            Edges(
                name="n", membership=membership, clock=clock, rng=rng, db=db, bus=bus, slots=slots,
                agents=LocalAgents(), properties=properties,
            ),
        )  # fmt: skip

    return load


def test_the_sound_service_is_loaded(plant: Plant, load: Callable[..., Parts]) -> None:
    parts = load(plant())
    assert sorted(parts.handlers.jobs) == ["box.create", "box.open"]


SHAPES: dict[str, tuple[tuple[Edit, ...], str]] = {
    "a message without a handler": (
        (("service", "        @handler()\n        async def peek(self, msg: Peek) -> Box: ...\n", ""),),
        r"service.py.*nobody handles Peek of .*contract.py",
    ),
    "two handlers": (
        (("service", "        @validate", "        @handler()\n        async def spy(self, msg: Peek) -> Box: ...\n\n        @validate"),),
        r"service.py.*Peek has two handlers, the other in .*service.py",
    ),
    "a wrong reply": (
        (("service", "msg: Peek) -> Box", "msg: Peek) -> Nothing"),),
        r"service.py.*peek\(\) returns Nothing, the contract of Peek says Box",
    ),
    "a wrong reply of a job": (
        (("service", "msg: CreateBox) -> Box", "msg: CreateBox) -> Nothing"),),
        r"create\(\) returns Nothing, the contract of CreateBox says Box",
    ),
    "no reply": ((("service", "msg: Peek) -> Box", "msg: Peek)"),), r"peek\(\) returns None, the contract"),
    "no annotation": ((("service", "msg: Peek)", "msg)"),), r"peek\(\) must annotate 'msg'"),
    "an unknown annotation": ((("service", "msg: Peek)", "msg: Poke)"),), r"peek\(\).*'Poke' is not defined"),
    "no message": ((("service", "msg: Peek)", "msg: int)"),), r"peek\(\) must annotate 'msg' with the type"),
    "an async handler in a transaction": (
        (("service", "        def weigh", "        async def weigh"),), r"weigh\(\) for Weigh must be a plain function"),
    "a plain handler of an internal message": (
        (("service", "        async def peek", "        def peek"),), r"peek\(\) for Peek must be async"),
    "an async job": ((("service", "        def create", "        async def create"),), r"create\(\).*plain function"),
    "a plain subscriber": ((("service", "async def opened", "def opened"),), r"opened\(\).*must be async"),
    "wrong parameters": (
        (("service", "def weigh(self, tx: Tx, msg: Weigh)", "def weigh(self, msg: Weigh, tx: Tx)"),),
        r"weigh\(\) for Weigh must take \(tx, msg\), not \(msg, tx\)",
    ),
    "a job that is only handled": (
        (("service", "        @job()\n        def create", "        @handler()\n        async def create"),),
        r"create\(\)",
    ),
    "a flow without a context": (
        (("service", "work: WorkToken) -> Context", "work: WorkToken) -> Box"),), r"open\(\) must return the FlowContext"),
    "a validator of what nobody runs": (
        (("service", "msg: OpenBox, caller: Caller) -> None", "msg: Weigh, caller: Caller) -> None"),),
        r"service.py.*validates Weigh, which nobody runs",
    ),
    "a job without an API": (
        (("contract", 'api: ClassVar[Api] = Api("{id}.create", "POST", "/{id}-s")', "pass"),),
        r"contract.py.*CreateBox of service 'box' declares no api",
    ),
    "a job without a target": (
        (("contract", 'resource_type: ClassVar[str] = "{id}"', 'target: ClassVar[str] = "other"'),),
        r"contract.py.*OpenBox has no field 'other' to route by",
    ),
    "a path that names no field": (
        (("contract", "{{uuid}}", "{{box}}"),), r"contract.py.*OpenBox has no field 'box', which its path names"),
    "a route by no field": (
        (("contract", "    class Peek(Internal[Box], frozen=True, kw_only=True):\n",
          "    class Peek(Internal[Box], frozen=True, kw_only=True):\n        route: ClassVar[Route] = by_resource('vm')\n"),),
        r"contract.py.*Peek has no field 'vm' to route by",
    ),
    "an API name twice": (
        (("contract", '"{id}.open", "POST"', '"{id}.create", "POST"'),), r"the API 'box.create' is declared already"),
    "a path twice": (
        (("contract", '"/{id}-s/{{uuid}}/actions/open"', '"/{id}-s"'),), r"the path 'POST /box-s' is declared already"),
    "a path of a list": (
        (("contract", '"/{id}-s/colours/all"', '"/{id}-s"'),), r"the path 'GET /box-s' is declared already"),
    "an error code twice": (
        (("contract", "    class Box(", '    LOST = ErrorCode("box.gone", Category.STATE, "gone")\n\n    class Box('),),
        r"the error code 'box.gone' is declared already",
    ),
    "a config twice": (
        (("manifest", 'config=(', 'config=(GlobalConfig("{id}.size", 2, "How large"), '),),
        r"the global config 'box.size' is declared already",
    ),
    "a property twice": (
        (("manifest", 'properties=(', 'properties=(GlobalProperty("{id}.colour", "blue", "Which"), '),),
        r"the global property 'box.colour' is declared already",
    ),
    "a tag twice": (
        (("manifest", "tags=(", 'tags=(SystemTag(on="{id}", format="colour::{{colour}}", description="Its"), '),),
        r"the system tag 'box: colour::{colour}' is declared already",
    ),
    "no table": (
        (("manifest", "tables=(box,)", "tables=()"),), r"service.py.*resource type 'box' has no table"),
    "no migrations": (
        (("manifest", 'migrations="{package}.migrations",', ""),), r"has tables but names no package with migrations"),
    "an inventory field without a column": (
        (("contract", "size: int", "weight: int"),), r"box, field weight: table box has no such column"),
    "an extension without the method": (
        (("service", "async def watch", "async def look"),), r"service.py.*Watcher: Seer.watch is missing"),
    "an extension that is not async": (
        (("service", "async def watch", "def watch"),), r"Seer.watch must be async def"),
    "an extension with other parameters": (
        (("service", "watch(self, box_uuid: str)", "watch(self, uuid: str)"),), r"Seer.watch takes \(uuid\)"),
    "a cascade over no column": (
        (("manifest", "config=(", "cascade=(OnDelete('{id}', 'zone_uuid', 'zone', nullify=True),), config=("),),
        r"cascade of 'zone': it has no column box.zone_uuid",
    ),
    "a cascade over a column that refers to nothing": (
        (("manifest", "config=(", "cascade=(OnDelete('{id}', 'size', 'zone', nullify=True),), config=("),),
        r"box.size does not refer to 'zone'",
    ),
    "a service that cannot be built": (
        (("service", "        @subscribe", "        def __init__(self, node):\n            raise OSError('no')\n\n        @subscribe"),),
        r"service.py.*cannot be built: OSError: no",
    ),
    "a module that fails to import": (
        (("service", "    class Context", "    1 / 0\n\n    class Context"),), r"'box'.*cannot be imported: ZeroDivisionError"),
    "another id": ((("manifest", 'id="{id}"', 'id="crate"'),), r"service 'box' .*its manifest says id 'crate'"),
    "a required service that is missing": (
        (("manifest", "config=(", 'requires=("shelf",), config=('),), r"requires the service 'shelf', which is not loaded"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
def test_refuses(case: str, plant: Plant, load: Callable[..., Parts]) -> None:
    edits, message = SHAPES[case]
    with pytest.raises((LoadError, DeclarationError), match=message):
        load(plant(*edits))


def test_two_services_may_not_declare_the_same(plant: Plant, load: Callable[..., Parts]) -> None:
    with pytest.raises(
        LoadError, match=r"planted\d+.*service.py.*error code 'box.gone' is declared already, by .*'crate'"
    ):
        load(plant(id="crate"), plant(id="box", name="box"))


def test_services_that_require_each_other_are_refused(plant: Plant, load: Callable[..., Parts]) -> None:
    codes = ("contract", "box.gone", "{id}.gone")
    one = plant(codes, ("manifest", "config=(", 'requires=("crate",), config=('), id="box")
    two = plant(codes, ("manifest", "config=(", 'requires=("box",), config=('), id="crate")
    with pytest.raises(LoadError, match="require each other in a circle: box, crate"):
        load(one, two)


def test_required_services_come_first(plant: Plant, load: Callable[..., Parts]) -> None:
    codes = ("contract", "box.gone", "{id}.gone")
    one = plant(codes, ("manifest", "config=(", 'requires=("crate",), config=('), id="box")
    parts = load(one, plant(codes, id="crate"))
    assert [manifest.id for manifest, _ in parts.services] == ["crate", "box"]


def test_an_entry_point_that_is_no_manifest_is_refused(plant: Plant, load: Callable[..., Parts]) -> None:
    with pytest.raises(LoadError, match=r"is a Table, not a ServiceManifest"):
        load(plant(value="manifest:box"))


def test_one_name_for_two_entry_points_is_refused(plant: Plant, load: Callable[..., Parts]) -> None:
    with pytest.raises(LoadError, match="'box' is declared by two entry points"):
        load(plant(), plant())


def test_an_unknown_id_among_the_enabled_services_is_refused_with_those_there_are(
    plant: Plant, load: Callable[..., Parts]
) -> None:
    with pytest.raises(LoadError, match=r"services.enabled names 'bx'; installed are box"):
        load(plant(), enabled=("bx",))
