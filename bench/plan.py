"""What is measured at which size, in which order: cases that are compared take turns, and short ones run three times."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.cases.case import Case, Figures, run
from bench.launch import BenchServer, forget, fresh_project, serving

SQLITE, EMULATOR = "SQLite", "emulator"
FIRST, SECOND, CHANGED = "first run", "unchanged second run", "1 % changed"
CHANGED_SHARE = 0.01
LATENCY_MS = 150
LARGE_BYTES = 100_000
ROUNDS = 3
SHORT_S = 5.0


@dataclass(frozen=True, slots=True)
class Key:
    """Which row: what was in the window, and which case. `store` and `turn` are empty for the peers."""

    spans: int
    span_bytes: int
    latency_ms: int
    name: str
    mode: str
    store: str = ""
    turn: str = ""


@dataclass(slots=True)
class Row:
    """What a row took, once for each round, and the bench server's own CPU seconds meanwhile."""

    key: Key
    rounds: list[Figures] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)

    @property
    def wall_s(self) -> float:
        """The median."""
        return statistics.median(figures.wall_s for figures in self.rounds)

    @property
    def cpu_s(self) -> float:
        """The median."""
        return statistics.median(figures.cpu_s for figures in self.rounds)

    @property
    def peak_mb(self) -> float:
        """The highest."""
        return max(figures.peak_mb for figures in self.rounds)

    @property
    def server_share(self) -> float:
        """How much of the wall time the server spent on making pages."""
        return statistics.median(busy_s / figures.wall_s for busy_s, figures in zip(self.busy_s, self.rounds, strict=True))

    def count(self, name: str) -> int:
        """What the case counted under this name in the first round, 0 where it does not count that."""
        return int(self.rounds[0].result.get(name, 0))


Entry = Callable[[BenchServer], Iterable[Key]]


class Bench:
    """Runs cases and keeps their rows. `emulator` is its `host:port`; `folder` takes SQLite files."""

    def __init__(self, emulator: str, folder: Path, seed: int, dlt_python: Path, rounds: int) -> None:
        self.rows: dict[Key, Row] = {}
        self._emulator = emulator
        self._folder = folder
        self._seed = seed
        self._dlt_python = dlt_python
        self._rounds = rounds

    def warm_up(self) -> None:
        """Runs each kind of case once, unmeasured: files are read, the emulator's code is compiled."""
        with serving(20_000, self._seed) as server:
            project = fresh_project()
            run(Case("ours", server.url, "query", emulator=self._emulator, project=project))
            forget(self._emulator, project)
            if self._dlt_python.exists():
                self._dlt(server)
        self.rows.clear()

    def whole(self, sizes: Sequence[int], *, full: bool) -> None:
        """Every row for these sizes of the window, 1,000,000 only through the query unless `full`."""
        for spans in sizes:
            is_huge = spans >= 1_000_000
            with serving(spans, self._seed) as server:
                entries = [self._floor("query"), self._dlt, self._ours("query", EMULATOR, FIRST if is_huge else CHANGED)]
                if not is_huge or full:
                    entries += [self._floor("scan"), self._ours("scan", SQLITE, FIRST if is_huge else CHANGED)]
                if spans == min(sizes):
                    entries.append(self._official("scan"))
                entries += [self._official("query"), self._ours("auto", SQLITE, FIRST if is_huge else CHANGED)]
                if not is_huge and spans == max(size for size in sizes if size < 1_000_000):
                    entries += [self._ours("query", SQLITE), self._ours("auto", EMULATOR), self._ours("scan", EMULATOR)]
                self._in_turns(server, entries)

    def late(self, spans: int) -> None:
        """The same window where each answer takes 150 ms, beside one cursor that throws everything away."""
        with serving(spans, self._seed, latency_ms=LATENCY_MS) as server:
            scans = [self._floor("scan"), self._ours("scan", SQLITE, FIRST)]
            self._in_turns(server, [*scans, self._floor("query"), self._ours("query", SQLITE, FIRST)])

    def large(self, spans: int) -> None:
        """Spans of 100 KB."""
        with serving(spans, self._seed, span_bytes=LARGE_BYTES) as server:
            entries = [self._floor("scan"), self._ours("scan", SQLITE, FIRST), self._ours("auto", SQLITE, FIRST)]
            self._in_turns(server, entries)

    def counted(self, spans: int) -> dict[str, dict[str, int]]:
        """What a run in mode auto reads and writes at the emulator's door, by turn."""
        found = {}
        with serving(spans, self._seed) as server:
            project = fresh_project()
            for turn in (FIRST, SECOND, CHANGED):
                server.change(CHANGED_SHARE if turn == CHANGED else 0)
                found[turn] = run(Case("counted", server.url, "auto", emulator=self._emulator, project=project)).result
            forget(self._emulator, project)
        return found

    def _in_turns(self, server: BenchServer, entries: Sequence[Entry]) -> None:
        left = list(entries)
        for _ in range(self._rounds):
            left = [
                entry for entry in left if max((self.rows[key].wall_s for key in entry(server)), default=SHORT_S) < SHORT_S
            ]

    def _floor(self, mode: str) -> Entry:
        return lambda server: [self._measured(server, Case("floor", server.url, mode))]

    def _official(self, mode: str) -> Entry:
        return lambda server: [self._measured(server, Case("datadog-api-client", server.url, mode))]

    def _dlt(self, server: BenchServer) -> list[Key]:
        if not self._dlt_python.exists():
            return []
        case = Case("dlt", server.url, emulator=self._emulator, project=fresh_project())
        key = self._measured(server, case, store=EMULATOR, python=self._dlt_python)
        forget(self._emulator, case.project)
        return [key]

    def _ours(self, mode: str, store: str, last: str = CHANGED) -> Entry:
        turns = [FIRST, SECOND, CHANGED]
        del turns[turns.index(last) + 1 :]

        def measure(server: BenchServer) -> list[Key]:
            name = fresh_project()
            case = Case("ours", server.url, mode, f"sqlite:///{self._folder}/{name}.sqlite3")
            if store == EMULATOR:
                case = replace(case, store="firestore", emulator=self._emulator, project=name)
            keys = []
            for turn in turns:
                server.change(CHANGED_SHARE if turn == CHANGED else 0)
                keys.append(self._measured(server, case, store=store, turn=turn))
            server.change(0)
            if store == EMULATOR:
                forget(self._emulator, name)
            return keys

        return measure

    def _measured(
        self, server: BenchServer, case: Case, *, store: str = "", turn: str = "", python: Path | None = None
    ) -> Key:
        key = Key(server.spans, server.span_bytes, server.latency_ms, case.name, case.mode, store, turn)
        before = server.stats()["busy_s"]
        figures = run(case, str(python)) if python else run(case)
        row = self.rows.setdefault(key, Row(key))
        row.rounds.append(figures)
        row.busy_s.append(server.stats()["busy_s"] - before)
        print(f"{key.spans:>9,} {key.name} {key.mode} {store} {turn}: {figures.wall_s:.2f} s", flush=True)
        return key
