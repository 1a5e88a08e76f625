"""Review: what people decide about a group, the captures that share one signature. Ingestion never touches it.

A `Review` holds only what reviewers said, with everything that was changed, by whom and when. What a group looks like (how
many traces, since when, whether it has regressed) is computed from its captures whenever somebody looks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Literal

from evalforge.errors import RequestError


class ReviewState(StrEnum):
    """How far people have come with a group. Any state may follow any other."""

    NEW = "new"
    TRIAGED = "triaged"
    EXPORTED = "exported"
    RESOLVED = "resolved"
    IGNORED = "ignored"


STATE_MEANINGS = {
    ReviewState.NEW: "nobody has decided anything",
    ReviewState.TRIAGED: "somebody has looked, and it is worth work",
    ReviewState.EXPORTED: "its captures went into an eval",
    ReviewState.RESOLVED: "mended: a capture that starts later is a regression",
    ReviewState.IGNORED: "not worth work",
}

MAX_NOTE = 2_000
MAX_EXPECTED = 20_000
"""How many characters a note, and an expected output, may have."""
MAX_EXPECTED_OUTPUTS = 100
MAX_WEIGHT = 600_000
"""How many characters a review may hold in all, its history with it: a document has room for 1 MiB."""

_ROOM_FOR_STATES = 150_000
"""How much more there is for changes of state and assignee, once no text fits any more."""

ASSIGNEE_WANTS = "1 to 64 lower-case letters, digits, dots, dashes and underscores, such as a user name"
_ASSIGNEE = re.compile(r"[a-z0-9][a-z0-9._\-]{0,63}")
SIGNATURE_WANTS = "a signature such as s1_ and 32 hexadecimal digits, as lists of groups show it"
_SIGNATURE = re.compile(r"s[0-9]{1,3}_[0-9a-f]{32}")

What = Literal["state", "assignee", "note", "expected_output"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a review: when, by whom, of what, from what to what. `trace_id` says whose expected output it was."""

    at: datetime
    by: str
    what: What
    before: str | None
    after: str | None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """What reviewers decided about the group of a signature; as it is here before anybody did.

    `resolved_at` is when it last became resolved. `expected_outputs` are the right answers by trace id (at most 100), as
    reviewers wrote them. `history` is append-only, the oldest first. `version` is the store's, "" for one that is not
    stored: it guards what is saved against what somebody else saved meanwhile.
    """

    signature: str
    state: ReviewState = ReviewState.NEW
    assignee: str | None = None
    note: str | None = None
    resolved_at: datetime | None = None
    expected_outputs: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Change, ...] = ()
    version: str = ""

    def has_regressed(self, last_started_at: datetime | None) -> bool:
        """Whether a capture of the group, the last of which started then, started after it was resolved."""
        return (
            self.state is ReviewState.RESOLVED
            and self.resolved_at is not None
            and last_started_at is not None
            and last_started_at > self.resolved_at
        )


