from __future__ import annotations

import asyncio
import logging

import pytest

from mgmtnode.bus.context import CallContext, current
from mgmtnode.errors import INTERNAL, NO_HANDLER, REENTRY, TIMEOUT, ApiError, Category, ErrorCode
from tests.bus.nodes import Answer, Ask, AskHere, AskShort, Nodes, Unhandled, echo, slow, vm
from tests.virtual_time import run

NOT_RUNNING = ErrorCode("vm.not-running", Category.STATE, "the VM does not run")
X = "vm-1"


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_call_is_answered_with_the_handlers_own_object_not_a_copy() -> None:
    async def story() -> None:
        answer = Answer(text="same")
        nodes = Nodes("a")

        async def give(node: str, msg: Ask) -> Answer:
            return answer

        nodes.handle(Ask, give)
        async with nodes:
            assert await nodes["a"].call(Ask(vm_uuid=X)) is answer

    run(story)


def test_an_error_of_the_handler_reaches_the_caller_as_it_is() -> None:
    async def story() -> None:
        nodes = Nodes("a")

        async def refuse(node: str, msg: Ask) -> Answer:
            raise NOT_RUNNING.error("vm-1 is stopped", resource=X)

        nodes.handle(Ask, refuse)
        async with nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Ask(vm_uuid=X))
        assert caught.value.code == NOT_RUNNING.id and caught.value.problem.resource == X

    run(story)


def test_an_unexpected_exception_is_an_internal_error_and_its_trace_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        nodes = Nodes("a")

        async def break_(node: str, msg: Ask) -> Answer:
            raise ZeroDivisionError("oops")

        nodes.handle(Ask, break_)
        async with nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Ask(vm_uuid=X))
        assert caught.value.code == INTERNAL.id and "oops" in str(caught.value)

    with caplog.at_level(logging.ERROR):
        run(story)
    assert "ZeroDivisionError" in caplog.text


def test_a_message_nobody_handles_is_refused() -> None:
    async def story() -> None:
        async with Nodes("a") as nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Unhandled(vm_uuid=X))
        assert caught.value.code == NO_HANDLER.id

    run(story)


def test_a_second_handler_for_a_message_is_refused() -> None:
    nodes = Nodes("a")
    nodes.handle(Ask, echo)
    with pytest.raises(ValueError, match="handler already"):
        nodes.handle(Ask, echo)


def test_a_serial_key_that_names_no_field_is_refused() -> None:
    with pytest.raises(ValueError, match="host_uuid"):
        Nodes("a").handle(Ask, echo, serial="host:{host_uuid}")


def test_the_earliest_of_type_timeout_argument_and_callers_deadline_wins() -> None:
    async def story() -> None:
        nodes = Nodes("a")
        nodes.handle(AskShort, slow(100))

        async def ask_below(node: str, msg: AskHere) -> Answer:
            return await nodes["a"].call(AskShort(vm_uuid=X))

        nodes.handle(AskHere, ask_below)
        async with nodes:
            bus = nodes["a"]
            for call, seconds in (
                (lambda: bus.call(AskShort(vm_uuid=X)), 2.0),
                (lambda: bus.call(AskShort(vm_uuid=X), timeout=50), 2.0),
                (lambda: bus.call(AskShort(vm_uuid=X), timeout=0.5), 0.5),
                (lambda: bus.call(AskHere(), timeout=1.0), 1.0),
            ):
                start = now()
                with pytest.raises(ApiError) as caught:
                    await call()
                assert caught.value.code == TIMEOUT.id and now() - start == pytest.approx(seconds)

    run(story)


def test_without_time_left_the_handler_is_not_even_begun() -> None:
    async def story() -> None:
        nodes, begun = Nodes("a"), []

        async def begin(node: str, msg: Ask) -> Answer:
            begun.append(msg)
            return Answer(text="")

        nodes.handle(Ask, begin)
        async with nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Ask(vm_uuid=X), timeout=0.001)
        assert caught.value.code == TIMEOUT.id and begun == []

    run(story)


def test_a_handler_that_is_out_of_time_is_cancelled_and_its_caller_goes_on() -> None:
    async def story() -> None:
        nodes, ends = Nodes("a"), []

        async def endless(node: str, msg: Ask) -> Answer:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append(now())
            return Answer(text="")

        nodes.handle(Ask, endless, serial="vm:{vm_uuid}")
        async with nodes:
            with pytest.raises(ApiError):
                await nodes["a"].call(Ask(vm_uuid=X), timeout=3)
            await asyncio.sleep(1)  # the caller's task is not left cancelled
            current_task = asyncio.current_task()
            assert current_task is not None and current_task.cancelling() == 0
        assert ends == [3.0] and nodes["a"].queues.snapshot() == []

    run(story)


def test_cancelling_the_caller_cancels_the_handler_and_is_no_timeout() -> None:
    async def story() -> None:
        nodes, ends = Nodes("a"), []

        async def endless(node: str, msg: Ask) -> Answer:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append(now())
            return Answer(text="")

        nodes.handle(Ask, endless)
        async with nodes:
            task = asyncio.create_task(nodes["a"].call(Ask(vm_uuid=X)))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() and ends == [1.0]

    run(story)


def test_a_handler_that_awaits_something_cancelled_fails_instead_of_cancelling_its_caller() -> None:
    async def story() -> None:
        nodes = Nodes("a")

        async def await_cancelled(node: str, msg: Ask) -> Answer:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            future.cancel()
            return await future

        nodes.handle(Ask, await_cancelled)
        async with nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Ask(vm_uuid=X))
        assert caught.value.code == INTERNAL.id

    run(story)


