"""Where the cells of the fault matrix happen: real processes, known failing traces, and what must hold at the end.

A `Ground` is one sandbox process with its spans, and for each store a place that already holds the first
half of the failures, some of them with a reviewer's fields. A `World` is a copy of that for one cell.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from evalforge.core.ports import Selection
from evalforge.errors import RunInProgressError
from evalforge.sandbox import samples
from evalforge.sandbox.spans import start_of_apm, start_of_llm_obs
from tests.contract.flaky_firestore import FlakyFirestore
from tests.contract.stores import FirestorePlace, Place, SqlitePlace
from tests.emulator import Emulator
from tests.integration.faults.processes import PAGE_BYTES, SECRETS, Ran, Running, Site
from tests.integration.faults.proxy import Proxy

TRACES = 60
LOOKBACK_HOURS = 36
"""Longer than the samples' 24 hours, so that none of them leaves the window while the matrix runs."""
HALF = timedelta(hours=12)
AFTER_THE_LEASE_S = 61.0
ALL = "all"
"""The name of the spans that the sandbox holds when no cell has added any."""
PARTED = "summer rain"
NO_FACTS = frozenset({"fetched_at", "updated_at", "expires_at", "origins"})
REVIEWERS = frozenset({"review_state", "notes", "processed"})


@dataclass(frozen=True)
class Truth:
    """What must be stored: the failing traces, found by reading everything, and their facts after an undisturbed run."""

    traces: set[str]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Template:
    """A place as it is when a cell begins, and the fields that reviewers have set there, by trace id."""

    place: Place
    reviewed: Mapping[str, Mapping[str, Any]]


