from __future__ import annotations

import asyncio


def test_a_node_is_ready_when_all_checks_pass(world, run) -> None:
    async def good() -> None: ...

    async def bad() -> str:
        return "the broker is away"

    async def broken() -> None:
        raise RuntimeError("no ring")

    async def story() -> None:
        world.api.health._checks = {"db": good}
        async with world.client(None) as client:
            assert (await client.get("/readyz")).json() == {"ready": True}
            world.api.health._running = None
            world.api.health._checks |= {"bus": bad, "ring": broken}
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["failed"]) == (503, ["bus", "ring"])
            verbose = (await client.get("/readyz?verbose")).json()
            reasons = {c["name"]: c["reason"] for c in verbose["checks"]}
            assert reasons["db"] is None and reasons["bus"] == "the broker is away"
            assert "no ring" in reasons["ring"]

    run(story())


def test_many_questions_at_once_run_the_checks_once(world, run) -> None:
    runs = 0

    async def check() -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)

    async def story() -> None:
        world.api.health._checks = {"db": check}
        async with world.client(None) as client:
            await asyncio.gather(*(client.get("/readyz") for _ in range(20)))
        assert runs == 1

    run(story())


def test_a_draining_node_is_alive_and_not_ready(world, run) -> None:
    async def story() -> None:
        world.api.drain()
        async with world.client() as client:
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/v1/zones")).status_code == 200

    run(story())


def test_metrics_count_requests_by_route_and_status(world, run) -> None:
    async def story() -> None:
        async with world.client() as client:
            await client.post("/v1/zones", json={"name": "a"})
            await client.get("/v1/zones/nothing")
            await client.get("/nothing/" + "x" * 50)
            await client.request("BREW", "/v1/zones")
            text = (await client.get("/metrics")).text
        counted = "mgmtnode_http_requests_total"
        assert f'{counted}{{method="POST",route="/v1/zones",status="202"}} 1.0' in text
        assert f'{counted}{{method="GET",route="/v1/zones/{{uuid}}",status="404"}} 1.0' in text
        assert f'{counted}{{method="GET",route="none",status="404"}} 1.0' in text
        assert f'{counted}{{method="none",route="none",status="405"}} 1.0' in text
        assert 'mgmtnode_http_request_seconds_count{method="POST",route="/v1/zones"} 1.0' in text
        assert "mgmtnode_http_requests_in_flight 1.0" in text

    run(story())
