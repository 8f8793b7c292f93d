from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmtnode.bus.context import CallContext, current
from mgmtnode.bus.envelope import TOO_LARGE, Envelope, Kind, encode, unpack
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.transport import address_of
from mgmtnode.errors import INVALID, NO_HANDLER, REENTRY, TIMEOUT, UNAVAILABLE, ApiError, Category, ErrorCode
from mgmtnode.jobs.job import WorkToken
from mgmtnode.ring.slots import slot_of
from tests.bus.nodes import Answer, Ask, AskHere, AskNode, AskShort, Nodes, Unhandled, echo, slow, vm
from tests.virtual_time import run

NOT_RUNNING = ErrorCode("vm.not-running", Category.STATE, "the VM does not run")
WORK = WorkToken(job_uuid="j", resource_uuid="r", account_uuid="a", run_no=1, step=2, attempt=0, fence=9)


def now() -> float:
    return asyncio.get_running_loop().time()


async def code_of(call: object) -> str:
    with pytest.raises(ApiError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code


def test_a_call_goes_to_the_owner_of_the_resource_and_back() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        nodes.handle(Ask, echo)
        async with nodes:
            assert await nodes["a"].call(Ask(vm_uuid=vm("b"), text="x")) == Answer(text="b:x")
            assert await nodes["b"].call(Ask(vm_uuid=vm("a"), text="y")) == Answer(text="a:y")
            assert await nodes["a"].call(Ask(vm_uuid=vm("a"), text="z")) == Answer(text="a:z")

    run(story)


def test_a_message_for_this_node_never_touches_the_transport() -> None:
    async def story() -> None:
        def refuse(source: str, destination: str, deliver: Callable[[], None]) -> None:
            raise AssertionError("sent")

        nodes = Nodes("ab", Hub(refuse))
        nodes.handle(Ask, echo)
        nodes.handle(AskNode, echo)
        async with nodes:
            await nodes["a"].call(Ask(vm_uuid=vm("a")))
            await nodes["a"].call(AskNode(node="a"))

    run(story)


def test_errors_come_back_with_all_they_say() -> None:
    async def story() -> None:
        nodes = Nodes("ab")

        async def refuse(node: str, msg: Ask) -> Answer:
            raise NOT_RUNNING.error(
                "stopped", resource="r", retry_after=3.0, host="h1", cause=INVALID.error("bad")
            )

        nodes.handle(Ask, refuse)
        async with nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Ask(vm_uuid=vm("b")))
            assert await code_of(nodes["a"].call(Unhandled(vm_uuid=vm("b")))) == NO_HANDLER.id
        problem = caught.value.problem
        assert (problem.code, problem.message, problem.resource) == (NOT_RUNNING.id, "stopped", "r")
        assert problem.details == {"host": "h1"} and problem.retry_after == 3.0
        assert problem.cause is not None and problem.cause.code == INVALID.id

    run(story)


def test_context_crosses_the_wire_and_comes_back_unchanged() -> None:
    async def story() -> None:
        nodes, seen = Nodes("ab"), []

        async def look(node: str, msg: Ask) -> Answer:
            await asyncio.sleep(0)
            seen.append(current.get())
            return Answer(text="")

        nodes.handle(Ask, look, serial="vm:{vm_uuid}")
        async with nodes:
            await asyncio.sleep(5)
            mine = CallContext(deadline=12.5, chain=("host:1",), trace="t1", work=WORK)
            current.set(mine)
            await nodes["a"].call(Ask(vm_uuid=vm("b")))
            assert current.get() is mine
        assert seen == [CallContext(12.5, ("host:1", f"vm:{vm('b')}"), "t1", WORK)]

    run(story)


def test_reentry_is_refused_across_nodes_too() -> None:
    async def story() -> None:
        nodes = Nodes("ab")

        async def bounce(node: str, msg: Ask) -> Answer:
            return await nodes[node].call(Ask(vm_uuid=vm("a" if node == "b" else "b")))

        nodes.handle(Ask, bounce, serial="vm:{vm_uuid}")
        async with nodes:
            assert await code_of(nodes["a"].call(Ask(vm_uuid=vm("b")), timeout=30)) == REENTRY.id
            assert now() < 1

    run(story)


