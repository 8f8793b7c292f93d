"""Clients over AMQP: they publish, wait for both answers, and publish again under the same key if none comes."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pika

from tests.chaos.history import LOST, Answered, Asked, Ended, History, now
from tests.chaos.stage import MIB, Account, Stage

ATTEMPT_SECONDS = 8.0
RETRY_SECONDS = 45.0
PAUSE_SECONDS = 0.5
LINE = "?heartbeat=4&socket_timeout=3&stack_timeout=5&blocked_connection_timeout=8&connection_attempts=1"
ACTIONS = ("start", "stop", "reboot", "pause", "resume")

Request = tuple[str, str, dict[str, Any]]
"""(key, name of the API, body)"""


class Mailer:
    """One client in a thread; its requests come one after the other. ``open`` are those that no answer settled."""

    def __init__(
        self,
        name: str,
        url: str,
        account: Account,
        history: History,
        rng: Random,
        vms: list[str] | None = None,
    ) -> None:
        self.name, self.account = name, account
        self._vms = [] if vms is None else vms
        self.open: list[Request] = []
        self._url, self._history, self._rng = url + LINE, history, rng
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._failed: BaseException | None = None
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._answers: list[tuple[str, str, dict[str, Any]]] = []

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        self._over.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def ask(self, request: Request, seconds: float = RETRY_SECONDS) -> dict[str, Any] | None:
        """The job, or None: it was refused, or nobody knows, which is kept in ``open``."""
        key, api, _ = request
        asked = Asked(at=now(), key=key, client=self.name, account=self.account.name, method="AMQP", path=api)
        self._history.note(asked)
        until = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            try:
                answered, job = self._attempt(request)
            except (
                Exception
            ) as exc:  # pika raises ValueError, too, when a connection is reset while it is made
                self._lose()
                answered, job = False, None
                self._answered(key, LOST, began, code=type(exc).__name__)
            if answered:
                return job
            if time.monotonic() > until:
                self.open.append(request)
                return None
            time.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        self._lose()

    def _run(self) -> None:
        try:
            number = 0
            while not self._over.is_set():
                number += 1
                self._want(f"{self.name}-{number}", self._vms)
            self.close()
        except BaseException as exc:  # told by finish(), in the thread that asks
            self._failed = exc

    def _want(self, key: str, vms: list[str]) -> None:
        draw = self._rng.random()
        if not vms or (draw < 0.3 and len(vms) < 3):
            job = self.ask((key, "vm.create", {"name": key, "cpu": 1, "memory": 256 * MIB}))
            vms += [job["resource_uuid"]] if job else []
        elif draw < 0.5:
            self.ask((key, "vm.delete", {"uuid": vms.pop(), "force": True}))
        else:
            self.ask((key, f"vm.{self._rng.choice(ACTIONS)}", {"uuid": self._rng.choice(vms)}))

    def _attempt(self, request: Request) -> tuple[bool, dict[str, Any] | None]:
        """(whether it is known what became of it, its job)."""
        began, (key, api, body) = time.monotonic(), request
        channel = self._connected()
        properties = pika.BasicProperties(
            content_type="application/json",
            reply_to=self._queue,
            correlation_id=key,
            message_id=key,
            headers={"authorization": f"Bearer {self.account.token}"},
        )
        channel.basic_publish("mgmtnode.api", api, json.dumps(body).encode(), properties)
        job: dict[str, Any] | None = None
        for kind, answer in self._heard(key, began + ATTEMPT_SECONDS):
            if kind == "problem":
                status = answer["status"]
                self._answered(key, status, began, code=answer.get("code", ""))
                return status < 500 and status != 429, None
            if job is None:
                self._answered(key, 202, began, job=answer["uuid"])
                job = answer
            if kind == "job.ended":
                error = answer.get("error") or {}
                self._history.note(
                    Ended(at=now(), job=answer["uuid"], state=answer["state"], code=error.get("code", ""))
                )
                return True, answer
        if job is None:
            self._answered(key, LOST, began)
        return job is not None, job

    def _heard(self, key: str, until: float) -> Iterator[tuple[str, dict[str, Any]]]:
        while time.monotonic() < until:
            assert self._connection is not None
            self._connection.process_data_events(time_limit=0.1)
            while self._answers:
                of, kind, answer = self._answers.pop(0)
                if of == key:
                    yield kind, answer

    def _connected(self) -> Any:
        if self._channel is None or not self._channel.is_open:
            self._lose()
            self._connection = pika.BlockingConnection(pika.URLParameters(self._url))
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
            self._queue = self._channel.queue_declare("", exclusive=True).method.queue
            self._channel.basic_consume(self._queue, self._take, auto_ack=True)
        return self._channel

    def _take(self, channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        answer = json.loads(body)
        if properties.type == "problem":
            answer["status"] = int((properties.headers or {})["status"])
        self._answers.append((properties.correlation_id, properties.type, answer))

    def _lose(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            with contextlib.suppress(Exception):
                connection.close()

    def _answered(self, key: str, status: int, began: float, *, code: str = "", job: str = "") -> None:
        seconds = round(time.monotonic() - began, 3)
        self._history.note(Answered(at=now(), key=key, status=status, seconds=seconds, code=code, job=job))


class Mailers:
    """All of them. VMs outlive the cycle: those of the next go on with them."""

    def __init__(self, stage: Stage, history: History, seed: int, count: int) -> None:
        self._stage, self._history, self._seed, self._count = stage, history, seed, count
        self._now: list[Mailer] = []
        self._open: list[tuple[Account, Request]] = []
        self._vms: list[list[str]] = [[] for _ in range(count)]

    def begin(self, cycle: int) -> None:
        self._now = [self._mailer(f"m{cycle}-{number}", number) for number in range(self._count)]
        for mailer in self._now:
            mailer.start()

    def finish(self) -> None:
        for mailer in self._now:
            mailer.finish()
            self._open += [(mailer.account, request) for request in mailer.open]
        self._now = []

    def resolve(self) -> int:
        """Asks again for what no answer settled; returns how many there were."""
        left, self._open = self._open, []
        for number, (account, request) in enumerate(left):
            mailer = Mailer(f"again-{number}", self._stage.client_amqp_url, account, self._history, Random(0))
            mailer.ask(request)
            mailer.close()
        return len(left)

    def _mailer(self, name: str, number: int) -> Mailer:
        account = self._stage.accounts[number % len(self._stage.accounts)]
        rng = Random(f"{self._seed} {name}")
        return Mailer(name, self._stage.client_amqp_url, account, self._history, rng, self._vms[number])
