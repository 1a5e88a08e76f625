"""The faults of the matrix that take more than one thing: each function makes one, and gives the run that met it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx

from evalforge.core.capture import document_id
from evalforge.errors import QuotaExhaustedError, RunInProgressError
from tests.contract.flaky_firestore import Strike, calling, one_invalid
from tests.contract.stores import FirestorePlace
from tests.integration.faults.cells import Cell
from tests.integration.faults.processes import Ran
from tests.integration.faults.proxy import Wire
from tests.integration.faults.world import AFTER_THE_LEASE_S, World
from tests.integration.test_service_process import Service
from tests.secret_manager import SecretManagerServer

BUSY = RunInProgressError.exit_code

Act = Callable[[World, Cell], Awaitable[Ran]]
SCENARIOS: dict[str, Act] = {}


def scenario(act: Act) -> Act:
    """Lists a function as the scenario of its name: it makes the fault and gives the run that met it."""
    SCENARIOS[act.__name__] = act
    return act


# -- Datadog --------------------------------------------------------------------------------------------------------------


@scenario
async def small_quota(world: World, cell: Cell) -> Ran:
    """Day after day, until nothing is left; each page is given once."""
    first: Ran | None = None
    for _ in range(10):
        # Planning the same limit again is the next day.
        world.ground.trouble(limits={source: {"limit": 4, "period_s": 86_400} for source in ("llm_obs", "apm")})
        ran = await world.ingest()
        first = first or ran
        if ran.status == 0:
            break
        assert ran.status == QuotaExhaustedError.exit_code
        assert ran.report is not None
        assert ran.report["error"]["retry_after_s"] > 0
        await world.review()
    assert first is not None
    assert ran.status == 0, "the quotas of ten days are enough"
    given = [(one["source"], page_of(one)) for one in world.ground.asked() if one["status"] == 200]
    of_the_window = [one for one in given if one[1][0] == page_of(world.ground.asked()[0])[0]]
    assert len(of_the_window) == len(set(of_the_window)) > 10, "no page twice"
    return first


def page_of(asked: dict[str, Any]) -> tuple[str, str | None]:
    """Which window a search was for, and where in it."""
    attributes = asked["body"]["data"]["attributes"]
    return attributes["filter"]["to"], attributes["page"].get("cursor")


@scenario
async def cursor_died_meanwhile(world: World, cell: Cell) -> Ran:
    stopped = await stopped_at(world, request=4)
    assert stopped.report is not None
    assert [one["code"] for one in stopped.report["incomplete_because"]] == ["stopped"]
    world.ground.trouble(faults=[{"kind": "bad_cursor"}])
    ran = await world.ingest()
    assert world.ground.http.get("/sandbox/trouble").json()["faults"][0]["hits"] == 1
    return ran


async def stopped_at(world: World, *, request: int, **changes: Any) -> Ran:
    """What came of a run that got a SIGTERM before its n-th request went out."""
    running = world.start(**changes)

    async def stop() -> None:
        os.kill(running.pid, signal.SIGTERM)

    world.proxy.faults = [Wire("call", request - 1, before=stop)]
    return await world.ended(running)


@scenario
async def key_rotated(world: World, cell: Cell) -> Ran:
    name = "projects/p/secrets/datadog-app-key/versions/latest"
    with SecretManagerServer({name: b"hunter2-app-key"}) as manager:

        async def rotate() -> None:
            manager.answers[name] = b"hunter2-new-app-key"

        world.proxy.revoked_keys = {b"hunter2-app-key"}
        world.proxy.faults = [Wire("revoked", 3, None, before=rotate)]
        ran = await world.ingest(settings={"DATADOG_APP_KEY": name, "SECRET_MANAGER_ENDPOINT": manager.endpoint})
        assert manager.asked == [name, name], "once at the start, and once when it was refused"
    return ran


@scenario
async def arriving(world: World, cell: Cell) -> Ran:
    behind, before = world.ground.new_failures(-30 * 3600, -180)

    async def arrive() -> None:
        await world.add(behind, before)

    world.proxy.faults = [Wire("call", 4, before=arrive)]
    ran = await world.ingest()
    stored = await world.stored()
    assert before["attributes"]["trace_id"] in stored
    assert behind["attributes"]["trace_id"] not in stored
    return ran


@scenario
async def between_tiers(world: World, cell: Cell) -> Ran:
    """Seven hours after the first run a day is due again; of what came late within it the newest tier sees nothing."""
    await world.completes()
    world.now_s = 7 * 3600.0
    (late,) = world.ground.new_failures(-5 * 3600)
    await world.add(late)

    async def break_down() -> None:
        world.ground.trouble(faults=[{"kind": "status", "status": 503, "times": None}])

    world.proxy.faults = [Wire("call", 5, before=break_down)]  # what is new of both sources takes fewer, a day many more
    ran = await world.ingest()
    assert ran.report is not None
    readings = {(one["source"], one["tier"]): one["finished"] for one in ran.report["readings"]}
    assert readings == {(source, tier): tier == "recent" for source in ("llm_obs", "apm") for tier in ("recent", "day")}
    assert late["attributes"]["trace_id"] not in await world.stored()
    return ran


# -- Firestore ------------------------------------------------------------------------------------------------------------


@scenario
async def firestore_away(world: World, cell: Cell) -> Ran:
    await world.firestore.refuse()
    return await world.ingest(**cell.run)


@scenario
async def firestore_invalid(world: World, cell: Cell) -> Ran:
    poisoned = min(world.ground.known - await world.stored())
    world.firestore.strikes = [Strike(one_invalid(document_id(poisoned).encode()), "BatchWrite", times=None)]
    ran = await world.ingest()
    assert world.ground.known - await world.stored() == {poisoned}, "its neighbours are written"
    assert ran.report is not None
    assert (ran.report["captures"]["refused"], ran.report["items"]["rejected"]) == (1, 0)
    return ran


@scenario
async def reviewer_between(world: World, cell: Cell) -> Ran:
    trace_id = world.ground.late_trace
    fields = {"review_state": "confirmed", "notes": "written in between"}

    async def write() -> None:
        await world.place.review(trace_id, fields)

    about = document_id(trace_id).encode()
    strike = Strike(calling(write), "BatchWrite", about)
    world.firestore.strikes = [strike]
    world.reviewed[trace_id] = {**world.reviewed[trace_id], **fields}
    ran = await world.ingest()
    assert strike.hits
    assert ran.report is not None
    assert ran.report["captures"]["updated"] == 1
    return ran


@scenario
async def emulator_paused(world: World, cell: Cell) -> Ran:
    emulator = world.emulator

    async def pause() -> None:
        emulator.pause()
        asyncio.get_running_loop().call_later(1.0, emulator.resume)

    world.firestore.strikes = [Strike(calling(pause), "BatchWrite", b"raw_traces")]
    return await world.ingest(**cell.run)


@scenario
async def emulator_killed(world: World, cell: Cell) -> Ran:
    emulator, options = world.emulator, []

    async def kill() -> None:
        assert isinstance(world.place, FirestorePlace)
        options.append(await asyncio.to_thread(emulator.export, world.place.project))
        await asyncio.to_thread(emulator.kill)

    world.firestore.strikes = [Strike(calling(kill), "BatchWrite", b"raw_traces", after=1)]
    ran = await world.ingest(**cell.run)
    await asyncio.to_thread(emulator.start, *options)
    return ran


# -- SQLite ---------------------------------------------------------------------------------------------------------------


@scenario
async def sqlite_full(world: World, cell: Cell) -> Ran:
    with closing(world.sqlite()) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    ran = await world.ingest(max_pages=pages + 2)
    assert "the disk is full" in ran.err
    return ran


@scenario
async def sqlite_limit(world: World, cell: Cell) -> Ran:
    return await world.ingest(max_file_bytes=50_000)


@scenario
async def sqlite_locked(world: World, cell: Cell) -> Ran:
    """The lock is taken before a page comes, and let go when the run has been waiting for it."""
    connection = world.sqlite()
    running = world.start(level="statements")

    async def lock() -> None:
        connection.execute("BEGIN IMMEDIATE")

    world.proxy.faults = [Wire("call", 2, before=lock)]
    ending = asyncio.create_task(world.ended(running))
    while not (connection.in_transaction and running.steps[-1:] == ("BEGIN IMMEDIATE",)):
        assert not ending.done()
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert not ending.done(), "it waits"
    connection.execute("ROLLBACK")
    connection.close()
    return await ending


@scenario
async def sqlite_locked_long(world: World, cell: Cell) -> Ran:
    connection = world.sqlite()

    async def lock() -> None:
        connection.execute("BEGIN IMMEDIATE")

    world.proxy.faults = [Wire("call", 2, before=lock)]
    ran = await world.ingest(**cell.run)
    connection.close()
    return ran


@scenario
async def sqlite_reader(world: World, cell: Cell) -> Ran:
    with closing(world.sqlite()) as connection:
        connection.execute("BEGIN")
        before = connection.execute('SELECT COUNT(*) FROM "evalforge_raw_traces"').fetchone()
        ran = await world.ingest()
        assert connection.execute('SELECT COUNT(*) FROM "evalforge_raw_traces"').fetchone() == before
    return ran


# -- the process ----------------------------------------------------------------------------------------------------------


async def killed_at(world: World, *, request: int, **changes: Any) -> Ran:
    """What came of a run that was killed before its n-th request went out."""
    running = world.start(**changes)

    async def kill() -> None:
        os.kill(running.pid, signal.SIGKILL)

    world.proxy.faults = [Wire("call", request - 1, before=kill)]
    return await world.ended(running)


@scenario
async def dead_holder(world: World, cell: Cell) -> Ran:
    ran = await killed_at(world, request=4)
    await world.heal()
    refused = await world.ingest()
    assert refused.status == BUSY
    assert "a run is going on: cli " in refused.err
    assert "try again in " in refused.told
    return ran


@scenario
async def second_copy(world: World, cell: Cell) -> Ran:
    async def try_another() -> None:
        second = await world.ingest()
        assert second.status == BUSY
        assert f"pid {first.pid}, since 20" in second.err

    first = world.start()
    call = Wire("call", 3, before=try_another)
    world.proxy.faults = [call]
    ran = await world.ended(first)
    assert call.hits
    return ran


@scenario
async def at_renewal(world: World, cell: Cell) -> Ran:
    """The answers drip, so that there is time for renewals; each of the first three is where it ends once."""
    for number in range(3):
        world.proxy.faults = [Wire("drip", 0, None)]
        ran = await world.ingest(level="renewals", at=number, signals=[signal.SIGKILL], renewal_s=0.02)
        assert len(ran.steps) == number + 1
        world.now_s += AFTER_THE_LEASE_S
    return ran


@scenario
async def service_killed(world: World, cell: Cell) -> Ran:
    return await with_service(world, signal.SIGKILL)


@scenario
async def service_stopped(world: World, cell: Cell) -> Ran:
    return await with_service(world, signal.SIGTERM)


async def with_service(world: World, number: signal.Signals) -> Ran:
    """What came of a run of the service that got a signal before its fourth request; and of the next service, at once."""
    folder = world.ground.new_folder()
    with Service(folder / "one", world.environment) as service, ThreadPoolExecutor(1) as pool:

        async def strike() -> None:
            service.process.send_signal(number)

        world.proxy.faults = [Wire("call", 3, before=strike)]
        [answer] = await asyncio.gather(asyncio.wrap_future(pool.submit(service.run_once)), return_exceptions=True)
        assert isinstance(answer, httpx.Response) == (number == signal.SIGTERM)
        out = answer.text if isinstance(answer, httpx.Response) else ""
        ran = Ran(await asyncio.to_thread(service.process.wait, 30), out, service.log)
    world.ran.append(ran)
    await world.heal()
    with Service(folder / "two", world.environment) as service:
        again = await asyncio.to_thread(service.run_once)
        if number == signal.SIGKILL:
            assert (again.status_code, again.json()["code"]) == (409, "run_in_progress")
        else:
            world.ran.append(Ran(0, again.text, service.log))
            assert again.json()["complete"]
    return ran


# -- the clock ------------------------------------------------------------------------------------------------------------


@scenario
async def spans_ahead(world: World, cell: Cell) -> Ran:
    (ahead,) = world.ground.new_failures(180)
    await world.add(ahead)
    ran = await world.ingest()
    assert ahead["attributes"]["trace_id"] not in await world.stored()
    world.now_s = 300.0
    return ran


@scenario
async def clock_behind(world: World, cell: Cell) -> Ran:
    (recent,) = world.ground.new_failures(-60)
    await world.add(recent)
    ran = await world.ingest(clock_offset_s=-300.0)
    assert recent["attributes"]["trace_id"] not in await world.stored()
    return ran


@scenario
async def clock_ahead(world: World, cell: Cell) -> Ran:
    ran = await killed_at(world, request=4, clock_offset_s=300.0)
    await world.heal()
    refused = await world.ingest()
    assert refused.status == BUSY
    world.now_s = 300.0 + AFTER_THE_LEASE_S
    return ran


@scenario
async def clock_behind_overtaken(world: World, cell: Cell) -> Ran:
    """The first one's lease has run out by the second one's clock, which reads all while the first one waits for a page."""

    async def overtake() -> None:
        await world.completes()

    world.proxy.faults = [Wire("call", 3, before=overtake)]
    ran = await world.ingest(clock_offset_s=-300.0, renewal_s=0.05)
    assert ran.report is not None
    assert [one["code"] for one in ran.report["incomplete_because"]] == ["lease_lost"]
    return ran
