"""The ledger: every reservation of everything, in one pair of tables, freed by who holds it.

A pool is what can be had (a host's memory, an account's quota, the addresses of a range); an allocation is what a
resource holds of it. The constraints of the tables make over-booking impossible to commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Insert,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from mgmtnode.db.session import Tx
from mgmtnode.db.tables import allocation, cleanup_debt, pool

# Written once: building a statement costs more than running it, and every placement runs these.
ROW = ("uuid", "job_uuid", "resource_uuid", "pool_uuid", "kind", "amount", "state")
INSERT_IF_FREE = {
    "sqlite": sqlite.insert(allocation).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(allocation).on_conflict_do_nothing(),
}


LOWER = (
    update(pool)
    .where(pool.c.resource_uuid == bindparam("of"), pool.c.kind == bindparam("what"))
    .values(
        used=pool.c.used - bindparam("less", type_=BigInteger),
        allocations=pool.c.allocations - bindparam("fewer", type_=BigInteger),
    )
)
QUARANTINED = allocation.c.state == "QUARANTINED"
GIVEN = (allocation.c.pool_uuid, allocation.c.kind, allocation.c.amount, allocation.c.unit)
HELD = (
    select(allocation.c.pool_uuid, allocation.c.kind, func.sum(allocation.c.amount))
    .where(allocation.c.resource_uuid == bindparam("holder"))
    .group_by(allocation.c.pool_uuid, allocation.c.kind)
)
HELD_STILL = HELD.where(~allocation.c.returned)
LOCK_POOLS = select(pool.c.kind).where(pool.c.resource_uuid == bindparam("of")).order_by(pool.c.kind)
HOLDERS = (
    select(allocation.c.resource_uuid)
    .distinct()
    .where(allocation.c.pool_uuid == bindparam("of"), ~QUARANTINED)
    .order_by(allocation.c.resource_uuid)
)


class Free(NamedTuple):
    """What gives back allocations: ``gone`` deletes them and answers with GIVEN; ``kept`` marks those that are
    quarantined, so that they are not restored to who had them. Where a database takes both in one, it is None."""

    gone: Executable
    kept: Executable | None = None


def _free(*which: ColumnElement[bool]) -> dict[str, Free]:
    """By dialect."""
    gone = delete(allocation).where(*which, ~QUARANTINED).returning(*GIVEN)
    kept = update(allocation).where(*which, QUARANTINED).values(returned=True)
    return {"sqlite": Free(gone, kept), "postgresql": Free(gone.add_cte(kept.cte("kept")))}


_MINE = allocation.c.resource_uuid == bindparam("holder")
_OF_POOL = allocation.c.pool_uuid == bindparam("of")
FREE_UNIT = _free(_MINE, _OF_POOL, allocation.c.unit == bindparam("one"))
FREE_SOME = _free(allocation.c.uuid.in_(bindparam("these", expanding=True)))
SETTLE = delete(allocation).where(_MINE, QUARANTINED).returning(*GIVEN)
SETTLE_POOL = SETTLE.where(_OF_POOL)


def _set_pool(dialect: Any, greatest: Any) -> Any:
    statement = dialect.insert(pool)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["resource_uuid", "kind"],
        set_={"target": new.target, "total": greatest(pool.c.used, new.target)},
    )


SET_POOL = {
    "sqlite": _set_pool(sqlite, func.max),
    "postgresql": _set_pool(postgresql, func.greatest),
}


@cache
def _free_held(*, of_pool: bool, of_kinds: bool) -> dict[str, Free]:
    """What a holder has: all, or of one pool, or of some kinds."""
    which = [_MINE]
    if of_pool:
        which.append(_OF_POOL)
    if of_kinds:
        which.append(allocation.c.kind.in_(bindparam("kinds", expanding=True)))
    return _free(*which)


@lru_cache
def _take_if_fits(kinds: tuple[str, ...], patient: bool) -> Update:
    """Of one owner's pools, those of these kinds, each if it has the room. Answers which had. Who is not ``patient``
    leaves out those that another transaction is just changing."""
    asked = {kind: bindparam(f"more_{place}", type_=BigInteger) for place, kind in enumerate(kinds)}
    more = case(asked, value=pool.c.kind)
    owner, wanted = (
        pool.c.resource_uuid == bindparam("of"),
        pool.c.kind.in_([literal(kind) for kind in kinds]),
    )
    # Locked in one order, so that two never wait for each other.
    locked = select(pool.c.kind).where(owner, wanted).order_by(pool.c.kind)
    if len(kinds) > 1 or not patient:
        wanted = pool.c.kind.in_(locked.with_for_update(skip_locked=not patient))
    return (
        update(pool)
        .where(owner, wanted, pool.c.used + more <= pool.c.target)
        .values(used=pool.c.used + more, allocations=pool.c.allocations + 1)
        .returning(pool.c.kind)
    )


def set_pool(tx: Tx, pool_uuid: str, kind: str, limit: int) -> None:
    """Makes the pool or moves its limit. A limit below what is used takes effect as reservations are given back."""
    row = {"resource_uuid": pool_uuid, "kind": kind, "total": limit, "target": limit, "used": 0}
    tx.execute(SET_POOL[tx.dialect], row)


def drop_pools(tx: Tx, pool_uuid: str) -> None:
    """Forgets a resource's pools and what is still held of them."""
    tx.execute(delete(allocation).where(allocation.c.pool_uuid == pool_uuid))
    tx.execute(delete(pool).where(pool.c.resource_uuid == pool_uuid))