class Unset(Enum):
    """Stands for a field that is left as it is, where None means that it is taken away."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Patch:
    """What somebody wants changed in a review; a field that is `UNSET` stays, and None takes away.

    `note` takes the place of the note; the history keeps the one before. `expected_output` is that of the trace `trace_id`.
    """

    state: ReviewState | Unset = UNSET
    assignee: str | Unset | None = UNSET
    note: str | Unset | None = UNSET
    expected_output: str | Unset | None = UNSET
    trace_id: str | None = None


def changed(review: Review, patch: Patch, *, by: str, at: datetime) -> Review:
    """The review with what the patch changes, each change in its history; the same review where nothing changes.

    Raises:
        RequestError: names a field that is out of bounds, or what is full.
    """
    expected = dict(review.expected_outputs)
    changes = []
    if patch.state is not UNSET and patch.state is not review.state:
        changes.append(Change(at, by, "state", review.state.value, patch.state.value))
    if patch.assignee is not UNSET and patch.assignee != review.assignee:
        if patch.assignee is not None and not _ASSIGNEE.fullmatch(patch.assignee):
            raise RequestError(f"assignee: wants {ASSIGNEE_WANTS}", field="assignee")
        changes.append(Change(at, by, "assignee", review.assignee, patch.assignee))
    note = review.note if patch.note is UNSET else _text("note", patch.note, MAX_NOTE)
    if note != review.note:
        changes.append(Change(at, by, "note", review.note, note))
    if patch.expected_output is not UNSET:
        changes += _expect(expected, patch.expected_output, patch.trace_id, by, at)
    if not changes:
        return review
    state = review.state if patch.state is UNSET else patch.state
    is_resolved_now = state is ReviewState.RESOLVED and review.state is not ReviewState.RESOLVED
    made = replace(
        review,
        state=state,
        assignee=review.assignee if patch.assignee is UNSET else patch.assignee,
        note=note,
        resolved_at=at if is_resolved_now else review.resolved_at,
        expected_outputs=expected,
        history=(*review.history, *changes),
    )
    is_text = any(change.what in ("note", "expected_output") for change in changes)
    if weight(made) > (MAX_WEIGHT if is_text else MAX_WEIGHT + _ROOM_FOR_STATES):
        raise RequestError(
            f"the review is full: with its history it holds {MAX_WEIGHT:,} characters, and history is never cut",
            field=changes[0].what,
        )
    return made


def _expect(expected: dict[str, str], text: str | None, trace_id: str | None, by: str, at: datetime) -> list[Change]:
    """Sets, or takes away, the expected output of a trace in `expected`, and gives the change that this is."""
    if not trace_id or len(trace_id) > 200:
        raise RequestError("expected_output goes with trace_id: the trace whose right answer it is", field="trace_id")
    after = _text("expected_output", text, MAX_EXPECTED)
    before = expected.pop(trace_id, None)
    if after is not None:
        if len(expected) >= MAX_EXPECTED_OUTPUTS:
            raise RequestError(
                f"a group holds expected outputs of {MAX_EXPECTED_OUTPUTS} traces; take one away first",
                field="expected_output",
            )
        expected[trace_id] = after
    return [Change(at, by, "expected_output", before, after, trace_id)] if before != after else []


def _text(name: str, text: str | None, limit: int) -> str | None:
    """What a reviewer wrote, without white space around it; None for nothing."""
    stripped = text.strip() if text is not None else ""
    if len(stripped) > limit:
        raise RequestError(f"{name}: got {len(stripped):,} characters; wants at most {limit:,}", field=name)
    if any(0xD800 <= ord(character) < 0xE000 for character in stripped):
        raise RequestError(f"{name}: wants text in Unicode, without lone surrogates", field=name)
    return stripped or None


def weight(review: Review) -> int:
    """How many characters a review holds, about."""
    texts = [*review.expected_outputs.values(), review.note or ""]
    texts += [text or "" for change in review.history for text in (change.before, change.after)]
    return sum(map(len, texts)) + 200 * (len(review.history) + len(review.expected_outputs) + 1)


def without_traces(review: Review, trace_ids: Collection[str]) -> Review:
    """The review without the expected outputs of these traces, in its history too; the same review where it has none."""
    about = {change.trace_id for change in review.history} | set(review.expected_outputs)
    if about.isdisjoint(trace_ids):
        return review
    return replace(
        review,
        expected_outputs={one: text for one, text in review.expected_outputs.items() if one not in trace_ids},
        history=tuple(
            replace(change, before=None, after=None, trace_id=None) if change.trace_id in trace_ids else change
            for change in review.history
        ),
    )


def checked_signature(text: str) -> str:
    """`text`, if it may be a signature.

    Raises:
        RequestError: it cannot be one.
    """
    if not _SIGNATURE.fullmatch(text):
        raise RequestError(f"signature: wants {SIGNATURE_WANTS}", field="signature")
    return text
