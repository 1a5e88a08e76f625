"""The ground of the fault matrix, made once for all that happens on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.stores import FirestorePlace, SqlitePlace
from tests.emulator import Emulator, own_emulator
from tests.integration.faults.world import Ground, Template, World, world_of


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Ground(tmp_path_factory.mktemp("faults")) as ready:
        yield ready


@pytest.fixture(scope="session")
def stoppable_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of the matrix's own, which it may stop and start."""
    with own_emulator(tmp_path_factory.mktemp("stoppable")) as emulator:
        yield emulator


@pytest.fixture
def template(request: pytest.FixtureRequest, ground: Ground) -> Template:
    """What a cell begins with on one kind of store: `sqlite`, `firestore`, or `stoppable`, an emulator that it may stop."""

    def make(folder: Path) -> SqlitePlace | FirestorePlace:
        if request.param == "sqlite":
            return SqlitePlace(folder)
        if request.param == "firestore":
            return FirestorePlace(request.getfixturevalue("firestore_emulator"))
        return FirestorePlace(request.getfixturevalue("stoppable_emulator").address)

    return ground.template(request.param, make)


@pytest.fixture
def stoppable(request: pytest.FixtureRequest) -> Emulator | None:
    """The emulator that this test may stop, if it asks for one."""
    is_wanted = request.node.callspec.params["template"] == "stoppable"
    emulator: Emulator | None = request.getfixturevalue("stoppable_emulator") if is_wanted else None
    return emulator


@pytest.fixture
async def world(ground: Ground, template: Template, stoppable: Emulator | None) -> AsyncIterator[World]:
    async with world_of(ground, template) as ready:
        ready.stoppable = stoppable
        yield ready