def reserve(
    tx: Tx, pool_uuid: str, kind: str, amount: int, *, holder: str, uuid: str, force: bool = False
) -> bool:
    """Takes ``amount`` for ``holder``; False if it does not fit or there is no such pool. ``uuid`` names the
    allocation. ``force`` stretches the pool: for what is found to be in use already."""
    return reserve_all(tx, pool_uuid, {kind: amount}, holder=holder, draw=lambda: uuid, force=force)


def reserve_all(
    tx: Tx,
    pool_uuid: str,
    amounts: Mapping[str, int],
    *,
    holder: str,
    draw: Callable[[], str],
    force: bool = False,
    patient: bool = True,
) -> bool:
    """Takes an amount of each kind, all or nothing, as ``reserve`` does of one. ``draw()`` names an allocation. Who is
    not ``patient`` does not wait for another transaction that takes of the same pools: for who can do with others."""
    if any(amount < 0 for amount in amounts.values()):
        raise ValueError(f"a reservation of {amounts}")
    if not amounts:
        return True
    taken = _stretch(tx, pool_uuid, amounts) if force else _take(tx, pool_uuid, amounts, patient)
    if len(taken) < len(amounts):
        for kind in taken:
            _lower(tx, pool_uuid, kind, amounts[kind])
        return False
    rows = [_row(tx, pool_uuid, kind, holder, draw()) | {"amount": n} for kind, n in amounts.items()]
    tx.later(_insert(len(rows)), {f"{name}_{n}": row[name] for n, row in enumerate(rows) for name in row})
    return True


def take_unit(tx: Tx, pool_uuid: str, kind: str, unit: str, *, holder: str, uuid: str) -> bool:
    """Takes one named unit of a pool (an address of a range); False if somebody holds it."""
    row = _row(tx, pool_uuid, kind, holder, uuid) | {"amount": 1, "unit": unit}
    return bool(tx.execute(INSERT_IF_FREE[tx.dialect], row).rowcount)


def free(tx: Tx, holder: str, *, pool_uuid: str | None = None, kinds: Sequence[str] = ()) -> None:
    """Gives back what ``holder`` holds: all, or of one pool, or of some kinds. What is quarantined stays until the
    debt is settled, and is free then."""
    asked: dict[str, Any] = {"holder": holder}
    if pool_uuid:
        asked["of"] = pool_uuid
    if kinds:
        asked["kinds"] = list(kinds)
    _give_back(tx, _free_held(of_pool=bool(pool_uuid), of_kinds=bool(kinds))[tx.dialect], asked)


