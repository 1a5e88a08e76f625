"""The fault matrix: one row for each fault, where it strikes, and what must come of it.

This table is the list. docs/reliability.md is generated from it, and `test_fault_matrix` and `test_every_step` run each row
against real processes; the common end of all of them is `World.verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.integration.faults.proxy import WireKind

Where = Literal["datadog", "network", "firestore", "sqlite", "process", "clock"]
StoreKind = Literal["sqlite", "firestore"]

SQLITE: tuple[StoreKind, ...] = ("sqlite",)
FIRESTORE: tuple[StoreKind, ...] = ("firestore",)
BOTH: tuple[StoreKind, ...] = ("sqlite", "firestore")


@dataclass(frozen=True)
class Ends:
    """The run that meets the fault ends in a clear error; once the fault is over, a later run completes."""

    code: str
    exit_code: int


COMPLETES: Final = "completes"
"""The run that meets the fault completes all the same."""

INCOMPLETE: Final = "incomplete"
"""The run that meets the fault ends well, and says that it is not complete and why; a later run completes."""

GONE: Final = "gone"
"""The process that meets the fault is gone; a later run completes."""


@dataclass(frozen=True)
class Trouble:
    """What the sandbox is asked for: faults, and rate limits, as its door takes them."""

    faults: tuple[Mapping[str, Any], ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OnTheWire:
    """What the TCP proxy before Datadog does, to the requests after `after`."""

    kind: WireKind
    after: int = 2
    times: int | None = 1


@dataclass(frozen=True)
class OnFirestore:
    """What the proxy before the emulator does: `fault` is a function of tests/contract/flaky_firestore.py, by name.

    `code` is the gRPC status; `about` names the documents it strikes.
    """

    fault: Literal["refused", "answer_lost", "partly", "hangs"]
    code: str = "UNAVAILABLE"
    method: str = "BatchWrite"
    about: str = ""
    after: int = 0
    times: int | None = 1


@dataclass(frozen=True)
class Scenario:
    """A fault that takes more than one thing: a function of its name in `scenarios` or test_every_step does it."""

    name: str


Cause = Trouble | OnTheWire | OnFirestore | Scenario


@dataclass(frozen=True)
class Cell:
    """One row. `fault` is it in words, `covers` the faults of `NAMED` that it is a case of.

    `becomes` is what must come of the run that meets it; `but` says in words what else must hold. `run` are changes of
    `warm.Run`: waits that are shortened, room that is scarce. `settings` hold for every run. `quick` rows run in the
    ordinary tests.
    """

    id: str
    where: Where
    fault: str
    cause: Cause
    becomes: Ends | Literal["completes", "incomplete", "gone"]
    stores: tuple[StoreKind, ...] = SQLITE
    covers: tuple[str, ...] = ()
    but: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False


NAMED = (
    "connection refused", "reset mid-body", "hang", "slow drip", "truncated JSON", "HTML with 200", "429 with headers",
    "429 without headers", "quota smaller than the window", "500", "502", "503", "504", "400 on a cursor", "401 mid-run",
    "rotated key", "partial pages", "duplicate spans across pages", "spans arriving while reading", "clock skew of minutes",
    "Firestore unavailable at the start", "Firestore unavailable mid-batch", "Firestore unavailable at the checkpoint",
    "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT on one document of a batch", "disk full",
    "locked database", "SIGTERM", "SIGKILL",
)  # fmt: skip
"""Every fault that must have a row."""

_DOWN = Ends("source_unavailable", 6)
_REFUSED = Ends("source_refused", 4)
_QUOTA = Ends("quota_exhausted", 7)
_STORE_DOWN = Ends("store_unavailable", 8)
_STORE_REFUSED = Ends("store_refused", 5)
_SHORT = {"datadog_patience_s": [0.5, 1.5]}
_SHORT_STORE = {"store_patience_s": 1.5}
_SINCE_LAST = {"SINCE_LAST": "true"}
_MID_RUN = {"after": 3, "times": None}


def _trouble(kind: str, **fields: Any) -> Trouble:
    return Trouble(({"kind": kind, **fields},))


CELLS: tuple[Cell, ...] = (
    # -- Datadog answers, but not what was asked for
    Cell("status-500", "datadog", "500 on the third search", _trouble("status", status=500, after=2), COMPLETES,
         BOTH, ("500",)),
    Cell("status-502", "datadog", "502 with a proxy's web page, twice", _trouble("status", status=502, body="html", times=2),
         COMPLETES, covers=("502",)),
    Cell("status-503", "datadog", "503 on every third search", _trouble("status", status=503, times=None, every=3),
         COMPLETES,
         covers=("503",)),
    Cell("status-504", "datadog", "504 on the first search", _trouble("status", status=504), COMPLETES, covers=("504",)),
    Cell("outage", "datadog", "503 for longer than RETRY_BUDGET_S, from the fourth search on",
         _trouble("status", status=503, **_MID_RUN), _DOWN, BOTH, ("503",)),
    Cell("html-once", "datadog", "a web page with status 200, once", _trouble("html", after=1), COMPLETES,
         covers=("HTML with 200",), quick=True),
    Cell("html-for-good", "datadog", "a login page with status 200 instead of every answer", _trouble("html", **_MID_RUN),
         _DOWN, covers=("HTML with 200",)),
    Cell("truncated", "datadog", "JSON that ends in the middle, once", _trouble("truncated", after=2), COMPLETES,
         covers=("truncated JSON",)),
    Cell("truncated-for-good", "datadog", "JSON that ends in the middle, always", _trouble("truncated", **_MID_RUN), _DOWN,
         covers=("truncated JSON",)),
    Cell("no-index", "datadog",
         "500 \"No valid indexes\" in the middle of a window: what an organisation without data answers",
         _trouble("no_index", after=3), COMPLETES, but="the window is not taken for empty"),
    Cell("limit-that-resets", "datadog", "429 with headers, resets in a second",
         _trouble("rate_limited", after=2, reset_s=1),
         COMPLETES, covers=("429 with headers",), settings={"RETRY_BUDGET_S": "5"}),
    Cell("limit-that-lasts", "datadog", "429 with headers, resets in ten minutes",
         _trouble("rate_limited", reset_s=600, **_MID_RUN), _QUOTA, BOTH, ("429 with headers",),
         but="the error says when to come back"),
    Cell("limit-untold", "datadog", "429 without headers, once", _trouble("rate_limited", after=2, rate_headers=False),
         COMPLETES, covers=("429 without headers",)),
    Cell("limit-untold-for-good", "datadog", "429 without headers, always",
         _trouble("rate_limited", rate_headers=False, **_MID_RUN), _QUOTA, covers=("429 without headers",)),
    Cell("small-quota", "datadog", "a quota of four searches a day for a window of fourteen", Scenario("small_quota"),
         _QUOTA, BOTH, ("quota smaller than the window",),
         but="every run goes on where the last one stopped: no page twice"),
    Cell("dead-cursor", "datadog", "400 on a cursor in the middle of a window", _trouble("bad_cursor", after=3), COMPLETES,
         BOTH, ("400 on a cursor",), quick=True),
    Cell("cursor-died-meanwhile", "datadog", "a stopped run's cursor has died when the next one comes (400)",
         Scenario("cursor_died_meanwhile"), COMPLETES, covers=("400 on a cursor",)),
    Cell("key-revoked", "datadog", "401 in the middle of a window: the key was revoked",
         _trouble("status", status=401, **_MID_RUN), _REFUSED, BOTH, ("401 mid-run",)),
    Cell("key-rotated", "datadog", "401 in the middle of a window: the key was rotated, the new one is in Secret Manager",
         Scenario("key_rotated"), COMPLETES, covers=("401 mid-run", "rotated key"), but="the key is read again once"),
    Cell("partial-once", "datadog", "a page with half of its spans and meta.status timeout, once",
         _trouble("partial", after=1),
         COMPLETES, covers=("partial pages",)),
    Cell("partial-to-the-end", "datadog", "every page is partial", _trouble("partial", times=None), INCOMPLETE,
         covers=("partial pages",), but="the next run reads the window anew"),
    Cell("duplicates", "datadog", "every page brings spans of the one before once more", OnTheWire("again", 1, None),
         COMPLETES, BOTH, ("duplicate spans across pages",)),
    Cell("circle", "datadog", "a cursor that leads back to itself", OnTheWire("same_cursor", 3, None), _DOWN),
    Cell("arriving", "datadog", "spans arrive while the window is read, behind and before the cursor", Scenario("arriving"),
         COMPLETES, BOTH, ("spans arriving while reading",), but="the next run finds those that came behind it"),
    Cell("since-last-outage", "datadog", "503 for longer than RETRY_BUDGET_S in the middle of an incremental run",
         _trouble("status", status=503, **_MID_RUN), _DOWN, BOTH, ("503",), settings=_SINCE_LAST),
    Cell("between-tiers", "datadog", "503 when an incremental run has read what is new, and is to look a day back",
         Scenario("between_tiers"), _DOWN, BOTH, ("503",), settings={**_SINCE_LAST, "DATADOG_FILTER": "scan"},
         but="the next one reads that day, and finds what had come late"),
    # -- the network
    Cell("refused-at-the-start", "network", "connection refused from the first request on", OnTheWire("refuse", 0, None),
         _DOWN,
         covers=("connection refused",), quick=True),
    Cell("refused-mid-run", "network", "Datadog vanishes in the middle: reset, then connection refused",
         OnTheWire("refuse", 3, None), _DOWN, BOTH, ("connection refused",)),
    Cell("reset", "network", "the connection is reset before an answer", OnTheWire("reset"), COMPLETES),
    Cell("reset-mid-body", "network", "the connection is reset in the middle of a body", OnTheWire("reset_in_body"),
         COMPLETES,
         BOTH, ("reset mid-body",)),
    Cell("reset-mid-body-for-good", "network", "every connection is reset in the middle of a body",
         OnTheWire("reset_in_body", 3, None), _DOWN, covers=("reset mid-body",)),
    Cell("cut-mid-body", "network", "the connection ends in the middle of a body", OnTheWire("cut_in_body", times=2),
         COMPLETES),
    Cell("hang", "network", "no answer to one request, past the time that an answer may take", OnTheWire("hang"), COMPLETES,
         covers=("hang",), run=_SHORT),
    Cell("hang-for-good", "network", "no answer any more", OnTheWire("hang", 3, None), _DOWN, covers=("hang",), run=_SHORT),
    Cell("hang-mid-body", "network", "half of a body, and then nothing", OnTheWire("hang_in_body"), COMPLETES,
         covers=("hang",), run=_SHORT),
    Cell("drip", "network", "every answer comes in small pieces", OnTheWire("drip", 0, None), COMPLETES, BOTH,
         ("slow drip",)),
    Cell("trickle", "network", "an answer comes a byte at a time, never long enough silent to time out",
         OnTheWire("trickle"),
         COMPLETES, covers=("slow drip",), run=_SHORT),
    # -- Firestore
    Cell("firestore-away-at-the-start", "firestore", "nobody listens where Firestore should be", Scenario("firestore_away"),
         _STORE_DOWN, FIRESTORE, ("Firestore unavailable at the start",), run=_SHORT_STORE),
    Cell("firestore-unavailable-at-the-start", "firestore", "UNAVAILABLE to the first three calls",
         OnFirestore("refused", method="", times=3), COMPLETES, FIRESTORE, ("Firestore unavailable at the start",)),
    Cell("firestore-unavailable-mid-batch", "firestore", "UNAVAILABLE to one batch of captures",
         OnFirestore("refused", about="raw_traces"), COMPLETES, FIRESTORE, ("Firestore unavailable mid-batch",)),
    Cell("firestore-outage-mid-batch", "firestore", "UNAVAILABLE to every call after the first captures were written",
         OnFirestore("refused", about="raw_traces", after=1, times=None), _STORE_DOWN, FIRESTORE,
         ("Firestore unavailable mid-batch",), run=_SHORT_STORE),
    Cell("firestore-unavailable-at-the-checkpoint", "firestore", "UNAVAILABLE when a checkpoint is saved",
         OnFirestore("refused", about="source_", after=1), COMPLETES, FIRESTORE,
         ("Firestore unavailable at the checkpoint",)),
    Cell("firestore-outage-at-the-checkpoint", "firestore", "UNAVAILABLE whenever a checkpoint is saved",
         OnFirestore("refused", about="source_", after=1, times=None), _STORE_DOWN, FIRESTORE,
         ("Firestore unavailable at the checkpoint",), run=_SHORT_STORE),
    Cell("firestore-aborted", "firestore", "ABORTED: a batch was in contention", OnFirestore("refused", "ABORTED", times=3),
         COMPLETES, FIRESTORE, ("ABORTED",)),
    Cell("firestore-aborted-one", "firestore", "ABORTED for one document of a batch",
         OnFirestore("partly", "ABORTED", about="raw_traces"), COMPLETES, FIRESTORE, ("ABORTED",)),
    Cell("firestore-exhausted", "firestore", "RESOURCE_EXHAUSTED for a moment",
         OnFirestore("refused", "RESOURCE_EXHAUSTED", times=3), COMPLETES, FIRESTORE, ("RESOURCE_EXHAUSTED",)),
    Cell("firestore-exhausted-for-good", "firestore", "RESOURCE_EXHAUSTED to every write of captures",
         OnFirestore("refused", "RESOURCE_EXHAUSTED", about="raw_traces", times=None), _STORE_DOWN, FIRESTORE,
         ("RESOURCE_EXHAUSTED",), run=_SHORT_STORE),
    Cell("firestore-answer-lost", "firestore", "DEADLINE_EXCEEDED for batches that were written all the same",
         OnFirestore("answer_lost", "DEADLINE_EXCEEDED", times=3), COMPLETES, FIRESTORE, ("DEADLINE_EXCEEDED",)),
    Cell("firestore-hangs", "firestore", "no answer any more after the first captures (DEADLINE_EXCEEDED)",
         OnFirestore("hangs", method="", after=12, times=None), _STORE_DOWN, FIRESTORE, ("DEADLINE_EXCEEDED",),
         run=_SHORT_STORE),
    Cell("firestore-invalid", "firestore", "INVALID_ARGUMENT on one document of a batch", Scenario("firestore_invalid"),
         COMPLETES, FIRESTORE, ("INVALID_ARGUMENT on one document of a batch",),
         but="its neighbours are written, it becomes a dead letter, and the next run writes it"),
    Cell("firestore-invalid-status", "firestore", "INVALID_ARGUMENT as the status of one write",
         OnFirestore("partly", "INVALID_ARGUMENT", about="raw_traces"), COMPLETES, FIRESTORE,
         ("INVALID_ARGUMENT on one document of a batch",), but="it becomes a dead letter, and the next run writes it"),
    Cell("firestore-denied", "firestore", "PERMISSION_DENIED in the middle: the role was taken away",
         OnFirestore("refused", "PERMISSION_DENIED", method="", after=12, times=None), _STORE_REFUSED, FIRESTORE),
    Cell("firestore-lease", "firestore", "UNAVAILABLE whenever the lease is renewed or given back",
         OnFirestore("refused", about="lease_", after=1, times=None), COMPLETES, FIRESTORE,
         but="the next run is refused (run_in_progress, 9) until the lease has run out",
         run={**_SHORT_STORE, "renewal_s": 0.05}),
    Cell("firestore-reviewer-between", "firestore", "a reviewer writes between a capture's read and its write",
         Scenario("reviewer_between"), COMPLETES, FIRESTORE, but="both survive"),
    Cell("firestore-paused", "firestore",
         "the emulator's process stands still (SIGSTOP) in the middle of a run, then goes on",
         Scenario("emulator_paused"), COMPLETES, FIRESTORE, ("Firestore unavailable mid-batch",)),
    Cell("firestore-killed", "firestore", "the emulator is killed in the middle of a run and comes back with what it held",
         Scenario("emulator_killed"), _STORE_DOWN, FIRESTORE, ("Firestore unavailable mid-batch",), run=_SHORT_STORE),
    # -- SQLite
    Cell("sqlite-full", "sqlite", "the disk is full (SQLITE_FULL)", Scenario("sqlite_full"), _STORE_REFUSED, SQLITE,
         ("disk full",), quick=True),
    Cell("sqlite-limit", "sqlite", "a file may not grow (EFBIG, as beyond a quota)", Scenario("sqlite_limit"),
         _STORE_REFUSED,
         SQLITE, ("disk full",)),
    Cell("sqlite-locked", "sqlite", "another process locks the file for a while", Scenario("sqlite_locked"), COMPLETES,
         SQLITE,
         ("locked database",)),
    Cell("sqlite-locked-long", "sqlite", "another process locks the file for longer than a call may wait",
         Scenario("sqlite_locked_long"), _STORE_DOWN, SQLITE, ("locked database",), run={"store_patience_s": 0.3}),
    Cell("sqlite-reader", "sqlite", "another process reads one snapshot all the while", Scenario("sqlite_reader"),
         COMPLETES),
    # -- the process
    Cell("sigkill-every-step", "process",
         "SIGKILL before each call at the ports: lease, search, upsert, keep, checkpoint, …",
         Scenario("every_step"), GONE, BOTH, ("SIGKILL",)),
    Cell("sigterm-every-step", "process", "SIGTERM before each call at the ports", Scenario("every_step"), INCOMPLETE, BOTH,
         ("SIGTERM",), but="the page is finished, its checkpoint saved, the lease given back"),
    Cell("sigterm-twice-every-step", "process", "SIGTERM twice before each call at the ports", Scenario("every_step"), GONE,
         SQLITE, ("SIGTERM",), but="it ends at once (exit code 130)"),
    Cell("sigkill-every-statement", "process", "SIGKILL before each SQL statement, in the middle of transactions too",
         Scenario("every_step"), GONE, SQLITE, ("SIGKILL",)),
    Cell("sigkill-every-call", "process", "SIGKILL before each call to Firestore, and between its effect and its answer",
         Scenario("every_call"), GONE, FIRESTORE, ("SIGKILL",)),
    Cell("sigkill-every-request", "process", "SIGKILL before each request to Datadog, and when its answer has come",
         Scenario("every_request"), GONE, SQLITE, ("SIGKILL",)),
    Cell("sigkill-at-renewal", "process", "SIGKILL before the lease is renewed", Scenario("at_renewal"), GONE, BOTH,
         ("SIGKILL",)),
    Cell("dead-holder", "process", "SIGKILL, and another run comes at once", Scenario("dead_holder"), GONE, BOTH,
         ("SIGKILL",),
         but="it is refused (run_in_progress, 9) until the dead one's lease has run out", quick=True),
    Cell("second-copy", "process", "a second copy is started while the first one runs", Scenario("second_copy"), COMPLETES,
         BOTH, but="the second one is refused (run_in_progress, 9)"),
    Cell("service-killed", "process", "SIGKILL to the service in the middle of a run", Scenario("service_killed"), GONE,
         SQLITE,
         ("SIGKILL",), but="the next service answers 409 until the lease has run out"),
    Cell("service-stopped", "process", "SIGTERM to the service in the middle of a run", Scenario("service_stopped"),
         INCOMPLETE,
         SQLITE, ("SIGTERM",), but="the waiting request is answered"),
    # -- the clock
    Cell("spans-ahead", "clock", "an application's clock is three minutes ahead of ours", Scenario("spans_ahead"), COMPLETES,
         BOTH, ("clock skew of minutes",), but="the first run after their time finds its spans"),
    Cell("clock-behind", "clock", "our clock is five minutes behind, then it is set right", Scenario("clock_behind"),
         COMPLETES,
         SQLITE, ("clock skew of minutes",), but="what lay beyond our present is found then"),
    Cell("clock-ahead", "clock", "our clock is five minutes ahead and the process is killed; then it is set right",
         Scenario("clock_ahead"), GONE, SQLITE, ("clock skew of minutes",),
         but="the next run is refused (run_in_progress, 9) until that lease has run out"),
    Cell("clock-behind-overtaken", "clock", "the holder's clock is five minutes behind: another takes its lease over",
         Scenario("clock_behind_overtaken"), INCOMPLETE, BOTH, ("clock skew of minutes",),
         but="the first one stops (lease_lost); both have written the same"),
)  # fmt: skip
"""Every row."""
