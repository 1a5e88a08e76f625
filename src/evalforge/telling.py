"""Telling a receiver of groups: of each one when it is first seen, and when it has regressed, at the end of a run.

Each event is told once as far as anybody can know: what was accepted is remembered at once, and an answer that was lost
makes it twice, with the same id. Whatever goes wrong here is a warning of the run, and the next run goes on.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import orjson

from evalforge.core.inert import inert_json
from evalforge.core.ports import MAX_SIGNATURES, Brief, Receiver, Selection, Store, Told
from evalforge.core.review import Review, ReviewState
from evalforge.errors import DestinationRefusedError, EvalForgeError, NotFoundError, RetriableError
from evalforge.events import emit
from evalforge.review import Group, one_group

MAX_EVENTS = 50
"""How many events one run tells; the rest waits for the next."""

MAX_SECONDS = 60.0
"""After how long no further event is told, in seconds: a slow receiver must not hold up the end of a run."""

MAX_REFUSED = 3
"""How many events a receiver may refuse before it is left alone: one that is odd must not stand in the others' way."""

MAX_REMEMBERED = 10_000
"""How many groups are remembered that are not there any more, at most."""

_PAGE = 500
_MAX_NAME = 200
# A class, as programs name it: what somebody wrote freely does not look like that.
_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]{0,99}")

