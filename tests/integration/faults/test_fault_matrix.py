"""The fault matrix, run: every row of `cells` that takes a run or two, and what must hold at the end of each."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc
import pytest

from tests.contract import flaky_firestore
from tests.contract.flaky_firestore import Strike
from tests.integration.faults.cells import (
    CELLS,
    COMPLETES,
    NAMED,
    Cell,
    Ends,
    OnFirestore,
    OnTheWire,
    Scenario,
    Trouble,
)
from tests.integration.faults.processes import Ran
from tests.integration.faults.proxy import Wire
from tests.integration.faults.scenarios import SCENARIOS
from tests.integration.faults.world import ALL, World

STEPWISE = frozenset({"every_step", "every_call", "every_request"})
"""Scenarios that happen once for each step of a run: in test_every_step."""

STOPPABLE = frozenset({"emulator_paused", "emulator_killed"})


def rows() -> list[Any]:
    found = []
    for cell in CELLS:
        name = cell.cause.name if isinstance(cell.cause, Scenario) else ""
        if name in STEPWISE:
            continue
        for store in cell.stores:
            is_quick = cell.quick and store == "sqlite"
            kind = "stoppable" if name in STOPPABLE else store
            found.append(pytest.param(cell, kind, id=f"{cell.id}-{store}", marks=() if is_quick else pytest.mark.long))
    return found


@pytest.mark.parametrize(("cell", "template"), rows(), indirect=["template"])
async def test_the_matrix(cell: Cell, world: World) -> None:
    world.settings = cell.settings
    met = await meet(world, cell)
    check(cell, met)
    if cell.becomes == COMPLETES and world.spans == ALL:
        await world.kept()
    await world.review()
    await world.heal()
    await world.completes()
    await world.verify()


async def meet(world: World, cell: Cell) -> Ran:
    """The run that meets the cell's fault, after making sure that it did."""
    match cell.cause:
        case Trouble(faults, limits):
            world.ground.trouble(faults=list(faults), limits=dict(limits))
            ran = await world.ingest(**cell.run)
            assert all(fault["hits"] for fault in world.ground.http.get("/sandbox/trouble").json()["faults"])
        case OnTheWire(kind, after, times):
            wire = Wire(kind, after, times)
            world.proxy.faults = [wire]
            ran = await world.ingest(**cell.run)
            assert wire.hits
        case OnFirestore() as cause:
            strike = Strike(fault_of(cause), cause.method, cause.about.encode(), cause.after, cause.times)
            world.firestore.strikes = [strike]
            ran = await world.ingest(**cell.run)
            assert strike.hits
        case Scenario(name):
            ran = await SCENARIOS[name](world, cell)
    return ran


def fault_of(cause: OnFirestore) -> flaky_firestore.Fault:
    code = getattr(grpc.StatusCode, cause.code)
    if cause.fault == "hangs":
        return never
    if cause.fault == "partly":
        return flaky_firestore.partly(code.value[0])
    made: flaky_firestore.Fault = getattr(flaky_firestore, cause.fault)(code)
    return made


async def never(request: bytes, context: Any, forward: flaky_firestore.Pass) -> bytes:
    """No answer."""
    await asyncio.Event().wait()
    return b""


def check(cell: Cell, ran: Ran) -> None:
    """The run that met the fault ended as the row says."""
    report = ran.report
    match cell.becomes:
        case Ends(code, exit_code):
            assert ran.status == exit_code, (ran.status, ran.err)
            assert "evalforge: " in ran.told
            if report is not None:
                assert report["error"]["code"] == code
                assert not report["complete"]
        case "gone":
            assert ran.status == -signal.SIGKILL, (ran.status, ran.err)
        case becomes:
            assert ran.status == 0, (ran.status, ran.err)
            assert report is not None
            assert report["complete"] is (becomes == COMPLETES), report["incomplete_because"]


# -- the table itself -----------------------------------------------------------------------------------------------------


def test_every_fault_that_is_named_has_a_row() -> None:
    assert {fault for cell in CELLS for fault in cell.covers} == set(NAMED)
    assert len(CELLS) >= 30


def test_every_row_is_told_apart_and_has_its_scenario() -> None:
    assert len({cell.id for cell in CELLS}) == len({cell.fault for cell in CELLS}) == len(CELLS)
    named = {cell.cause.name for cell in CELLS if isinstance(cell.cause, Scenario)}
    assert named - STEPWISE == set(SCENARIOS)
