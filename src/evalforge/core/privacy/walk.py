"""Goes through untrusted mappings and lists and builds new ones that hold only what the tables of fields let pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Any, ClassVar, NamedTuple, TypeVar

from evalforge.core.privacy.echoes import NO_ECHOES
from evalforge.core.privacy.fields import BRANCHES, EXPLANATIONS, FIELDS, KINDS_BY_LAST_WORD, WHOLE_FIELD_KEYS
from evalforge.core.privacy.keys import (
    MAX_KEY_LENGTH,
    KeyClass,
    KeyVerdict,
    is_closed_whole,
    is_column,
    is_metric_name,
    is_sensitive_column,
    is_storable_key,
    verdict_below,
    verdict_on,
)
from evalforge.core.privacy.marks import is_mark, placeholder
from evalforge.core.privacy.measures import SCORE_LIMIT, SMALL_NUMBER, boolean, number, score, small_number, time
from evalforge.core.privacy.modes import TextMode, TextPolicy, path_of
from evalforge.core.privacy.pairs import (
    NAMING_KEYS,
    VALUE_KEYS,
    after_names,
    beside_names,
    is_personal_table,
    named_verdict,
    pair_name,
)
from evalforge.core.privacy.rules import Kind, kept
from evalforge.core.privacy.software import technical
from evalforge.core.privacy.texts import KeptTexts
from evalforge.core.privacy.trees import KEY_MARK, keep_scrubbed, open_value
from evalforge.core.privacy.values import label, version, words
from evalforge.core.span import Json

MAX_DEPTH = 8
MAX_KEYS = 2_000
MAX_ITEMS = 200
MAX_NODES = 20_000
MOST_TOKENS = 100_000_000

_DROPPED = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}
_OPEN = frozenset({KeyClass.TEXT, KeyClass.HARMLESS})
_SCORED = frozenset({KeyClass.USER_ATTRIBUTE, KeyClass.SESSION, KeyClass.NETWORK})
_MAX_SCORE = 10
_MAX_FRACTION = 100
_NAMING_TEXT = NAMING_KEYS - {"type", "kind", "tag", "entity", "entity_type", "title"}
_NAMING_FIELDS = _NAMING_TEXT - {"name", "Name", "id", "label", "k", "key", "Key", "question", "answer"}
"""What names a field and nothing else: a `name` or a `key` may be a tool's, `lookup_customer`."""
_NOTHING = object()
_T = TypeVar("_T")


@dataclass(slots=True)
class Tally:
    """What was removed so far, by kind, how many nodes were looked at, and the texts that are kept.

    Kinds: the dropping classes of `KeyClass` (`user_id`, `user_attribute`, `session`, `credential`, `contact`, `network`,
    `identifier`, `pii`); closed `text`, `tool_arguments`, `tool_result`, `document`; `unknown_value`, `unknown_key` (a field
    that was not copied), `key` (a key that was replaced), `tag`, `echo`, `nonfinite`, `limit`, `error`; `second_net`; the
    scrubber's kinds.
    `opened` are the places whose text stays as it is (container, key and value), `open_paths` their canonical paths.
    """

    is_watched: ClassVar[bool] = False
    """Whether somebody wants to know of each decision (`explaining`); never in production."""
    counts: Counter[str] = field(default_factory=Counter)
    node_count: int = 0
    policy: TextPolicy = field(default_factory=TextPolicy)
    texts: KeptTexts = field(default_factory=lambda: KeptTexts(NO_ECHOES))
    opened: list[tuple[Any, Any, Any]] = field(default_factory=list)
    open_paths: set[str] = field(default_factory=set)

    def entered(self, entries: Iterable[_T], document: Any) -> Iterable[_T]:
        """`entries` as they are. Whoever watches learns here which entry is looked at, and that it goes into `document`."""
        return entries

    def judged(self, entry: _Entry, place: Place) -> None:
        """Told what the key of the entry that is looked at means, if `is_watched`."""

    def redacted(self, value: Json, kind: str) -> str:
        """Counts one removal under `kind` and gives the placeholder."""
        self.counts[kind] += 1
        return placeholder(value)

    @property
    def explains(self) -> bool:
        """Whether explanations are kept, scrubbed."""
        return self.policy.explanations is TextMode.SCRUBBED

    def explained(self, container: Any, key: Any, value: Json, kind: str = "text") -> None:
        """Puts an explanation into `container[key]`: scrubbed, or its placeholder where explanations are closed."""
        if self.explains and value is not None:
            keep_scrubbed(container, key, value, self.texts)
        else:
            container[key] = None if value is None else self.redacted(value, kind)

    def allowed(self, container: Any, key: Any, value: Json, mode: TextMode, path: str) -> None:
        """Puts what is kept of an allow-listed value into `container[key]`; `mode` is not closed, `path` is canonical."""
        if mode is TextMode.OPEN:
            opened = open_value(value)
            container[key] = placeholder(value)
            if not (isinstance(opened, str) and is_mark(opened)):
                self.open_paths.add(path)
                self.opened.append((container, key, opened))
        else:
            keep_scrubbed(container, key, value, self.texts)