def cancel(tx: Tx, allocations: Sequence[str]) -> None:
    """Gives back single allocations, by their uuids, as ``free`` does."""
    if allocations:
        _give_back(tx, FREE_SOME[tx.dialect], {"these": list(allocations)})


def free_unit(tx: Tx, pool_uuid: str, unit: str, *, holder: str) -> None:
    """Gives back one named unit, if ``holder`` has it, as ``free`` does."""
    _give_back(tx, FREE_UNIT[tx.dialect], {"of": pool_uuid, "one": unit, "holder": holder})


def quarantine(tx: Tx, holder: str) -> None:
    """Nobody knows whether it is still in use: keep it from being handed out until the debt is settled."""
    tx.execute(update(allocation).where(allocation.c.resource_uuid == holder).values(state="QUARANTINED"))


def settle(tx: Tx, holder: str, *, pool_uuid: str | None = None) -> None:
    """The debt is paid: what was quarantined, of one pool or at all, is free."""
    if pool_uuid:
        _give_back(tx, Free(SETTLE_POOL), {"holder": holder, "of": pool_uuid})
    else:
        _give_back(tx, Free(SETTLE), {"holder": holder})


def restore(tx: Tx, holder: str) -> None:
    """Nothing was left behind, and ``holder`` is still there: what was quarantined is held as before, but for what
    it has given back meanwhile. What it has reserved anew of a pool stands for the old reservation, which is given
    back, too."""
    quarantined = and_(allocation.c.resource_uuid == holder, QUARANTINED)
    anew = allocation.alias("anew")
    twice = exists().where(
        anew.c.resource_uuid == holder,
        anew.c.state == "LIVE",
        anew.c.pool_uuid == allocation.c.pool_uuid,
        anew.c.kind == allocation.c.kind,
        anew.c.unit.is_(None),
    )
    over = delete(allocation).where(quarantined, or_(twice, allocation.c.returned))
    _give_back(tx, Free(over.returning(*GIVEN)))
    tx.execute(update(allocation).where(quarantined).values(state="LIVE"))


def owe(tx: Tx, host_uuid: str, holder: str, *, job_uuid: str, reason: str) -> None:
    """Writes down that something of ``holder`` may be left on the host."""
    make = (sqlite if tx.dialect == "sqlite" else postgresql).insert(cleanup_debt)
    values = {
        "uuid": str(uuid5(UUID(host_uuid), holder)),
        "host_uuid": host_uuid,
        "resource_uuid": holder,
        "job_uuid": job_uuid,
        "reason": reason,
        "created_at": tx.now,
    }
    tx.execute(make.values(values).on_conflict_do_nothing())


def drop_debt(tx: Tx, host_uuid: str, holder: str) -> int:
    """The host owes nothing more for ``holder``. Answers how many other hosts do."""
    mine = cleanup_debt.c.resource_uuid == holder
    # All of them are locked: of two hosts that settle at once, the second must find that it is the last.
    tx.execute(select(cleanup_debt.c.uuid).where(mine).order_by(cleanup_debt.c.uuid).with_for_update())
    tx.execute(delete(cleanup_debt).where(mine, cleanup_debt.c.host_uuid == host_uuid))
    return int(tx.execute(select(func.count()).select_from(cleanup_debt).where(mine)).scalar() or 0)


def usage(tx: Tx, pool_uuid: str, kind: str) -> tuple[int, int]:
    """(used, limit) of a pool; (0, 0) if there is none."""
    row = tx.execute(
        select(pool.c.used, pool.c.target).where(pool.c.resource_uuid == pool_uuid, pool.c.kind == kind)
    ).first()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def units(tx: Tx, pool_uuid: str, *, unit: str | None = None) -> dict[str, str]:
    """The named units taken of a pool, or just ``unit`` if it is: unit → LIVE, HELD or QUARANTINED."""
    taken = select(allocation.c.unit, allocation.c.state).where(allocation.c.pool_uuid == pool_uuid)
    if unit is not None:
        taken = taken.where(allocation.c.unit == unit)
    return {str(r[0]): str(r[1]) for r in tx.execute(taken) if r[0] is not None}