def test_a_deadline_is_kept_by_the_caller_and_ends_the_handler_on_the_other_node() -> None:
    async def story() -> None:
        nodes, ends = Nodes("ab"), []

        async def endless(node: str, msg: AskShort) -> Answer:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append(now())
            return Answer(text="")

        nodes.handle(AskShort, endless)
        async with nodes:
            assert await code_of(nodes["a"].call(AskShort(vm_uuid=vm("b")))) == TIMEOUT.id
            assert now() == pytest.approx(2.0)
            await asyncio.sleep(0.1)
            assert ends == [pytest.approx(2.0)] and not nodes["a"].snapshot()["pending"]

    run(story)


def test_a_reply_that_is_lost_is_a_timeout_in_time() -> None:
    async def story() -> None:
        def lose_replies(source: str, destination: str, deliver: Callable[[], None]) -> None:
            if source == address_of("a", 0):
                asyncio.get_running_loop().call_soon(deliver)

        nodes = Nodes("ab", Hub(lose_replies))
        nodes.handle(AskShort, echo)
        async with nodes:
            assert await code_of(nodes["a"].call(AskShort(vm_uuid=vm("b")))) == TIMEOUT.id
            assert now() == pytest.approx(2.0)

    run(story)


def test_messages_of_one_turn_for_one_node_travel_together() -> None:
    async def story() -> None:
        batches: list[str] = []

        def count(source: str, destination: str, deliver: Callable[[], None]) -> None:
            batches.append(destination)
            asyncio.get_running_loop().call_soon(deliver)

        nodes = Nodes("abc", Hub(count))
        nodes.handle(Ask, echo)
        async with nodes:
            msgs = [Ask(vm_uuid=vm(n, i, "abc")) for i in range(50) for n in "bc"]
            await nodes["a"].call_many(msgs, parallel=100)
        assert batches.count(address_of("b", 0)) == batches.count(address_of("c", 0)) == 1
        assert batches.count(address_of("a", 0)) == 2

    run(story)


def test_a_message_over_64_kb_is_refused_both_ways() -> None:
    async def story() -> None:
        nodes = Nodes("ab")

        async def long(node: str, msg: Ask) -> Answer:
            return Answer(text="x" * 70_000)

        nodes.handle(Ask, long)
        async with nodes:
            assert await code_of(nodes["a"].call(Ask(vm_uuid=vm("b"), text="x" * 70_000))) == TOO_LARGE.id
            assert await code_of(nodes["a"].call(Ask(vm_uuid=vm("b")))) == TOO_LARGE.id
            assert not nodes["a"].snapshot()["pending"]

    run(story)


def test_a_call_to_a_node_that_is_not_there_is_refused_at_once() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        nodes.handle(AskNode, echo)
        async with nodes:
            assert (await nodes["a"].call(AskNode(node="b"))).text == "b:"
            assert await code_of(nodes["a"].call(AskNode(node="zzz"))) == UNAVAILABLE.id
            await nodes["b"].transport.stop()  # it is in the cluster still, but nobody listens
            assert await code_of(nodes["a"].call(AskNode(node="b"))) == UNAVAILABLE.id
            assert now() == 0

    run(story)


def test_a_call_whose_destination_left_goes_to_the_new_owner() -> None:
    async def story() -> None:
        nodes = Nodes("abc")
        nodes.handle(Ask, echo)
        async with nodes:
            await nodes["b"].transport.stop()
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("b", 0, "abc"))))
            await asyncio.sleep(2)
            assert not task.done()
            nodes.deal("acc")
            assert (await task).text == "c:" and now() == pytest.approx(2.0)

    run(story)


def test_a_call_whose_slot_becomes_ones_own_is_run_here() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        nodes.handle(Ask, echo)
        async with nodes:
            await nodes["b"].transport.stop()
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("b"))))
            await asyncio.sleep(2)
            nodes.deal("a", tell="a")
            assert (await task).text == "a:"

    run(story)