def test_calls_with_one_serial_key_run_one_after_the_other_and_others_beside_them() -> None:
    async def story() -> None:
        nodes = Nodes("a")
        nodes.handle(Ask, slow(1), serial="vm:{vm_uuid}")
        async with nodes:
            calls = [nodes["a"].call(Ask(vm_uuid=u)) for u in ("x", "x", "x", "y")]
            await asyncio.gather(*calls)
            assert now() == pytest.approx(3.0)

    run(story)


def test_the_level_of_a_serial_key_is_asked_with_each_message_so_that_it_may_change() -> None:
    async def story() -> None:
        nodes, level = Nodes("a"), 3
        nodes.handle(Ask, slow(1), serial="vm:{vm_uuid}", level=lambda: level)
        async with nodes:
            await asyncio.gather(*(nodes["a"].call(Ask(vm_uuid="x")) for _ in range(6)))
            assert now() == pytest.approx(2.0)
            level = 1
            await asyncio.gather(*(nodes["a"].call(Ask(vm_uuid="x")) for _ in range(3)))
            assert now() == pytest.approx(5.0)

    run(story)


def test_a_call_that_needs_a_key_held_by_its_own_caller_is_refused_instead_of_hanging() -> None:
    async def story() -> None:
        nodes = Nodes("a")

        async def again(node: str, msg: Ask) -> Answer:
            return await nodes["a"].call(Ask(vm_uuid=msg.vm_uuid))

        nodes.handle(Ask, again, serial="vm:{vm_uuid}", level=5)
        async with nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Ask(vm_uuid=X))
        assert caught.value.code == REENTRY.id and "vm:vm-1" in str(caught.value)

    run(story)


def test_the_handler_sees_the_call_context_and_the_caller_keeps_its_own() -> None:
    async def story() -> None:
        nodes, seen = Nodes("a"), []

        async def look(node: str, msg: Ask) -> Answer:
            seen.append(current.get())
            return Answer(text="")

        nodes.handle(Ask, look, serial="vm:{vm_uuid}")
        async with nodes:
            mine = CallContext(deadline=10.0, chain=("host:1",), trace="t1")
            current.set(mine)
            await nodes["a"].call(Ask(vm_uuid=X))
            assert current.get() is mine
        assert seen == [CallContext(deadline=10.0, chain=("host:1", "vm:vm-1"), trace="t1")]

    run(story)


def test_many_calls_answer_in_the_order_asked_with_errors_in_their_place() -> None:
    async def story() -> None:
        nodes, inside, most = Nodes("a"), 0, 0

        async def answer(node: str, msg: Ask) -> Answer:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(10 - int(msg.text))
            inside -= 1
            if msg.text == "3":
                raise NOT_RUNNING.error()
            return Answer(text=msg.text)

        nodes.handle(Ask, answer)
        async with nodes:
            answers = await nodes["a"].call_many([Ask(vm_uuid=X, text=str(n)) for n in range(10)], parallel=4)
            assert await nodes["a"].call_many([]) == []
        assert [a.code if isinstance(a, ApiError) else a.text for a in answers] == [
            "0", "1", "2", NOT_RUNNING.id, "4", "5", "6", "7", "8", "9",
        ]  # fmt: skip
        assert most == 4

    run(story)


def test_a_sent_message_outlives_its_sender_and_holds_none_of_its_keys() -> None:
    async def story() -> None:
        nodes, seen = Nodes("a"), []

        async def note(node: str, msg: Ask) -> Answer:
            await asyncio.sleep(5)
            seen.append((msg.text, current.get().chain))
            return Answer(text="")

        async def pass_on(node: str, msg: AskHere) -> Answer:
            nodes["a"].send(Ask(vm_uuid=X, text=msg.text))
            return Answer(text="")

        nodes.handle(Ask, note, serial="vm:{vm_uuid}")
        nodes.handle(AskHere, pass_on, serial="vm:vm-1")
        async with nodes:
            await nodes["a"].call(AskHere(text="hello"), timeout=1)
            await asyncio.sleep(10)
        assert seen == [("hello", ("vm:vm-1",))]

    run(story)


def test_draining_waits_for_handlers_and_gives_up_in_time() -> None:
    async def story() -> None:
        nodes = Nodes("a")
        nodes.handle(Ask, slow(5))
        async with nodes:
            bus = nodes["a"]
            assert await bus.drain(1)
            task = asyncio.create_task(bus.call(Ask(vm_uuid=X)))
            bus.send(Ask(vm_uuid=X))
            await asyncio.sleep(0)
            assert not await bus.drain(1)
            assert await bus.drain(60) and now() == pytest.approx(5.0)
            await task

    run(story)


def test_the_snapshot_tells_what_runs_and_what_waits_for_what() -> None:
    async def story() -> None:
        nodes = Nodes("a")
        nodes.handle(Ask, slow(5), serial="vm:{vm_uuid}")
        async with nodes:
            tasks = [asyncio.create_task(nodes["a"].call(Ask(vm_uuid=vm("a", 0, "a")))) for _ in range(2)]
            await asyncio.sleep(2)
            snapshot = nodes["a"].snapshot()
            assert [(r.message, r.waiting, r.seconds) for r in snapshot["running"]] == [
                ("nodes.Ask", False, 2.0),
                ("nodes.Ask", True, 2.0),
            ]
            assert [(q.running, q.waiting) for q in snapshot["queues"]] == [(1, 1)]
            await asyncio.gather(*tasks)

    run(story)
