"""Which captures an export takes, in which shape: a format, the newest of each group, a split that no group straddles."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from evalforge.core.capture import SCHEMA_VERSION
from evalforge.core.ports import DOCUMENT_ID_BYTES, MAX_PACKED_CAPTURES, SELECTED_BY, Selection, Store, StoredCapture
from evalforge.errors import NothingToExportError, RequestError
from evalforge.exports.examples import Example, Split, example_of, split_of, usable
from evalforge.exports.formats.table import FORMATS
from evalforge.exports.jsonl import FORMAT

FORMAT_NAMES = (FORMAT, *FORMATS)
"""Every format: our own, then those of other tools."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is made of the selected captures: the format, how many of a group at most (None: all), and the test set's share.

    Raises:
        RequestError: there is no such format, or a number is out of bounds.
    """

    format: str = FORMAT
    per_group: int | None = None
    test_share: float | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMAT_NAMES:
            raise RequestError(f"format: there is none of that name; wants one of {', '.join(FORMAT_NAMES)}", field="format")
        if self.per_group is not None and self.per_group < 1:
            raise RequestError("per_group: wants a whole number from 1 on", field="per_group")
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise RequestError("test_share: wants a number between 0 and 1", field="test_share")

    @property
    def makes_examples(self) -> bool:
        """Whether the captures become examples, which need their texts; our own format takes every capture."""
        return self.format != FORMAT


@dataclass(slots=True)
class Tally:
    """What was met while captures were chosen: counts by what became of them, and what the manifest tells of those taken."""

    counts: Counter[str] = field(default_factory=Counter)
    first_started_at: datetime | None = None
    last_started_at: datetime | None = None
    signature_versions: set[str] = field(default_factory=set)
    sanitizer_versions: set[int] = field(default_factory=set)
    schema_versions: set[int] = field(default_factory=set)
    document_ids: bytearray = field(default_factory=bytearray)

    def take(self, stored: StoredCapture, example: Example) -> None:
        """Counts one capture that is taken."""
        started_at = datetime.fromisoformat(str(example.metadata["started_at"]))
        self.first_started_at = min(self.first_started_at or started_at, started_at)
        self.last_started_at = max(self.last_started_at or started_at, started_at)
        self.signature_versions.add(example.signature.partition("_")[0])
        self.sanitizer_versions.add(stored.capture.greatest.sanitizer_version)
        schema_version = stored.document.get("schema_version")
        self.schema_versions.add(schema_version if isinstance(schema_version, int) else SCHEMA_VERSION)
        self.counts["taken"] += 1
        if example.split is not None:
            self.counts[example.split] += 1
        if len(self.document_ids) < MAX_PACKED_CAPTURES * DOCUMENT_ID_BYTES:
            self.document_ids += bytes.fromhex(stored.capture.document_id)

    def told(self, shape: Shape) -> dict[str, int]:
        """The counts as records and manifests have them.

        `selected` captures were looked at; of these `taken` are in the package, the others had `closed` texts, no text at
        all (`absent`), or were beyond what is wanted of their group (`surplus`). Our own format takes closed ones too.
        """
        names = ["selected", "taken", "closed", "absent", "surplus"]
        return {name: self.counts[name] for name in (*names, *(("train", "test") if shape.test_share is not None else ()))}


async def chosen(
    store: Store,
    selection: Selection,
    shape: Shape,
    tally: Tally,
    *,
    now: datetime,
    expected_outputs: Mapping[str, str],
    only: Collection[str] | None = None,
) -> AsyncIterator[tuple[StoredCapture, Example]]:
    """The captures that a package takes, the latest failure first, each with the example that it makes.

    A capture without its text takes nobody's place: the limit, and how many of a group there are, count those taken. With
    `only`, just the captures with these document ids.

    Raises:
        StoreError, StoreUnavailableError
    """
    is_limited_there = not shape.makes_examples and shape.per_group is None and only is None
    wanted = selection if is_limited_there else replace(selection, limit=None)
    of_group: Counter[str] = Counter()
    left = None if only is None else set(only)
    if selection.limit == 0 or left == set():
        return
    async with aclosing(cast(Any, store.select(wanted, now=now))) as found:
        async for stored in found:
            if left is not None:
                if stored.capture.document_id not in left:
                    continue
                left.discard(stored.capture.document_id)
            capture = stored.capture
            split: Split | None = None if shape.test_share is None else split_of(capture.signature, shape.test_share)
            example = example_of(stored, expected_output=expected_outputs.get(capture.trace_id), split=split)
            if _takes(example, shape, tally, of_group):
                tally.take(stored, example)
                yield stored, example
            if tally.counts["taken"] == selection.limit or left == set():
                return


def _takes(example: Example, shape: Shape, tally: Tally, of_group: Counter[str]) -> bool:
    tally.counts["selected"] += 1
    if example.texts == "closed":
        tally.counts["closed"] += 1
    elif not usable(example):
        tally.counts["absent"] += 1
    if shape.makes_examples and not usable(example):
        return False
    if shape.per_group is not None and of_group[example.signature] >= shape.per_group:
        tally.counts["surplus"] += 1
        return False
    of_group[example.signature] += 1
    return True


WHY_CLOSED = (
    "PII_TEXT_ALLOWLIST names the texts that are kept, scrubbed (input,output keeps whole conversations). It takes PII_SALT "
    "too, and only texts of traces that name a user are kept: what belongs to nobody could not be erased. What was stored "
    "closed stays closed; a change takes effect on failures that are captured after it"
)


def closed_note(counts: Mapping[str, int], format: str) -> str | None:
    """What is to be said of captures whose texts privacy settings have closed; None where there are none."""
    closed = counts.get("closed", 0)
    if not closed:
        return None
    there = (
        "stand in it as placeholders" if format == FORMAT else "are left out, since a test without its input tests nothing"
    )
    return f"{closed} of {counts.get('selected', closed)} captures have closed texts and {there}. {WHY_CLOSED}."


def check_taken(tally: Tally, shape: Shape) -> None:
    """Refuses a package of examples that has none.

    Raises:
        NothingToExportError
    """
    counts = tally.counts
    if not shape.makes_examples or counts["taken"]:
        return
    if not counts["selected"]:
        raise NothingToExportError(
            "no capture matches, so there is nothing to make tests of; `evalforge captures list` shows what there is",
            code="nothing_selected",
        )
    if counts["closed"]:
        whose = "all" if counts["closed"] == counts["selected"] else f"{counts['closed']} of"
        rest = "" if whose == "all" else ", and the others never had a text"
        raise NothingToExportError(
            f"{whose} {counts['selected']} captures that match have closed texts{rest}: there would be only empty tests. "
            f"{WHY_CLOSED}. --format jsonl takes captures without their texts",
            code="texts_closed",
        )
    raise NothingToExportError(
        f"none of the {counts['selected']} captures that match has an input with text: there would be only empty tests",
        code="texts_absent",
    )


def selection_of_record(conditions: Mapping[str, Any]) -> Selection:
    """The selection that a package's record tells.

    Raises:
        RequestError: it is none that can be asked for again, as of one person's data.
    """
    try:
        values = dict(conditions)
        for name in ("started_from", "started_to"):
            if name in values:
                values[name] = datetime.fromisoformat(values[name])
        if "signatures" in values:
            values["signatures"] = tuple(values["signatures"])
        if values.keys() - {*SELECTED_BY, "started_from", "started_to", "signatures", "limit"}:
            raise ValueError
        return Selection(**values)
    except (TypeError, ValueError):
        raise RequestError("what this package selected cannot be selected again; export anew") from None
