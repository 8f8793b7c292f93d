"""Retries with one key, failover, and event streams that survive."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice

import pytest

from mgmtnode.client import Client, ConnectionFailed, Denied, Unavailable
from mgmtnode.client.exchange import Caller, Lost, Pause, Reply, Request, Send
from mgmtnode.client.sse import Decoder

from .fakenode import TOKEN, Answer, FakeNode, Seen, problem

BUSY: Answer = (
    503,
    {"Content-Type": "application/problem+json"},
    problem("core.unavailable", "UNAVAILABLE", "draining"),
)


class Time:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, [0.0][:0]

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


def drive(caller: Caller, time: Time, answers: list[Reply | Lost]) -> tuple[Reply, list[Send]]:
    """Performs one call against scripted answers; the last one repeats."""
    exchange, sent = caller.call(Request("POST", "/v1/vms", body={})), [][:0]
    answer: Reply | Lost | None = None
    try:
        while True:
            step = exchange.send(answer)
            answer = None
            if isinstance(step, Pause):
                time.pause(step.seconds)
            else:
                sent.append(step)
                time.now += 0.01
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
    except StopIteration as end:
        return end.value, sent


def caller(time: Time, *urls: str) -> Caller:
    return Caller(urls or ("http://a",), clock=lambda: time.now, jitter=lambda low, high: high, retry_for=10)


def busy(after: str | None = None) -> Reply:
    return Reply(503, {"retry-after": after} if after else {}, json.dumps(BUSY[2]).encode())


def test_a_mutation_is_repeated_with_the_same_key_and_made_once(client: Client, node: FakeNode) -> None:
    node.script = [None, BUSY, (429, {"Retry-After": "0"}, None)]
    client.zones.create(name="west").result()
    keys = {seen.headers["idempotency-key"] for seen in node.mutations()}
    assert (len(node.mutations()), len(keys), len(node.rows("zones"))) == (4, 1, 1)
    client.zones.create(name="east", idempotency_key="mine")
    assert node.mutations()[-1].headers["idempotency-key"] == "mine"


def test_an_answer_lost_after_the_work_was_accepted_does_not_make_a_second_one(
    client: Client, node: FakeNode
) -> None:
    real, lose = node.answer, [True]

    def answer(seen: Seen) -> Answer | None:
        done = real(seen)
        return None if lose and lose.pop() else done

    node.answer = answer  # type: ignore[method-assign]  # the node stays real, only its answer is lost
    client.zones.create(name="west").result()
    assert len(node.rows("zones")) == 1 and len(node.mutations()) == 2


def test_the_next_url_takes_over_and_stays(nodes: Callable[[], FakeNode]) -> None:
    dead, alive = nodes(), nodes()
    dead.server.shutdown()
    dead.server.server_close()
    with Client([dead.url, alive.url], TOKEN, timeout=30, retry_for=30) as client:
        client.zones.create(name="west").result()
        assert client.caller.urls[client.caller.current] == alive.url and len(alive.mutations()) == 1
    dead.server.server_close()


def test_a_draining_node_hands_over_to_the_next(nodes: Callable[[], FakeNode]) -> None:
    draining, alive = nodes(), nodes()
    draining.script = [BUSY] * 3
    with Client(f"{draining.url},{alive.url}", TOKEN, timeout=30, retry_for=30) as client:
        assert list(client.vms.list()) == [] and len(draining.seen) == len(alive.seen) == 1


def test_nobody_there_is_told_within_the_deadline() -> None:
    with (
        Client("http://127.0.0.1:1", retry_for=0.3) as client,
        pytest.raises(ConnectionFailed, match="cannot reach"),
    ):
        client.zones.get("x")


def test_backoff_grows_and_ends_at_the_deadline() -> None:
    time = Time()
    with pytest.raises(ConnectionFailed):
        drive(caller(time), time, [Lost("refused")])
    assert time.pauses[:5] == [0.2, 0.4, 0.8, 1.6, 3.2] and time.now < 10


def test_all_urls_are_tried_before_the_first_pause() -> None:
    time = Time()
    _, sent = drive(caller(time, "http://a", "http://b"), time, [Lost("x"), Lost("x"), Reply(200, {}, b"{}")])
    assert [s.base_url for s in sent] == ["http://a", "http://b", "http://a"] and time.pauses == [0.2]


def test_retry_after_is_honoured_unless_it_is_past_the_deadline() -> None:
    time = Time()
    drive(caller(time), time, [busy("7"), Reply(200, {}, b"{}")])
    assert time.pauses == [7.0]
    with pytest.raises(Unavailable):
        drive(caller(time), time, [busy("11")])
    assert time.pauses == [7.0]


def test_too_many_requests_stays_with_the_node_that_said_so() -> None:
    time = Time()
    _, sent = drive(caller(time, "http://a", "http://b"), time, [Reply(429, {}, b""), Reply(200, {}, b"{}")])
    assert [s.base_url for s in sent] == ["http://a", "http://a"]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500])
def test_what_cannot_get_better_is_not_repeated(client: Client, node: FakeNode, status: int) -> None:
    node.script = [(status, {}, b"<html>oops</html>")] * 2
    with pytest.raises(Exception, match=f"http.{status}"):
        client.zones.create(name="a")
    assert len(node.seen) == 1


def test_every_attempt_has_a_timeout_that_leaves_room_for_a_long_poll() -> None:
    time = Time()
    exchange = caller(time).call(Request("GET", "/v1/jobs/x", hold=25))
    step = next(exchange)
    assert isinstance(step, Send) and step.timeout == 35.0


def test_events_go_on_after_each_lost_connection_without_gap_or_repeat(
    client: Client, node: FakeNode
) -> None:
    for i in range(5):
        node.emit("vm.started", {"n": i, "text": "a\u2028b"})
    node.events_per_connection = 2
    events = list(islice(client.events(), 5))
    assert [(e.id, e.type, e.data.n) for e in events] == [(str(i + 1), "vm.started", i) for i in range(5)]
    assert events[0].data.text == "a\u2028b"
    assert [s.headers.get("last-event-id") for s in node.seen] == [None, "2", "4"]


def test_events_resume_after_an_id_and_may_end_with_the_connection(client: Client, node: FakeNode) -> None:
    for i in range(3):
        node.emit("x", i)
    assert [e.data for e in client.events(last_event_id="1", reconnect=False)] == [1, 2]


def test_events_move_to_the_next_node(nodes: Callable[[], FakeNode]) -> None:
    broken, alive = nodes(), nodes()
    broken.script = [BUSY, None] * 5
    alive.emit("x", 1)
    with Client([broken.url, alive.url], TOKEN, retry_for=5) as client:
        assert next(iter(client.events())).data == 1


def test_events_that_are_refused_for_good_raise(client: Client, node: FakeNode) -> None:
    node.script = [(403, {}, problem("core.denied", "DENIED", "no"))]
    with pytest.raises(Denied):
        next(iter(client.events()))


def test_a_stream_that_never_works_is_given_up() -> None:
    with Client("http://127.0.0.1:1", retry_for=0.2) as client, pytest.raises(ConnectionFailed):
        next(iter(client.events()))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_decoder_reads_any_split_of_any_line_end(size: int) -> None:
    text = b'id: 1\r\nevent: a\r\ndata: 1\r\n\r\n:note\ndata:x\ndata: y\n\nid\ndata: {"a":1}\r\rdata: lost'
    decoder = Decoder()
    events = [e for i in range(0, len(text), size) for e in decoder.feed(text[i : i + size])]
    assert [(e.id, e.type, e.data) for e in events] == [
        ("1", "a", 1),
        ("1", "message", "x\ny"),
        ("", "message", {"a": 1}),
    ]