class Place(NamedTuple):
    """Where the walk stands: the normal form of the keys above, how deep, and which rules hold here.

    `parent` is the key right above, as it came: `{"api": {"key": 1}}` holds an API key. `closed`: only known fields stay.
    `numeric`: every number stays that is no personal one (metrics). `verdicts`: leaves are parts of an evaluation's value,
    so labels stay. `wordless`: below a key of a text, where no text stays, but booleans, numbers and times do. `field` is
    the canonical path for the allow-list, "" where no field can be allowed.
    """

    path: str = ""
    parent: str = ""
    depth: int = 0
    closed: bool = False
    numeric: bool = False
    verdicts: bool = False
    field: str = ""
    wordless: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """What a key means at a place: everything that can be said without its value."""

    verdict: KeyVerdict
    kinds: tuple[Kind, ...] | None
    stored: str | None
    normal: str
    path: str
    parent: str
    closed: bool
    explains: bool
    passed: set[str] = field(default_factory=set)
    """Texts that were kept under this key as they are: telemetry repeats itself. None of them was refused or changed."""

    def remember(self, text: str) -> None:
        """Notes that a text is kept as it is, wherever labels of verdicts mean nothing more than words."""
        if len(self.passed) >= _MAX_PASSED:
            self.passed.clear()
        self.passed.add(text)


_MAX_PASSED = 128


@lru_cache(maxsize=16384)
def _entry(key: str, parent: str, above: str, closed: bool, among_data: bool = False) -> _Entry:
    verdict = verdict_on(key)
    normal = verdict.normal
    path = f"{above}_{normal}" if above else normal
    kinds = FIELDS.get(path) or (None if closed else FIELDS.get(normal))
    if parent:
        verdict = verdict_below(parent, key)
    if kinds is None and not closed and verdict.key_class is KeyClass.HARMLESS:
        kinds = KINDS_BY_LAST_WORD.get(normal.rpartition("_")[2])
    explains = normal in EXPLANATIONS or verdict.normal in EXPLANATIONS or path in EXPLANATIONS
    if kinds is not None or normal in EXPLANATIONS or (path in BRANCHES and is_column(key)):
        stored: str | None = key if is_column(key) else normal
    else:
        stored = key if is_storable_key(key) and not (among_data and not is_sensitive_column(key)) else None
        if stored is None and verdict.key_class is KeyClass.HARMLESS and key != KEY_MARK:
            # A key that is not stored means no more than its mark: so sanitizing twice is sanitizing once.
            return replace(_entry(KEY_MARK, parent, above, closed), stored=None, passed=set())
    below_closed = closed or (verdict.key_class is not KeyClass.HARMLESS and path in BRANCHES)
    return _Entry(
        verdict,
        kinds,
        stored,
        normal,
        path if path in BRANCHES else "",
        key if len(key) <= MAX_KEY_LENGTH // 2 else "",
        below_closed,
        explains,
    )


def kept_mapping(values: Mapping[str, Json], place: Place, tally: Tally) -> dict[str, Any] | str:
    """A new mapping of what may stay, or the placeholder of the whole where it is too deep or too large."""
    if place.depth > MAX_DEPTH or len(values) > MAX_KEYS:
        return tally.redacted(values, "limit")
    if len(values) > 1 and (_is_sensitive_pair(values) or is_personal_table(values)):
        return tally.redacted(values, "unknown_value")
    document: dict[str, Any] = {}
    beside = beside_names(values) if len(values) > 1 else ()
    among_data = len(values) > 1 and not place.numeric and _are_data(values)
    for key, value in tally.entered(values.items(), document):
        tally.node_count += 1
        if tally.node_count > MAX_NODES:
            tally.counts["limit"] += 1
            break
        try:
            _keep_entry(document, key, placeholder(value) if key in beside else value, place, tally, among_data)
        except Exception:  # noqa: BLE001 - whatever goes wrong with one entry may cost that entry only, and must not leak it
            tally.counts["error"] += 1
    return document