def test_a_call_to_a_node_that_dies_while_it_works_is_asked_again_elsewhere() -> None:
    async def story() -> None:
        nodes = Nodes("abc")

        async def answer(node: str, msg: Ask) -> Answer:
            await asyncio.sleep(10 if node == "b" else 0)
            return Answer(text=node)

        nodes.handle(Ask, answer)
        async with nodes:
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("b", 0, "abc"))))
            await asyncio.sleep(1)
            nodes.hub.leave(address_of("b", 0))
            nodes.deal("acc", nodes="ac", tell="ac")
            assert (await task).text == "c" and now() == pytest.approx(1.0)

    run(story)


def test_a_slot_that_merely_moved_is_answered_by_who_has_the_call() -> None:
    async def story() -> None:
        nodes, runs = Nodes("abc"), []

        async def answer(node: str, msg: Ask) -> Answer:
            runs.append(node)
            await asyncio.sleep(5)
            return Answer(text=node)

        nodes.handle(Ask, answer)
        async with nodes:
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("b", 0, "abc"))))
            await asyncio.sleep(1)
            nodes.deal("acc", nodes="abc")
            assert (await task).text == "b" and runs == ["b"]

    run(story)


def test_a_stale_caller_is_passed_on_by_the_old_owner() -> None:
    async def story() -> None:
        nodes = Nodes("abc")
        nodes.handle(Ask, echo)
        async with nodes:
            nodes.deal("acc", nodes="abc", tell="bc")
            assert (await nodes["a"].call(Ask(vm_uuid=vm("b", 0, "abc")))).text == "c:"
            assert nodes["b"].snapshot()["counts"]["forwarded"] == 1

    run(story)


def test_nodes_that_disagree_pass_a_call_on_at_most_twice_and_the_caller_asks_again() -> None:
    async def story() -> None:
        nodes = Nodes("abc")
        nodes.handle(Ask, echo)
        async with nodes:
            nodes.deal("acc", nodes="abc", tell="b")  # b thinks it is c's, c thinks it is b's
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("b", 0, "abc"))))
            await asyncio.sleep(0.04)
            assert not task.done()
            hops = sum(nodes[n].snapshot()["counts"].get("forwarded", 0) for n in "bc")
            assert hops == 2
            nodes.deal("acc", nodes="abc")
            assert (await task).text == "c:"

    run(story)


def test_a_call_that_was_passed_on_to_a_dead_node_is_repeated_and_found_by_the_new_owner() -> None:
    async def story() -> None:
        lost: list[str] = []

        def drop(source: str, destination: str, deliver: Callable[[], None]) -> None:
            # c is dead, and its queue still takes messages: nothing comes back.
            lost.append(destination) if destination == address_of("c", 0) else deliver()

        nodes = Nodes("abc", Hub(drop))
        nodes.handle(Ask, echo)
        async with nodes:
            nodes.deal("ab", nodes="ab", tell="a")  # b has not heard yet that c is gone
            moved = next(uuid for uuid in (f"vm-{n}" for n in range(9999)) if _owner("abc", uuid) == "c"
                         and _owner("ab", uuid) == "b")  # fmt: skip
            asked = asyncio.ensure_future(nodes["a"].call(Ask(vm_uuid=moved, text="x"), 60))
            await asyncio.sleep(0.5)
            nodes.deal("ab", nodes="ab", tell="b")
            began = now()
            assert await asked == Answer(text="b:x")
        assert lost == [address_of("c", 0)]
        assert now() - began < 5

    run(story)


def _owner(among: str, uuid: str) -> str:
    return among[slot_of(uuid) % len(among)]


def test_a_repeated_call_is_not_passed_on_by_a_node_that_is_at_it() -> None:
    async def story() -> None:
        ran: list[str] = []

        async def long(node: str, msg: Ask) -> Answer:
            ran.append(node)
            await asyncio.sleep(50)
            return Answer(text=node)

        nodes = Nodes("ab")
        nodes.handle(Ask, long)
        async with nodes:
            asked = asyncio.ensure_future(nodes["a"].call(Ask(vm_uuid=vm("b")), 60))
            await asyncio.sleep(1)
            nodes.deal("ba", nodes="ab")  # what b had is a's now
            assert await asked == Answer(text="b")
        assert ran == ["b"]

    run(story)


