"""Random conditions, sorts and limits mean on both databases what they mean in Python."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller
from mgmtnode.query.engine import Query
from tests.query import schema as s
from tests.query.reference import Test, in_order, matching
from tests.query.world import ALICE, BOB, NAMES, STEPS, TAGS, World

KINDS = {kind.type: kind for kind in (s.ZONE, s.CLUSTER, s.HOST, s.VM, s.NIC, s.NETWORK)}
WORLD = World()
SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
EQUAL, ORDER, LIKE, IN = ("=", "!="), (">", ">=", "<", "<="), ("~=", "!~="), ("?=", "!?=")
PATTERNS = st.text(st.sampled_from("vVmM-1_%\\ünï🙂="), max_size=6).filter(
    lambda p: (len(p) - len(p.rstrip("\\"))) % 2 == 0
)
TEXTS = st.sampled_from(NAMES) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5
).filter(lambda text: not text.startswith(tuple("=<>~")))  # "==" and the like are refused


def _values(type_: str, field: str) -> st.SearchStrategy[Any]:
    present = [row[field] for row in WORLD.rows[type_] if row[field] is not None]
    return st.sampled_from(present)


def _field_tests(type_: str) -> st.SearchStrategy[tuple[str, str, Any]]:
    """A field of the type, an operator it has, and a value."""
    row = WORLD.rows[type_][0]
    choices: list[st.SearchStrategy[tuple[str, str, Any]]] = []
    for name in row:
        values = _values(type_, name)
        sample = next((r[name] for r in WORLD.rows[type_] if r[name] is not None), None)
        choices.append(st.tuples(st.just(name), st.sampled_from(EQUAL), st.none()))
        if isinstance(sample, list | dict):
            continue
        if isinstance(sample, str) and name != "state" and not name.endswith("uuid"):
            values = values | TEXTS
        operators = EQUAL if name == "state" or isinstance(sample, bool) else EQUAL + ORDER
        single = values.filter(lambda v: v != "null")
        members = values.filter(lambda v: "," not in str(v))
        lists = st.lists(members, min_size=1, max_size=4)
        choices.append(st.tuples(st.just(name), st.sampled_from(operators), single))
        choices.append(st.tuples(st.just(name), st.sampled_from(IN), lists))
        if isinstance(sample, str):
            choices.append(st.tuples(st.just(name), st.sampled_from(LIKE), PATTERNS))
    tag = st.sampled_from(("user_tag", "system_tag"))
    choices.append(st.tuples(tag, st.sampled_from(EQUAL + ORDER), st.sampled_from(TAGS)))
    choices.append(st.tuples(tag, st.sampled_from(LIKE), st.sampled_from(("team%", "%ï", "_eam-_", "%"))))
    choices.append(st.tuples(tag, st.sampled_from(IN), st.lists(st.sampled_from(TAGS), min_size=1)))
    choices.append(st.tuples(tag, st.sampled_from(EQUAL), st.none()))
    return st.one_of(choices)


@st.composite
def conditions_of(draw: st.DrawFn, type_: str) -> Test:
    path: list[str] = []
    at = type_
    for _ in range(draw(st.integers(0, 3))):
        step = draw(st.sampled_from(sorted(STEPS[at])))
        path.append(step)
        at = STEPS[at][step][0]
    field, operator, value = draw(_field_tests(at))
    return Test(tuple(path), field, operator, value)


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, list[Test], str | None]:
    type_ = draw(st.sampled_from(sorted(KINDS)))
    tests = draw(st.lists(conditions_of(type_), max_size=3))
    return type_, tests, draw(st.sampled_from((None, ALICE, BOB)))


def caller_of(account: str | None) -> Caller | None:
    return Caller(account_uuid=account) if account else None


@given(question=questions())
@SETTINGS
def test_random_conditions_find_the_same_rows_as_python(
    tx: Tx, query: Query, question: tuple[str, list[Test], str | None]
) -> None:
    type_, tests, account = question
    found = query.find(tx, KINDS[type_], *map(str, tests), caller=caller_of(account))
    assert [row.uuid for row in found] == sorted(
        row["uuid"] for row in matching(WORLD, type_, tests, account)
    )


@st.composite
def sorts(draw: st.DrawFn, type_: str) -> str:
    row, shown = WORLD.rows[type_][0], KINDS[type_].inventory.__struct_fields__
    names = [name for name in row if name in shown and name not in ("labels", "options")]
    words = st.tuples(st.sampled_from(("", "-")), st.sampled_from(names)).map("".join)
    return ",".join(draw(st.lists(words, max_size=3, unique_by=lambda w: w.lstrip("-"))))


@given(question=questions(), data=st.data(), limit=st.integers(1, 25), count=st.booleans())
@SETTINGS
def test_pages_put_together_are_the_whole_list_in_order(
    tx: Tx, query: Query, question: Any, data: st.DataObject, limit: int, count: bool
) -> None:
    type_, tests, account = question
    sort = data.draw(sorts(type_))
    wanted = [row["uuid"] for row in in_order(matching(WORLD, type_, tests, account), sort)]
    options: dict[str, Any] = {"caller": caller_of(account), "sort": sort, "limit": limit, "count": count}
    got: list[str] = []
    cursor = ""
    for _ in range(len(wanted) // limit + 1):
        page = query.page(tx, KINDS[type_], list(map(str, tests)), cursor=cursor, **options)
        got += [row.uuid for row in page.items]
        assert page.total == (len(wanted) if count else None)
        assert len(page.items) <= limit
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert page.next_cursor is None
    assert got == wanted


def test_inventories_have_the_values_that_were_written(tx: Tx, query: Query, world: World) -> None:
    for type_, kind in KINDS.items():
        for item in query.find(tx, kind):
            row = world.by_uuid[item.uuid]
            for name, value in row.items():
                if name in item.__struct_fields__:
                    assert getattr(item, name) == value, (type_, name)
                    assert type(getattr(item, name)) is (s.VmState if name == "state" else type(value))


def test_embedded_lists_have_all_that_refers_to_the_resource_by_uuid(
    tx: Tx, query: Query, world: World
) -> None:
    for vm in query.find(tx, s.VM):
        wanted = sorted(row["uuid"] for row in world.rows["nic"] if row["vm_uuid"] == vm.uuid)
        assert [nic.uuid for nic in vm.nics] == wanted
        for nic in vm.nics:
            assert nic == query.get(tx, s.NIC, nic.uuid)
    for network in query.find(tx, s.NETWORK):
        assert network.cluster_uuids == sorted(c for n, c in world.links if n == network.uuid)