def _are_data(keys: Iterable[Json]) -> bool:
    """Whether at least half of a mapping's keys say something themselves: then the others may, unless words tell otherwise.

    `{"ann@example.com": 1, "Bob Stone": 2, "niloufar": 3}` is a list of people.
    """
    marked = total = 0
    for key in keys:
        total += 1
        marked += type(key) is not str or not _is_storable(key)
    return marked > 0 and marked * 2 >= total


@lru_cache(maxsize=16384)
def _is_storable(key: str) -> bool:
    if len(key) > MAX_KEY_LENGTH:
        return False
    return is_storable_key(key) or (is_column(key) and verdict_on(key).normal in FIELDS) or is_sensitive_column(key)


def _keep_entry(
    document: dict[str, Any], key: Json, value: Json, place: Place, tally: Tally, among_data: bool = False
) -> None:
    if type(key) is not str or len(key) > MAX_KEY_LENGTH:
        document[_free_key(document, None, tally)] = tally.redacted(value, "unknown_value")
        return
    entry = _entry(key, place.parent, place.path, place.closed, among_data)
    if tally.is_watched:
        tally.judged(entry, place)
    is_hidden = entry.stored is None and not (place.numeric and is_metric_name(key))
    allowed = ""
    if place.field and tally.policy.names_fields and not is_hidden:
        allowed = f"{place.field}_{entry.normal}" if "." in place.field else path_of(place.field, entry.normal)
        mode = _mode_of(allowed, tally.policy)
        if mode is not TextMode.CLOSED and (entry.verdict.is_text or entry.verdict.key_class not in _DROPPED):
            tally.allowed(document, _free_key(document, entry.stored, tally), value, mode, allowed)
            return
    if is_hidden and entry.verdict.key_class is not KeyClass.HARMLESS:
        # Nobody could judge by its mark what stands below it: so sanitizing twice is sanitizing once.
        if (closed := _removed(value, entry.verdict, tally)) is not _NOTHING:
            document[_free_key(document, None, tally)] = closed
        return
    kind = type(value)
    if kind is str and value in entry.passed and entry.stored is not None and entry.stored not in document:
        document[entry.stored] = value
        return
    if kind is dict or (kind is not str and isinstance(value, Mapping)):
        if entry.explains and not entry.path:
            tally.explained(document, _free_key(document, entry.stored, tally), value)
            return
        stored = _kept_branch(value, entry, _below(entry, place, allowed), tally)
    elif kind is list or kind is tuple:
        if entry.explains and tally.explains:
            tally.explained(document, _free_key(document, entry.stored, tally), value)
            return
        stored = _kept_items(value, entry.verdict, entry.kinds, _below(entry, place, allowed), tally)
    elif entry.explains and kind is str and (entry.kinds is None or kept(value, entry.kinds) is None):
        tally.explained(document, _free_key(document, entry.stored, tally), value)
        return
    else:
        stored = _kept_scalar(value, entry.verdict, entry.kinds, place, tally)
        if kind is str and stored == value and not place.verdicts and len(value) <= MAX_KEY_LENGTH and not is_mark(value):
            entry.remember(value)
    if stored is _NOTHING:
        return
    stored_key = entry.stored
    if stored_key is None and place.numeric and is_metric_name(key):
        stored_key = key
    if stored_key is None or stored_key in document:
        stored_key = _free_key(document, None, tally)
    document[stored_key] = stored


def _mode_of(path: str, policy: TextPolicy) -> TextMode:
    mode = policy.mode_of(path)
    if mode is TextMode.CLOSED:
        whole = WHOLE_FIELD_KEYS.get(path.partition(".")[2])
        if whole is not None:
            mode = policy.mode_of(whole)
    return mode


def _below(entry: _Entry, place: Place, allowed: str) -> Place:
    return Place(
        entry.path, entry.parent, place.depth + 1, entry.closed, place.numeric, place.verdicts, allowed, place.wordless
    )


def _free_key(document: dict[str, Any], key: str | None, tally: Tally) -> str:
    """The key to store under: as given, or a mark with a number where it may not be stored or stands already."""
    if key is None or key in document:
        tally.counts["key"] += 1
        key = next(mark for n in count(len(document) + 1) if (mark := f"[key {n}]") not in document)
    return key