def test_a_slot_without_an_owner_is_waited_for_and_reported_at_the_deadline() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        nodes.handle(AskShort, echo)
        async with nodes:
            nodes["a"].slots.replace({}, 9, {"a": 0, "b": 0})
            assert await code_of(nodes["a"].call(AskShort(vm_uuid=vm("b")))) == UNAVAILABLE.id
            assert now() == pytest.approx(2.0)

    run(story)


def test_a_message_that_arrives_twice_is_run_once_and_answered() -> None:
    async def story() -> None:
        def twice(source: str, destination: str, deliver: Callable[[], None]) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(deliver)
            loop.call_later(1.0, deliver)
            loop.call_later(50.0, deliver)

        nodes, runs = Nodes("ab", Hub(twice)), []

        async def answer(node: str, msg: Ask) -> Answer:
            runs.append(msg.text)
            await asyncio.sleep(5)
            return Answer(text="once")

        nodes.handle(Ask, answer)
        async with nodes:
            assert (await nodes["a"].call(Ask(vm_uuid=vm("b"), text="call"))).text == "once"
            nodes["a"].send(Ask(vm_uuid=vm("b"), text="send"))
            await asyncio.sleep(100)
            assert runs == ["call", "send"]
            assert nodes["a"].snapshot()["counts"]["late_replies"] > 0

    run(story)


def test_calls_on_their_way_when_the_connection_broke_are_asked_again_with_the_same_id() -> None:
    async def story() -> None:
        cut = True

        def broken(source: str, destination: str, deliver: Callable[[], None]) -> None:
            if not cut:
                asyncio.get_running_loop().call_soon(deliver)

        nodes, runs = Nodes("ab", Hub(broken)), []

        async def answer(node: str, msg: Ask) -> Answer:
            runs.append(node)
            return Answer(text=node)

        nodes.handle(Ask, answer)
        async with nodes:
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("b"))))
            await asyncio.sleep(1)
            cut = False
            nodes["a"].on_reconnected()
            assert (await task).text == "b" and runs == ["b"]

    run(story)


def test_what_cannot_be_read_is_counted_and_the_rest_of_the_batch_goes_on() -> None:
    async def story() -> None:
        nodes, heard = Nodes("ab"), []

        async def hear(node: str, msg: Ask) -> Answer:
            heard.append(msg.text)
            return Answer(text="")

        nodes.handle(Ask, hear)
        async with nodes:
            good = encode(
                Envelope(
                    id="1",
                    kind=Kind.SEND,
                    type="nodes.Ask",
                    node="b",
                    body=msgspec.Raw(b'{"vm_uuid": "v", "text": "ok", "added_in_a_later_release": 1}'),
                )
            )
            nodes["b"].on_batch(b"[" + good + b', {"id": 3}, 7]')
            nodes["b"].on_batch(b"\xff not json")
            nodes["b"].on_batch(b"[" * 100_000)
            await asyncio.sleep(1)
            assert heard == ["ok"] and nodes["b"].snapshot()["counts"]["undecodable"] == 4
            assert all(len(sample) <= 500 for sample in nodes["b"].undecodable)

    run(story)


def test_a_call_with_a_body_of_another_form_is_refused_as_invalid() -> None:
    async def story() -> None:
        replies: list[Envelope] = []
        nodes = Nodes("b")
        nodes.handle(Ask, echo)

        class Caller:
            def on_batch(self, batch: bytes) -> None:
                replies.extend(unpack(batch)[0])

            def on_undeliverable(self, destination: str, batch: bytes) -> None: ...

            def on_reconnected(self) -> None: ...

        async with nodes:
            nodes.hub.join("caller", Caller())
            wrong = Envelope(
                id="1", kind=Kind.CALL, type="nodes.Ask", node="b", reply_to="caller", body=msgspec.Raw(b"[]")
            )
            nodes["b"].on_batch(b"[" + encode(wrong) + b"]")
            await asyncio.sleep(1)
        (reply,) = replies
        assert reply.correlation == "1" and reply.error is not None and reply.error.code == INVALID.id

    run(story)