class Ground(Site):
    """One sandbox process, and a template for each store; a context manager.

    The sandbox holds the samples, personal data planted, and one more failing span on a trace of the first half that came
    when that half had been read already: so the run of a cell creates, updates and leaves alone.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        end = datetime.now(UTC)
        made = samples.generate(end=end, traces=TRACES)
        self.planted = [word.lower() for word in made.planted if len(word) > 6]
        self._items = {"llm_obs": [*made.llm_obs, *parted_traces(end)], "apm": list(made.apm)}
        self._noon_ns = int((end - HALF).timestamp() * 1e9)
        self._late_failure = _failing_twin(self._early("llm_obs"), set(made.expected))
        self.known = set(made.expected)
        self._templates: dict[str, Template] = {}
        self._truths: dict[str, Truth] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self.load_everything()
        return self

    # -- the sandbox

    def load_first_half(self) -> None:
        """Leaves in the sandbox what there is when reviewers begin."""
        self.http.delete("/sandbox/spans").raise_for_status()
        self.load(llm_obs=self._early("llm_obs"), apm=self._early("apm"))

    def load_everything(self) -> None:
        """Leaves in the sandbox what there is when a cell begins."""
        self.load_first_half()
        late = {
            name: [item for item in items if start_ns(name, item) >= self._noon_ns] for name, items in self._items.items()
        }
        self.load(llm_obs=[*late["llm_obs"], self._late_failure], apm=late["apm"])

    def _early(self, name: str) -> list[Any]:
        return [item for item in self._items[name] if start_ns(name, item) < self._noon_ns]

    # -- the stores

    def template(self, name: str, make: Callable[[Path], Place]) -> Template:
        """What a cell begins with on the kind of store that `name` stands for; `make` makes an empty one the first time."""
        if name not in self._templates:
            place = make(self.new_folder())
            self.load_first_half()
            ran = self.run(["ingest", "--json"], self.environment(place, self.url))
            assert ran.status == 0, ran.err
            self.load_everything()
            traces = sorted(document["trace_id"] for document in place.documents())
            reviewed = {trace_id: opinion(number) for number, trace_id in enumerate([self.late_trace, *traces[:3]])}
            for trace_id, fields in reviewed.items():
                asyncio.run(place.review(trace_id, fields))
            self._templates[name] = Template(place, reviewed)
        return self._templates[name]

    def truth(self, spans: str, now_s: float) -> Truth:
        """What must be stored of the spans that the sandbox holds now; `spans` is their name, under which it is kept."""
        if spans not in self._truths:
            place = self.template("sqlite", SqlitePlace).place.clone(self.new_folder())
            ran = self.run(["ingest", "--json"], self.environment(place, self.url), clock_offset_s=now_s)
            assert ran.status == 0, ran.err
            self._truths[spans] = Truth(self.failing(), asyncio.run(facts(place)))
        return self._truths[spans]

    def new_failures(self, *starts_s: float) -> list[Any]:
        """A failing span, in a trace of its own, for each of these starts in seconds from now."""
        now_s = time.time()
        return [_failing_at(self._late_failure, number, now_s + start_s) for number, start_s in enumerate(starts_s)]

    def environment(self, place: Place, datadog_url: str) -> dict[str, str]:
        """All that a process needs to know."""
        return super().environment(place, datadog_url) | {"TRACE_LOOKBACK_HOURS": str(LOOKBACK_HOURS)}

    @property
    def late_trace(self) -> str:
        """The trace of the first half that fails once more in the second."""
        return str(self._late_failure["attributes"]["trace_id"])


class World:
    """One cell's copy of a template, with a proxy before Datadog and, on Firestore, one before the emulator."""

    def __init__(self, ground: Ground, place: Place, reviewed: Mapping[str, Mapping[str, Any]], proxy: Proxy) -> None:
        self.ground = ground
        self.place = place
        self.proxy = proxy
        self.page_bytes = PAGE_BYTES
        self.flaky: FlakyFirestore | None = None
        self.stoppable: Emulator | None = None
        self.reviewed = dict(reviewed)
        self.settings: Mapping[str, str] = {}
        self.ran: list[Ran] = []
        self.now_s = 0.0
        """How far the present is ahead: a cell that waits for something moves it on."""
        self.spans = ALL
        """What the sandbox holds, by name: another one after `add`."""

    @property
    def firestore(self) -> FlakyFirestore:
        """The proxy before the emulator."""
        assert self.flaky is not None
        return self.flaky

    @property
    def emulator(self) -> Emulator:
        """The emulator behind it, if this cell may stop it."""
        assert self.stoppable is not None
        return self.stoppable

    def sqlite(self) -> sqlite3.Connection:
        """Another process's connection to the SQLite file."""
        assert isinstance(self.place, SqlitePlace)
        return sqlite3.connect(self.place.path, isolation_level=None)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of this cell's processes."""
        way = {"FIRESTORE_EMULATOR_HOST": self.flaky.address} if self.flaky else {}
        return self.ground.environment(self.place, self.proxy.url) | way | dict(self.settings)

    def start(self, *arguments: str, settings: dict[str, str] | None = None, **changes: Any) -> Running:
        """`evalforge ingest` on its way, with `changes` of `warm.Run`."""
        changes.setdefault("clock_offset_s", self.now_s)
        environment = self.environment | (settings or {})
        return self.ground.start(["ingest", "--json", *arguments], environment, **changes)

    async def ended(self, running: Running) -> Ran:
        """What came of a process; what it said is looked through at the end."""
        ran = await asyncio.to_thread(running.ended)
        self.ran.append(ran)
        return ran

    async def ingest(self, *arguments: str, settings: dict[str, str] | None = None, **changes: Any) -> Ran:
        """What came of one `evalforge ingest`."""
        return await self.ended(self.start(*arguments, settings=settings, **changes))

    async def add(self, *items: Any) -> None:
        """Puts further spans into the sandbox, for this cell only."""
        self.spans = uuid.uuid4().hex
        await asyncio.to_thread(self.ground.load, llm_obs=items)

    async def stored(self) -> set[str]:
        """The trace ids of what is stored."""
        return {str(document["trace_id"]) for document in await asyncio.to_thread(self.place.documents)}

    async def review(self) -> None:
        """A reviewer sets fields of a capture that has none yet, if there is one."""
        new = min(await self.stored() - self.reviewed.keys(), default=None)
        if new is not None:
            fields = opinion(len(self.reviewed))
            await self.place.review(new, fields)
            self.reviewed[new] = fields

    async def heal(self) -> None:
        """Ends every fault that this world knows of."""
        await self.proxy.heal()
        await asyncio.to_thread(self.ground.reset, self.page_bytes)
        if self.flaky is not None:
            self.flaky.strikes.clear()
            await self.flaky.accept()

    async def completes(self, *, is_free: bool = False) -> Ran:
        """A run that must be complete.

        Unless the lease `is_free`, that of a dead run may still stand: then it is refused first, and comes after its time.
        """
        ran = await self.ingest()
        if ran.status == RunInProgressError.exit_code and not is_free:
            assert "a run is going on: " in ran.err
            self.now_s += AFTER_THE_LEASE_S
            ran = await self.ingest()
        assert ran.status == 0, (ran.status, ran.err)
        assert ran.report is not None
        assert ran.report["complete"], ran.report["incomplete_because"]
        return ran

    async def kept(self) -> None:
        """What a run that calls itself complete must have left: everything but what the store refused and it has counted."""
        truth = await asyncio.to_thread(self.ground.truth, self.spans, self.now_s)
        report = self.ran[-1].report
        assert report is not None
        assert len(truth.traces - await self.stored()) <= report["captures"]["refused"], "complete"

    async def verify(self) -> None:
        """What must hold at the end of every cell."""
        truth = await asyncio.to_thread(self.ground.truth, self.spans, self.now_s)
        assert truth.traces >= self.ground.known
        stored = await asyncio.to_thread(self.place.documents)
        assert sorted(document["trace_id"] for document in stored) == sorted(truth.traces), "each failing trace exactly once"
        assert await facts(self.place) == truth.facts, "the same facts as without any fault"
        last = await self.completes()
        assert last.report is not None
        written = {name: last.report["captures"][name] for name in ("created", "updated", "refused", "kept_out")}
        assert written == dict.fromkeys(written, 0)
        assert await asyncio.to_thread(self.place.documents) == stored, "a further run writes nothing"
        standing = {document["trace_id"]: document for document in stored}
        for trace_id, fields in self.reviewed.items():
            assert {name: standing[trace_id].get(name) for name in fields} == fields, "no reviewer's field changed"
        for items in (ran.report["items"] for ran in self.ran if ran.report):
            assert items["fetched"] == items["healthy"] + items["failing"] + items["rejected"], "counts balance"
        for ran in self.ran:
            said = (ran.out + ran.err).lower()
            assert [word for word in (*SECRETS, *self.ground.planted) if word.lower() in said] == [], (
                "nothing secret is said"
            )
            assert "traceback" not in said
            assert "unexpected" not in ran.told