EventType = Literal["group.first_seen", "group.regressed"]


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom to tell: `opened` gives the receiver once there is something to tell; `base_url` is what links begin with."""

    opened: Callable[[], Awaitable[Receiver]]
    base_url: str | None = None


@dataclass(slots=True)
class Telling:
    """What came of telling: how many events were accepted, how many are still to be told, and what stopped it."""

    told: int = 0
    untold: int = 0
    warnings: list[str] = field(default_factory=list)

    def document(self) -> dict[str, int]:
        """The counts, for a run report."""
        return {"told": self.told, "untold": self.untold}


@dataclass(frozen=True, slots=True)
class Due:
    """One event to tell: of which group, and what sets it apart from others of its kind about the same group."""

    type: EventType
    signature: str
    resolved_at: datetime | None = None

    def id(self, origin: str) -> str:
        """The id of the event, the same whenever it is told by whoever has this memory."""
        occasion = self.resolved_at.astimezone(UTC).isoformat() if self.resolved_at else ""
        digest = hashlib.sha256("\0".join((origin, self.type, self.signature, occasion)).encode())
        return f"evt_{digest.hexdigest()[:32]}"

    def told_in(self, memory: Told) -> Told:
        """The memory once this was told."""
        if self.resolved_at is None:
            return replace(memory, signatures=memory.signatures | {self.signature})
        return replace(memory, regressions={**memory.regressions, self.signature: self.resolved_at})


async def tell(
    audience: Audience,
    store: Store,
    telling: Telling,
    *,
    run_id: str,
    began_at: datetime,
    clock: Callable[[], datetime],
    should_stop: Callable[[], str | None],
) -> None:
    """Tells of the groups that are new or have regressed and were not told yet, oldest news first; fills `telling`.

    Where nobody was ever told, groups with a capture from before `began_at` count as known. `should_stop` is asked before
    each event and gives the code of a reason, or None to go on. No error of the receiver or of the store gets out: it
    becomes a warning.
    """
    # A store may keep times to the millisecond; a whole second more does not make an old group a new one.
    began_at = began_at.replace(microsecond=0)
    try:
        memory, due = await _due(store, began_at, clock())
        telling.untold = len(due)
        if due:
            await _tell(audience, store, telling, memory, due, run_id, clock, should_stop)
    except EvalForgeError as error:
        _failed(telling, run_id, error)
    if telling.told:
        emit("telling.finished", run_id=run_id, told=telling.told, untold=telling.untold)


async def _tell(
    audience: Audience,
    store: Store,
    telling: Telling,
    memory: Told,
    due: list[Due],
    run_id: str,
    clock: Callable[[], datetime],
    should_stop: Callable[[], str | None],
) -> None:
    receiver = await audience.opened()
    until = time.monotonic() + MAX_SECONDS
    refused_count = 0
    for event in due[:MAX_EVENTS]:
        if refused_count == MAX_REFUSED or should_stop() is not None or time.monotonic() >= until:
            return
        now = clock()
        group = await _group(store, event, now)
        if group is not None:
            event_id = event.id(memory.origin)
            body = event_body(event.type, event_id, group, at=now, base_url=audience.base_url)
            try:
                await receiver.post(body, content_type="application/json", message_id=event_id)
            except DestinationRefusedError as error:
                refused_count += 1
                _failed(telling, run_id, error)
                continue
            telling.told += 1
        telling.untold -= 1
        memory = event.told_in(memory)
        await store.save_told(memory)


def _failed(telling: Telling, run_id: str, error: EvalForgeError) -> None:
    """Says what went wrong, in the log and once in the report."""
    warning = f"not all was told of groups: {error.message}; the next run tries again"
    if warning not in telling.warnings:
        telling.warnings.append(warning)
    emit(
        "telling.failed",
        run_id=run_id,
        code=error.code,
        told=telling.told,
        untold=telling.untold,
        retry_after_s=error.retry_after_s if isinstance(error, RetriableError) else None,
    )


async def _group(store: Store, event: Due, now: datetime) -> Group | None:
    """The group to tell of; None where it is gone meanwhile, or reviewers want to hear nothing of it."""
    try:
        group = await one_group(store, event.signature, now=now)
    except NotFoundError:
        return None
    return None if group.state is ReviewState.IGNORED and event.type == "group.first_seen" else group


async def _due(store: Store, began_at: datetime, now: datetime) -> tuple[Told, list[Due]]:
    """What was told so far, and what is to be told, what has waited longest first."""
    newest = {brief.signature: brief for brief in await store.newest_by_signature(now=now)}
    resolved = {review.signature: review async for review in store.reviews(ReviewState.RESOLVED)}
    memory = await store.load_told()
    if memory is None:
        known = [signature for signature, brief in newest.items() if not await _is_fresh(store, brief, began_at, now)]
        memory = Told(secrets.token_hex(8), frozenset(known))
        # Saved before anything is told: what is new now is still new for the next run, should nobody hear this one.
        await store.save_told(memory)
    is_whole = len(newest) < MAX_SIGNATURES
    memory = _without_the_gone(memory, newest, resolved, is_whole=is_whole)
    regressed = [
        (newest[signature].fetched_at, Due("group.regressed", signature, review.resolved_at))
        for signature, review in resolved.items()
        if signature in newest
        and review.has_regressed(newest[signature].started_at)
        and memory.regressions.get(signature) != review.resolved_at
    ]
    first_seen = [
        (brief.fetched_at, Due("group.first_seen", signature))
        for signature, brief in newest.items()
        if signature not in memory.signatures
        # Of a store with more groups than it shows, those shown change: only what this run has fetched is new for sure.
        and (is_whole or await _is_fresh(store, brief, began_at, now))
    ]
    waiting = sorted((*regressed, *first_seen), key=lambda one: (one[0], one[1].type, one[1].signature))
    return memory, [event for _, event in waiting]


async def _is_fresh(store: Store, newest: Brief, began_at: datetime, now: datetime) -> bool:
    """Whether every capture of a group was fetched since then."""
    if newest.fetched_at < began_at:
        return False
    until: datetime | None = None
    while True:
        selection = Selection(signatures=(newest.signature,), started_to=until, limit=_PAGE)
        page = await store.briefs(selection, now=now)
        if any(brief.fetched_at < began_at for brief in page):
            return False
        if len(page) < _PAGE:
            return True
        until = page[-1].started_at


def _without_the_gone(memory: Told, newest: Mapping[str, Brief], resolved: Mapping[str, Review], *, is_whole: bool) -> Told:
    """The memory of what is still there: a group whose last capture has expired is a new one when it comes back.

    A store with more groups than it shows cannot tell which are gone; then they are remembered, up to a bound.
    """
    forgets = is_whole or len(memory.signatures) > MAX_REMEMBERED
    regressions = {
        signature: resolved_at
        for signature, resolved_at in memory.regressions.items()
        if signature in resolved and resolved[signature].resolved_at == resolved_at
    }
    signatures = memory.signatures & newest.keys() if forgets else memory.signatures
    return replace(memory, signatures=signatures, regressions=regressions)


def event_body(event_type: EventType, event_id: str, group: Group, *, at: datetime, base_url: str | None) -> bytes:
    """The event as JSON: what happened, to which group, and where to look; names and counts only, no captured free text."""
    newest = group.newest
    document: dict[str, Any] = {
        "type": event_type,
        "id": event_id,
        "at": _iso(at),
        "group": {
            "signature": group.signature,
            "title": title_of(newest),
            "failure_type": newest.failure_type,
            "severity": group.severity,
            "ml_app": _name(newest.ml_app),
            "env": _name(newest.env),
            "count": group.count,
            "first_seen_at": _iso(group.first_seen_at),
            "last_seen_at": _iso(group.last_seen_at),
            "state": group.state.value,
        },
    }
    if base_url is not None:
        document["link"] = f"{base_url}/review/groups/{quote(group.signature, safe='')}"
    return inert_json(orjson.dumps(document).decode()).encode()


def title_of(newest: Brief) -> str:
    """The group in a few words: what failed, where, and the class of its error, if it is one."""
    where = _name(newest.ml_app or newest.service_name)
    cause = newest.error_type if newest.error_type and _CLASS_NAME.fullmatch(newest.error_type) else None
    title = newest.failure_type.replace("_", " ") + (f" in {where}" if where else "")
    return f"{title}: {cause}" if cause else title


def _name(text: str | None) -> str | None:
    """A name as it may be sent: bounded, and without halves of characters, which a store may hold."""
    return text[:_MAX_NAME].encode("utf-8", "replace").decode() if text else None


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