def test_a_send_follows_its_slot_and_is_lost_only_when_nobody_is_there() -> None:
    async def story() -> None:
        nodes, heard = Nodes("abc"), []

        async def hear(node: str, msg: Ask) -> Answer:
            heard.append(node)
            return Answer(text="")

        nodes.handle(Ask, hear)
        async with nodes:
            x = vm("b", 0, "abc")
            nodes["a"].send(Ask(vm_uuid=x))
            await asyncio.sleep(1)
            await nodes["b"].transport.stop()
            nodes["a"].send(Ask(vm_uuid=x))
            nodes.deal("acc", nodes="ac")  # before the first comes back
            await asyncio.sleep(1)
            await nodes["c"].transport.stop()
            nodes["a"].send(Ask(vm_uuid=x))
            await asyncio.sleep(1)
            assert heard == ["b", "c"] and nodes["a"].snapshot()["counts"]["undeliverable"] == 1

    run(story)


def test_stopping_fails_the_calls_that_still_wait() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        nodes.handle(Ask, slow(50))
        async with nodes:
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("b"))))
            await asyncio.sleep(1)
            await nodes["a"].stop()
            assert await code_of(task) == UNAVAILABLE.id

    run(story)


def test_a_hint_reaches_the_owner_and_follows_a_slot_that_moved() -> None:
    async def story() -> None:
        nodes, heard = Nodes("abc"), []
        for name, bus in nodes.buses.items():
            bus.on_hint(lambda seq, job, resource, name=name: heard.append((name, seq, job, resource)))
        async with nodes:
            x, y = vm("b", 0, "abc"), vm("a", 0, "abc")
            nodes["a"].hint(1, "job-1", x)
            nodes["a"].hint(2, "job-2", y)
            assert heard == [("a", 2, "job-2", y)]
            await asyncio.sleep(1)
            nodes.deal("acc", nodes="abc", tell="bc")
            nodes["a"].hint(3, "job-3", x)
            await asyncio.sleep(1)
            nodes["a"].slots.replace({}, 99, {"a": 0})
            nodes["a"].hint(4, "job-4", x)
            await asyncio.sleep(1)
            assert heard[1:] == [("b", 1, "job-1", x), ("c", 3, "job-3", x)]

    run(story)


def test_the_caller_handling_its_own_messages_also_serves_calls_of_others_while_it_waits() -> None:
    async def story() -> None:
        nodes = Nodes("ab")

        async def ask_back(node: str, msg: Ask) -> Answer:
            return await nodes[node].call(AskNode(node="a")) if node == "b" else Answer(text="?")

        nodes.handle(Ask, ask_back)
        nodes.handle(AskNode, echo)
        async with nodes:
            assert (await nodes["a"].call(Ask(vm_uuid=vm("b")))).text == "a:"

    run(story)


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 25))
def test_however_batches_are_delayed_repeated_and_lost_each_call_ends_once_and_runs_once(
    random: object, calls: int
) -> None:
    async def story() -> None:
        def chaotic(source: str, destination: str, deliver: Callable[[], None]) -> None:
            for _ in range(random.choice((0, 1, 1, 1, 1, 2))):  # type: ignore[attr-defined]
                asyncio.get_running_loop().call_later(random.random() * 3, deliver)  # type: ignore[attr-defined]

        nodes, runs = Nodes("abc", Hub(chaotic)), {}

        async def answer(node: str, msg: Ask) -> Answer:
            runs[msg.text] = runs.get(msg.text, 0) + 1
            await asyncio.sleep(random.random())  # type: ignore[attr-defined]
            return Answer(text=msg.text)

        nodes.handle(Ask, answer)
        nodes.handle(AskHere, answer)
        async with nodes:
            msgs = [Ask(vm_uuid=f"vm-{n}", text=str(n)) for n in range(calls)]
            answers = await nodes["a"].call_many(msgs, parallel=calls)
            for n, reply in enumerate(answers):
                assert reply == Answer(text=str(n)) or (
                    isinstance(reply, ApiError) and reply.code == TIMEOUT.id
                )
            assert all(count == 1 for count in runs.values())
            await asyncio.sleep(100)
            for bus in nodes.buses.values():
                snapshot = bus.snapshot()
                assert not snapshot["pending"] and not snapshot["running"] and not snapshot["serving"]

    run(story)
