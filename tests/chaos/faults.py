"""How each fault is made, and how it ends."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from mgmtnode.testing.chaos import FAIR, Weather
from mgmtnode.testing.chaos.weather import Commit, Way
from mgmtnode.testing.family import descendants
from mgmtnode.testing.process import ServerFailed
from tests.chaos.history import History, Struck, now
from tests.chaos.plan import AGENTS, DATABASE, Fault, Kind
from tests.chaos.stage import API_VHOST, Stage

ALARM = "{resource_limit, memory, node()}"
BOTH = frozenset({Way.UP, Way.DOWN})
STOP_SECONDS = 60.0  # what a service manager gives a node, about

Deed = Callable[[Stage, Fault], AbstractContextManager[None]]


class Faults:
    """Makes the faults of one cycle at their times, each in a thread. ``extra``: deeds that are not the stage's."""

    def __init__(self, stage: Stage, history: History, cycle: int, extra: dict[Kind, Deed]) -> None:
        self._stage, self._history, self._cycle = stage, history, cycle
        self._deeds = DEEDS | extra
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failed: list[BaseException] = []

    def begin(self, faults: list[Fault]) -> None:
        began = time.monotonic()
        for fault in faults:
            thread = threading.Thread(target=self._run, args=(fault, began), name=str(fault))
            self._threads.append(thread)
            thread.start()

    def finish(self, *, at_once: bool = False) -> None:
        """Returns once all faults are over. Raises what kept one from being made or mended."""
        if at_once:
            self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self, fault: Fault, began: float) -> None:
        if self._over.wait(max(0.0, began + fault.at - time.monotonic())):
            return
        try:
            with self._locks[fault.victim]:  # what it was to be struck by before may take longer than planned
                self._note(fault)
                with self._deed(fault)(self._stage, fault):
                    self._over.wait(fault.seconds)
                self._note(fault, over=True)
        except Exception as exc:  # told by finish(), in the thread that asks
            self._failed.append(exc)

    def _deed(self, fault: Fault) -> Deed:
        if fault.kind in self._deeds:
            return self._deeds[fault.kind]
        return weather

    def _note(self, fault: Fault, *, over: bool = False) -> None:
        self._history.note(
            Struck(at=now(), cycle=self._cycle, kind=fault.kind, victim=fault.victim, over=over)
        )


@contextmanager
def kill(stage: Stage, fault: Fault) -> Iterator[None]:
    if fault.victim in stage.cluster.nodes:
        stage.held.add(fault.victim)
        stage.cluster.nodes[fault.victim].kill()
        yield
        stage.held.discard(fault.victim)
    elif fault.victim == AGENTS:
        agents = stage.agents
        agents.kill()
        yield
        agents.start()
        agents.wait_ready()
    else:
        stage.cluster.rabbit.halt("kill")
        yield
        stage.cluster.rabbit.revive()


@contextmanager
def pause(stage: Stage, fault: Fault) -> Iterator[None]:
    member = stage.agents if fault.victim == AGENTS else stage.cluster.nodes[fault.victim]
    if not member.running:
        yield
        return
    try:
        member.pause()
    except ServerFailed:  # it ended by itself at that moment
        yield
        return
    try:
        yield
    finally:
        member.resume()


@contextmanager
def drain(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.held.add(fault.victim)
    stage.cluster.nodes[fault.victim].terminate(STOP_SECONDS)
    yield
    stage.held.discard(fault.victim)


def _weather(fault: Fault) -> Weather:
    match fault.kind:
        case Kind.CUT:
            return Weather(held=BOTH)
        case Kind.DEAF:
            return Weather(held=frozenset({Way.DOWN}))
        case Kind.MUTE:
            return Weather(held=frozenset({Way.UP}))
        case Kind.HALF_OPEN:
            return Weather(severed=True)
        case Kind.REFUSED:
            return Weather(refuses=True)
        case Kind.DELAY:
            return Weather(delay=fault.amount)
        case Kind.SLOW:
            return Weather(rate=int(fault.amount))
        case Kind.COMMIT_LOST:
            return Weather(commit=Commit.LOST, share=fault.amount)
        case Kind.COMMIT_UNANSWERED:
            return Weather(commit=Commit.UNANSWERED, share=fault.amount)
    raise ValueError(f"{fault.kind} is not a weather")


@contextmanager
def weather(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.lines.change(fault.victim, _weather(fault))
    yield
    stage.lines.change(fault.victim, FAIR)


@contextmanager
def reset(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.lines.reset(fault.victim)
    yield


@contextmanager
def stop_immediate(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.cluster.postgres.halt("immediate")
    yield
    stage.cluster.postgres.revive()


@contextmanager
def sessions_ended(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'mn/%%'")
    yield


@contextmanager
def backend_killed(stage: Stage, fault: Fault) -> Iterator[None]:
    """As the kernel does it when memory runs out: the server then ends all its sessions and recovers."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'mn/%%' LIMIT 1"
    pids = {pid for (pid,) in stage.rows(query)}
    for who in descendants(stage.cluster.postgres.pid):
        if who.pid in pids:
            who.signal(signal.SIGKILL)
    yield


@contextmanager
def wiped(stage: Stage, fault: Fault) -> Iterator[None]:
    rabbit = stage.cluster.rabbit
    rabbit.halt("kill")
    shutil.rmtree(rabbit.directory / "mnesia")
    yield
    rabbit.revive()
    rabbit.create_vhost(API_VHOST)


@contextmanager
def alarm(stage: Stage, fault: Fault) -> Iterator[None]:
    rabbit = stage.cluster.rabbit
    rabbit.eval(f"rabbit_alarm:set_alarm({{{ALARM}, []}}).")
    try:
        yield
    finally:
        rabbit.eval(f"rabbit_alarm:clear_alarm({ALARM}).")


@contextmanager
def disk_full(stage: Stage, fault: Fault) -> Iterator[None]:
    disk = stage.database_disk if fault.victim == DATABASE else stage.agents_disk
    if not disk.small:
        yield
        return
    disk.fill()
    try:
        yield
    finally:
        disk.free()
        if fault.victim == DATABASE:
            stage.revive_database()
        else:
            stage.revive_agents()


DEEDS: dict[Kind, Deed] = {
    Kind.KILL: kill,
    Kind.PAUSE: pause,
    Kind.DRAIN: drain,
    Kind.RESET: reset,
    Kind.STOP_IMMEDIATE: stop_immediate,
    Kind.SESSIONS_ENDED: sessions_ended,
    Kind.BACKEND_KILLED: backend_killed,
    Kind.WIPED: wiped,
    Kind.ALARM: alarm,
    Kind.DISK_FULL: disk_full,
}