async def facts(place: Place) -> dict[str, Any]:
    """What is stored of each capture, by trace id, but for when and how it was read, and what reviewers own."""
    store = place.open()
    try:
        found = store.select(Selection(), now=datetime.now(UTC))
        return {one.capture.trace_id: _facts_of(one.document) async for one in found}
    finally:
        await store.close()


def _facts_of(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in NO_FACTS | REVIEWERS}


def opinion(number: int) -> dict[str, Any]:
    """What a reviewer may have set."""
    return {"review_state": ("triaged", "confirmed", "dismissed")[number % 3], "notes": f"note {number}", "processed": True}


def start_ns(source: str, item: Any) -> int:
    """When an item began."""
    read = {"llm_obs": start_of_llm_obs, "apm": start_of_apm}[source]
    return read(item["attributes"]) or 0


def _failing_twin(items: Sequence[Any], failing: set[str]) -> Any:
    """A further failing span of one of these traces, a moment after one that is there."""
    item = next(item for item in items if item["attributes"]["trace_id"] in failing)
    attributes = item["attributes"]
    changed = {"span_id": str(int(attributes["span_id"]) + 1), "status": "error", "start_ns": attributes["start_ns"] + 1}
    return {**item, "id": changed["span_id"], "attributes": {**attributes, **changed}}


def parted_traces(end: datetime) -> list[Any]:
    """Traces whose failing span repeats what a key of a healthy one, an hour before, said to be a name.

    There is one for every hour: wherever a page ends it parts one of them.
    """
    items = []
    for number in range(23):
        start = end - timedelta(hours=23.5 - number)
        told: dict[str, Any] = {
            "evaluation": {"tone": {"value": "rude", "assessment": "fail", "reasoning": f"as if {PARTED} were a child"}}
        }
        for step, more in enumerate(({"metadata": {"customer_name": PARTED}}, told)):
            attributes = {
                "trace_id": f"{int(start.timestamp()):08x}{0xECC0 + number:024x}",
                "span_id": str(10**16 + 2 * number + step),
                "parent_id": "undefined" if step == 0 else str(10**16 + 2 * number),
                "name": "answer",
                "ml_app": "support-bot",
                "span_kind": "llm",
                "status": "ok",
                "start_ns": int((start + timedelta(hours=step)).timestamp() * 1e9),
                "duration": 10**9,
                **more,
            }
            items.append({"id": attributes["span_id"], "type": "span", "attributes": attributes})
    return items


def _failing_at(item: Any, number: int, start_s: float) -> Any:
    """A copy of a failing span that began then, as another trace."""
    changed = {
        "trace_id": f"{int(start_s):08x}{number:024x}",
        "span_id": str(10**15 + number),
        "start_ns": int(start_s * 1e9),
        "parent_id": "undefined",
    }
    return {**item, "id": changed["span_id"], "attributes": {**item["attributes"], **changed}}


@asynccontextmanager
async def world_of(ground: Ground, template: Template, *, page_bytes: int = PAGE_BYTES) -> AsyncIterator[World]:
    """A world on a copy of the template; Datadog's answers have at most `page_bytes`."""
    place = await asyncio.to_thread(template.place.clone, ground.new_folder())
    await asyncio.to_thread(ground.reset, page_bytes)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(ground.url))
        world = World(ground, place, template.reviewed, proxy)
        world.page_bytes = page_bytes
        if isinstance(place, FirestorePlace):
            world.flaky = await stack.enter_async_context(FlakyFirestore(place.address))
        try:
            yield world
        finally:
            if world.spans != ALL:
                await asyncio.to_thread(ground.load_everything)
