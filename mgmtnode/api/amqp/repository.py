"""The only SQL of the AMQP API: who is to hear of a job's end, and how far events have been told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from mgmtnode.api.amqp.request import Address
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import event_reader, job, job_reply
from mgmtnode.jobs.job import TERMINAL
from mgmtnode.schema import Data

KEEP = {
    "sqlite": sqlite.insert(job_reply).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(job_reply).on_conflict_do_nothing(),
}
BEGIN = {
    "sqlite": sqlite.insert(event_reader).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(event_reader).on_conflict_do_nothing(),
}
ENDED = (
    select(job_reply, job.c.resource_uuid)
    .join(job, job.c.uuid == job_reply.c.job_uuid)
    .where(job.c.state.in_(TERMINAL))
)


class Owed(Data):
    """Somebody who has not been told that a job ended."""

    job_uuid: str
    resource_uuid: str
    reply_to: str
    correlation_id: str

    @property
    def address(self) -> Address:
        return Address(self.reply_to, self.correlation_id)


def keep(tx: Tx, job_uuid: str, address: Address) -> None:
    """Notes that ``address`` is to hear of the job's end. Again, it changes nothing."""
    row = {"job_uuid": job_uuid, "reply_to": address.reply_to, "correlation_id": address.correlation_id}
    tx.later(KEEP[tx.dialect], row)


def kept(tx: Tx, job_uuid: str) -> int:
    """How many wait for the job's end."""
    return int(
        tx.execute(
            select(func.count()).select_from(job_reply).where(job_reply.c.job_uuid == job_uuid)
        ).scalar()
        or 0
    )


def owed(tx: Tx, limit: int, jobs: Sequence[str] | None = None) -> list[Owed]:
    """Who is to be told of the end of these jobs, or of any, because it has come."""
    statement = ENDED if jobs is None else ENDED.where(job_reply.c.job_uuid.in_(jobs))
    rows = tx.execute(statement.order_by(job.c.seq).limit(limit)).mappings()
    return [Owed(**row) for row in rows]


def drop(tx: Tx, told: Iterable[Owed]) -> None:
    for one in told:
        where = and_(
            job_reply.c.job_uuid == one.job_uuid,
            job_reply.c.reply_to == one.reply_to,
            job_reply.c.correlation_id == one.correlation_id,
        )
        tx.later(delete(job_reply).where(where))


def position(tx: Tx, reader: str) -> str | None:
    return tx.execute(select(event_reader.c.position).where(event_reader.c.name == reader)).scalar()


def begin(tx: Tx, reader: str, at: str) -> str:
    """The position of a reader, which is ``at`` if it is new."""
    tx.execute(BEGIN[tx.dialect], {"name": reader, "position": at})
    return str(position(tx, reader))


def advance(tx: Tx, reader: str, before: str, after: str) -> bool:
    """False if another node has moved it meanwhile."""
    where = and_(event_reader.c.name == reader, event_reader.c.position == before)
    return bool(tx.execute(update(event_reader).where(where).values(position=after)).rowcount)