def _kept_branch(values: Mapping[str, Json], entry: _Entry, below: Place, tally: Tally) -> Any:
    verdict = entry.verdict
    is_text = verdict.key_class is KeyClass.TEXT
    is_passing = bool(below.path) or verdict.key_class is KeyClass.HARMLESS or _passes_in(below, verdict)
    if not is_passing and (not is_text or is_closed_whole(verdict)):
        return _removed(values, verdict, tally)
    if not is_text:
        return kept_mapping(values, below, tally)
    below = below._replace(closed=below.closed or not is_passing, wordless=not is_closed_whole(verdict))
    return kept_mapping(values, below, tally)


def _kept_items(
    values: list[Json] | tuple[Json, ...], verdict: KeyVerdict, kinds: tuple[Kind, ...] | None, place: Place, tally: Tally
) -> Any:
    if verdict.key_class in _DROPPED and not place.numeric:
        return _removed(values, verdict, tally)
    if verdict.key_class is KeyClass.TEXT and not place.path and kinds is None:
        # Marks count as what they stand for: so sanitizing twice is sanitizing once.
        is_open = all(isinstance(one, Mapping) or (isinstance(one, str) and is_mark(one)) for one in values[: MAX_ITEMS + 1])
        if is_closed_whole(verdict) or not is_open:
            return _removed(values, verdict, tally)
        place = place._replace(closed=True, wordless=True)
    if place.depth > MAX_DEPTH:
        return tally.redacted(values, "limit")
    if len(values) == 2 and _is_pair_or_point(values):
        return tally.redacted(values, "unknown_value")
    items: list[Any] = []
    inner = place._replace(depth=place.depth + 1)
    named = after_names(values)
    for at, value in tally.entered(enumerate(values[:MAX_ITEMS]), items):
        tally.node_count += 1
        if tally.node_count > MAX_NODES:
            break
        if at in named:
            items.append(tally.redacted(value, "unknown_value"))
        elif isinstance(value, Mapping):
            items.append(kept_mapping(value, inner, tally))
        elif isinstance(value, (list, tuple)):
            items.append(_kept_items(value, verdict, kinds, inner, tally))
        else:
            stored = _kept_scalar(value, verdict, kinds, place, tally)
            items.append(placeholder(value) if stored is _NOTHING else stored)  # as long as it was: it may be a column
    if len(values) > MAX_ITEMS or tally.node_count > MAX_NODES:
        items.append(tally.redacted(values, "limit"))
    return items


def _kept_scalar(value: Json, verdict: KeyVerdict, kinds: tuple[Kind, ...] | None, place: Place, tally: Tally) -> Any:
    if value is None:
        return None
    if type(value) is float and not math.isfinite(value):
        tally.counts["nonfinite"] += 1
        return _NOTHING
    if kinds is not None:
        found = kept(value, kinds)
        if found is not None:
            return found
    if place.numeric or place.verdicts:
        if type(value) is str and is_mark(value):
            return tally.redacted(value, "unknown_value")  # of a pair or a table that stood there
        found = measured(number(value) if place.numeric else score(value), verdict)
        if found is not None:
            return found
    if verdict.key_class is not KeyClass.HARMLESS:
        return _kept_sensitive(value, verdict, tally)
    if verdict.is_numbered and boolean(value) is None:
        return tally.redacted(value, "unknown_value")
    if verdict.is_measure and number(value) is not None:
        return value if capped(value, verdict) is not None else tally.redacted(value, "unknown_value")
    if place.wordless and (not isinstance(value, str) or time(value) is not None):
        return kept_unknown(value, tally)
    if place.closed:
        return tally.redacted(value, "text")
    if verdict.is_kind and (found := version(value)) is not None:
        return found
    return kept_unknown(value, tally, is_measure=verdict.is_measure, takes_labels=place.verdicts)


def measured(found: Any, verdict: KeyVerdict) -> Any:
    """The number where it measures something, as the metrics of a span and the values of an evaluation do, else None.

    Under the name of a user, a session or the network only counts, small scores and fractions do: other numbers there are
    ages, ids and addresses.
    """
    if found is None or isinstance(found, str):
        return found if verdict.key_class in _OPEN and not verdict.is_numbered else None
    size = abs(found)
    if verdict.key_class in _OPEN:
        return capped(found, verdict) if not verdict.is_numbered or size <= _MAX_SCORE else None
    if verdict.is_measure:
        return capped(found, verdict)
    if verdict.is_count:
        return found if size < SMALL_NUMBER else None
    if verdict.key_class not in _SCORED or verdict.names_one:
        return None
    return found if size <= _MAX_SCORE or (size <= _MAX_FRACTION and found != int(found)) else None


