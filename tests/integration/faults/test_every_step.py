"""The rows of the fault matrix that happen once for each step of a run: a signal between any two of them."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.contract.flaky_firestore import Strike, calling
from tests.contract.stores import SqlitePlace
from tests.integration.commands import ROOT
from tests.integration.faults.cells import CELLS, Cell, Scenario
from tests.integration.faults.processes import Ran
from tests.integration.faults.proxy import Wire
from tests.integration.faults.world import AFTER_THE_LEASE_S, Ground, Template, World, world_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

FEW_PAGES = 150_000
"""Answers so large that the window is five pages: every kind of step, and not too many of them."""

KILL, TERM = signal.SIGKILL, signal.SIGTERM
SIGNALS: dict[str, tuple[str, list[signal.Signals]]] = {
    "sigkill-every-step": ("steps", [KILL]),
    "sigterm-every-step": ("steps", [TERM]),
    "sigterm-twice-every-step": ("steps", [TERM, TERM]),
    "sigkill-every-statement": ("statements", [KILL]),
}
INTERRUPTED = 130


def rows(scenario: str) -> list[Any]:
    cells = [cell for cell in CELLS if cell.cause == Scenario(scenario)]
    return [pytest.param(cell, store, id=f"{cell.id}-{store}") for cell in cells for store in cell.stores]


@asynccontextmanager
async def at_the_end_all_is_well(
    ground: Ground, template: Template, what: str, *, is_free: bool = False
) -> AsyncIterator[World]:
    """A world in which one thing happens; then a reviewer writes, the next run comes, and everything holds."""
    async with world_of(ground, template, page_bytes=FEW_PAGES) as world:
        try:
            yield world
            await world.review()
            await world.heal()
            await world.completes(is_free=is_free)
            await world.verify()
        except AssertionError as error:
            error.add_note(what)
            raise


def turns(steps: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Where to strike: between each two kinds of step that follow each other, where they first do so."""
    seen = set()
    for at, (before, step) in enumerate(itertools.pairwise(["", *steps])):
        pair = kind_of(before), kind_of(step)
        if pair not in seen:
            yield at, step
        seen.add(pair)


def kind_of(step: str) -> str:
    """A step without what tells it from others of its kind: the ids in an SQL statement."""
    return step.partition("'")[0]


@pytest.mark.parametrize(("cell", "template"), rows("every_step"), indirect=["template"])
async def test_a_signal_before_every_step(cell: Cell, ground: Ground, template: Template) -> None:
    level, signals = SIGNALS[cell.id]
    async with at_the_end_all_is_well(ground, template, "undisturbed") as world:
        steps = (await world.ingest(level=level)).steps
    assert len(steps) > 20
    # On SQLite, where a run is cheap, the process is killed before every single step; elsewhere once for each kind of place.
    is_everywhere = (level, signals) == ("steps", [KILL]) and isinstance(template.place, SqlitePlace)
    for at, step in enumerate(steps) if is_everywhere else turns(steps):
        what = f"{cell.id}: before step {at} of {len(steps)}, {step}"
        # Whoever is not killed gives the lease back, unless it is told to be quick in that very moment.
        is_free = signals != [KILL] and (step != "release_lease" or signals == [TERM])
        async with at_the_end_all_is_well(ground, template, what, is_free=is_free) as world:
            check(await world.ingest(level=level, at=at, signals=signals), signals)
            if signals == [KILL]:
                world.now_s = AFTER_THE_LEASE_S


def check(ran: Ran, signals: list[signal.Signals]) -> None:
    if signals == [KILL]:
        assert ran.status == -KILL
    elif signals == [TERM, TERM]:
        assert ran.status == INTERRUPTED
    else:
        assert ran.status == 0, ran.err
        assert ran.report is not None
        assert {one["code"] for one in ran.report["incomplete_because"]} <= {"stopped"}


@pytest.mark.parametrize(("cell", "template"), rows("every_call"), indirect=["template"])
async def test_a_kill_around_every_call_to_firestore(cell: Cell, ground: Ground, template: Template) -> None:
    async with at_the_end_all_is_well(ground, template, "undisturbed") as world:
        await world.ingest()
        methods = list(world.firestore.methods)
    assert len(methods) > 20
    # A call that only reads has no effect: to be killed before it and before its answer are the same.
    places = [(at, is_after) for at, method in turns(methods) for is_after in (False, True)[: 1 + (method == "BatchWrite")]]
    for at, is_after in places:
        what = f"{cell.id}: {'after' if is_after else 'before'} call {at} of {len(methods)}, {methods[at]}"
        async with at_the_end_all_is_well(ground, template, what) as world:
            running = world.start()

            async def kill(pid: int = running.pid) -> None:
                os.kill(pid, KILL)

            world.firestore.strikes = [Strike(calling(kill, when_answered=is_after), after=at)]
            assert (await world.ended(running)).status == -KILL
            world.now_s = AFTER_THE_LEASE_S


@pytest.mark.parametrize(("cell", "template"), rows("every_request"), indirect=["template"])
async def test_a_kill_around_every_request_to_datadog(cell: Cell, ground: Ground, template: Template) -> None:
    """Here the process is no fork: `python -m evalforge ingest`, as anybody starts it."""
    async with at_the_end_all_is_well(ground, template, "undisturbed") as world:
        await world.ingest()
        count = world.proxy.requests
    for at in range(count):
        for is_after in (False, True):
            what = f"{cell.id}: {'after' if is_after else 'before'} request {at} of {count}"
            async with at_the_end_all_is_well(ground, template, what) as world:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "evalforge", "ingest"),
                    cwd=ROOT,
                    env=world.environment,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )

                async def kill(process: asyncio.subprocess.Process = process) -> None:
                    process.kill()

                world.proxy.faults = [
                    Wire("call", at, before=None if is_after else kill, afterwards=kill if is_after else None)
                ]
                out, err = await process.communicate()
                world.ran.append(Ran(process.returncode or 0, out.decode(), err.decode()))
                assert process.returncode in {-KILL, 0 if is_after and at == count - 1 else -KILL}
                world.now_s = AFTER_THE_LEASE_S