def units_by_state(tx: Tx, pool_uuid: str, kind: str) -> dict[str, int]:
    """How many allocations of a pool there are: state → number."""
    rows = tx.execute(
        select(allocation.c.state, func.count())
        .where(allocation.c.pool_uuid == pool_uuid, allocation.c.kind == kind)
        .group_by(allocation.c.state)
    )
    return {str(r[0]): int(r[1]) for r in rows}


def held(tx: Tx, holder: str, *, returned: bool = True) -> dict[tuple[str, str], int]:
    """What ``holder`` holds: (pool, kind) → amount; with or without what is free once a debt is settled."""
    rows = tx.execute(HELD if returned else HELD_STILL, {"holder": holder})
    return {(str(r[0]), str(r[1])): int(r[2]) for r in rows}


def holders(tx: Tx, pool_uuid: str) -> list[str]:
    """Who holds something of a pool, but for what is quarantined. Until the commit nobody else can take of it."""
    tx.execute(LOCK_POOLS.with_for_update(), {"of": pool_uuid}).all()
    return [str(r[0]) for r in tx.execute(HOLDERS, {"of": pool_uuid})]


@cache
def _insert(rows: int) -> Insert:
    """Of so many allocations; their values are called ``uuid_0``, ``uuid_1`` and so on."""
    named = (
        {name: bindparam(f"{name}_{n}", type_=allocation.c[name].type) for name in ROW} for n in range(rows)
    )
    return insert(allocation).values(list(named))


def _give_back(tx: Tx, what: Free, asked: dict[str, Any] | None = None) -> None:
    """Lowers the pools, too, that the allocations were of."""
    if what.kept is not None:
        tx.execute(what.kept, asked)
    gone = tx.execute(what.gone, asked).all()
    amounts: dict[tuple[str, str], list[int]] = {}
    for pool_uuid, kind, amount, unit in gone:
        if unit is None:
            amounts.setdefault((pool_uuid, kind), []).append(amount)
    for (pool_uuid, kind), given in sorted(amounts.items()):
        _lower(tx, pool_uuid, kind, sum(given), len(given))


def _lower(tx: Tx, pool_uuid: str, kind: str, amount: int, allocations: int = 1) -> None:
    tx.later(LOWER, {"of": pool_uuid, "what": kind, "less": amount, "fewer": allocations})


def _take(tx: Tx, pool_uuid: str, amounts: Mapping[str, int], patient: bool) -> Collection[str]:
    """The kinds of which there was enough."""
    kinds = tuple(sorted(amounts))
    values: dict[str, Any] = {f"more_{place}": amounts[kind] for place, kind in enumerate(kinds)}
    return tx.execute(_take_if_fits(kinds, patient), values | {"of": pool_uuid}).scalars().all()


def _stretch(tx: Tx, pool_uuid: str, amounts: Mapping[str, int]) -> Collection[str]:
    """The kinds of which there is a pool."""
    return [kind for kind in sorted(amounts) if _stretch_one(tx, pool_uuid, kind, amounts[kind])]


def _stretch_one(tx: Tx, pool_uuid: str, kind: str, amount: int) -> int:
    used = pool.c.used + amount
    values = {"used": used, "total": _greatest(tx, pool.c.total, used), "allocations": pool.c.allocations + 1}
    where = and_(pool.c.resource_uuid == pool_uuid, pool.c.kind == kind)
    return tx.execute(update(pool).where(where).values(values)).rowcount


def _row(tx: Tx, pool_uuid: str, kind: str, holder: str, uuid: str) -> dict[str, object]:
    return {
        "uuid": uuid,
        "job_uuid": tx.work.job_uuid if tx.work else None,
        "resource_uuid": holder,
        "pool_uuid": pool_uuid,
        "kind": kind,
        "state": "LIVE",
    }


def _greatest(tx: Tx, column: ColumnElement[int], other: ColumnElement[int] | int) -> ColumnElement[int]:
    return (func.max if tx.dialect == "sqlite" else func.greatest)(column, other)