_MOST = {"tokens": MOST_TOKENS, "score": SCORE_LIMIT, "scores": SCORE_LIMIT}


def capped(found: Any, verdict: KeyVerdict) -> Any:
    """A number under the key of a measure; no count of tokens and no score is as long as a telephone number."""
    most = _MOST.get(verdict.normal.rpartition("_")[2])
    return found if most is None or abs(found) <= most else None


def _passes_in(place: Place, verdict: KeyVerdict) -> bool:
    """Whether metrics and verdicts may stand in a mapping under such a key: each of them is judged by its own."""
    return (place.numeric or place.verdicts) and (verdict.key_class in _OPEN or verdict.key_class in _SCORED)


def _kept_sensitive(value: Json, verdict: KeyVerdict, tally: Tally) -> Any:
    if isinstance(value, bool) and verdict.key_class not in (KeyClass.USER_ID, KeyClass.PII):
        return value
    if (verdict.is_measure or verdict.is_kind) and type(value) is str and is_mark(value):
        return value  # a measure or a kind that was kept, and closed afterwards: so sanitizing twice is sanitizing once
    if verdict.is_measure and number(value) is not None and capped(value, verdict) is not None:
        return value
    if verdict.is_kind:
        found = small_number(value) if verdict.key_class is not KeyClass.TEXT else None
        if found is None:
            found = words(value) or version(value)
        if found is not None:
            return found
    return _removed(value, verdict, tally)


def _removed(value: Json, verdict: KeyVerdict, tally: Tally) -> Any:
    stands = tally.redacted(value, verdict.key_class.value)
    return stands if verdict.key_class is KeyClass.TEXT else _NOTHING


def kept_unknown(value: Json, tally: Tally, *, is_measure: bool = False, takes_labels: bool = False) -> Any:
    """What stays of a scalar under an unknown key: a boolean, a small number, an ISO time, words; else its placeholder."""
    kind = type(value)
    if kind is bool:
        return value
    if (kind is int or kind is float) and -SMALL_NUMBER < value < SMALL_NUMBER:
        return value
    found: Json = boolean(value)
    if found is None:
        found = number(value) if is_measure else None
    if found is None:
        found = small_number(value)
    if found is None and kind is str:
        found = time(value) or (label(value) if takes_labels else words(value)) or technical(value)
    return found if found is not None else tally.redacted(value, "unknown_value")


def _is_sensitive_pair(values: Mapping[str, Json]) -> bool:
    """Whether this is `{"name": "email", "value": ...}`, a personal field or a text written as a pair.

    What stands beside the name of a sensitive key is its value whatever it is called, unless it is a known field, a measure,
    a kind or a boolean.
    """
    if VALUE_KEYS.isdisjoint(values):
        return len(values) <= _MAX_ODD_PAIR and any(
            type(named) is str
            and key in _NAMING_FIELDS
            and is_column(named)
            and named_verdict(named)
            and _has_value(values, key)
            for key, named in values.items()
        )
    if pair_name(values) is not None:
        return True
    return len(values) <= 6 and any(
        type(named) is str and key in _NAMING_TEXT and _is_sensitive_name(named) for key, named in values.items()
    )


_MAX_ODD_PAIR = 6


def _has_value(values: Mapping[str, Json], naming: str) -> bool:
    for key, value in values.items():
        if key == naming or value is None or isinstance(value, bool) or (type(value) is str and is_mark(value)):
            continue
        verdict = verdict_on(key) if type(key) is str and len(key) <= MAX_KEY_LENGTH else None
        if verdict is None or not (verdict.normal in FIELDS or verdict.is_measure or verdict.is_kind):
            return True
    return False


def _is_pair_or_point(values: list[Json] | tuple[Json, ...]) -> bool:
    """Whether two items are `["email", ...]`, or a latitude and a longitude."""
    first, second = values
    if isinstance(first, str):
        return _is_sensitive_name(first)
    return is_point(first, second)


def is_point(first: Json, second: Json) -> bool:
    """Whether two numbers look like a place on earth: fractions of at least 3 digits, and no two shares of one."""
    return (
        type(first) is float
        and type(second) is float
        and -180 <= first <= 180
        and -180 <= second <= 180
        and (abs(first) > 1 or abs(second) > 1)
        and round(first, 2) != first
        and round(second, 2) != second
    )


def _is_sensitive_name(text: str) -> bool:
    return len(text) <= MAX_KEY_LENGTH and "[" not in text and verdict_on(text).key_class is not KeyClass.HARMLESS
