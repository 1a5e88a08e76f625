"""The second net: reads a finished document once more and closes every text in which something personal still stands.

It does not know how the document was made and trusts no path, but for a few fields of a fixed shape (`_SHAPES`): ids,
digests, our own links. It looks for what has a shape of its own: addresses, numbers, keys, in every encoding. Names in
prose have none; they are the scrubber's work alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, count
from typing import Any

import orjson

from evalforge.core import links
from evalforge.core.privacy import marks, measures, rules, software
from evalforge.core.privacy.fields import FIELDS
from evalforge.core.privacy.gate import gate
from evalforge.core.privacy.keys import MAX_KEY_LENGTH, is_storable_key, normal_key
from evalforge.core.privacy.rules import Kind
from evalforge.core.privacy.text.checksums import luhn
from evalforge.core.privacy.text.decoding import decoded_views
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.text.frames import frames_of
from evalforge.core.privacy.text.identifiers import find_identifiers
from evalforge.core.sites import SITES

OPEN_TEXT = "open_text"
"""The field of a payload that names the texts which the settings keep as they are; the net leaves those alone."""

SECOND_NET = "second_net"
"""The kind under which a capture's `redactions` counts what the net closed."""

UNREADABLE = "unreadable"
"""The kind of a text that breaks the detectors."""

_K = TextKind
_LIKE_OUR_OWN = frozenset({_K.NUMBER, _K.CODE, _K.WORD, _K.PERSON, _K.ADDRESS, _K.ENCODED})
"""Kinds without a shape of their own: ids and digests that a payload keeps look the same. In prose they are no ids."""

_ONLY_IN_PROSE = frozenset({_K.USER, _K.SESSION, _K.PLATE, _K.DATE})
_NUMBERS = frozenset({_K.PHONE, _K.ID, _K.CARD, _K.IBAN})
_HOME = re.compile(r"(?i)[/\\](?:home|users|documents and settings)[/\\]|^~[a-z]|^/root/")
_MAX_DEPTH = 100
_MAX_SHOWN_KEYS = 12

_HOSTS = "|".join(re.escape(links.ui_host(site)) for site in sorted(SITES))
_OWN_LINK = re.compile(
    rf"https://(?:{_HOSTS})/(?:apm/trace/[0-9a-f]{{1,39}}(?:\?spanID=[0-9]{{1,20}})?"
    r"|llm/traces\?query=(?:trace_id:[0-9a-f]{1,39}|@span_id%3A[0-9]{1,20}))"
)
"""What `core.links` makes: a host of Datadog's and ids, nothing else, wherever it stands."""

_TRACE_ID = re.compile(r"[0-9]{1,39}|[0-9a-f]{1,32}|t_[0-9a-f]{32}|undefined")
_SPAN_ID = re.compile(r"[0-9]{1,20}|[0-9a-f]{1,16}|s_[0-9a-f]{32}|undefined")
_SHAPES: Mapping[str, re.Pattern[str]] = {
    "trace_id": _TRACE_ID,
    "apm_trace_id": _TRACE_ID,
    "span_id": _SPAN_ID,
    "parent_id": _SPAN_ID,
    "user_hash": re.compile(r"u[0-9a-f]{4}_[0-9a-f]{32}"),
    "user_hashes": re.compile(r"u[0-9a-f]{4}_[0-9a-f]{32}"),
    "signature": re.compile(r"s[0-9]{1,3}_[0-9a-f]{32}"),
    "fingerprint": re.compile(r"[0-9a-f]{32}"),
    "digest": re.compile(r"[0-9a-f]{32}"),
    "start_ns": re.compile(r"1[0-9]{12,18}"),
}
"""Fields of our own making by name: what matches as a whole is no finding there. Only outside of what senders nest."""

_PACKED = frozenset({"span_ids", "trace_keys", "origins", "document_ids"})
"""Fields of packed ids and digests: bytes that mean nothing as text."""

_OWN_LISTS = ("occurrences", "signals", "error_details")
_OWN_PLACES = frozenset({(), ("trace_payload",), *((name,) for name in _OWN_LISTS)})
_CODE_KINDS = frozenset({Kind.CODE, Kind.MACHINE_ID, Kind.TRACE_CODE, Kind.VERSION, Kind.TIME, Kind.AMOUNT, Kind.MODEL})


@dataclass(frozen=True, slots=True)
class Leak:
    """Something personal at a place of a document: never what it is. `path` is its keys joined by dots."""

    path: str
    kind: str


def second_net(document: Mapping[str, Any], *, open_paths: Collection[str] = ()) -> tuple[Mapping[str, Any], Counter[str]]:
    """The document with each text, number and key replaced in which something personal stands, and how many by kind.

    A clean document comes back as it is, the same object, after one scan in linear time. `open_paths` are canonical paths
    of a payload (`modes.canonical_path`) that are kept as they are, beside those that the payload's `open_text` names.
    Scanning the result again finds nothing.
    """
    suspects = _suspects(document)
    if not suspects:
        return document, Counter()
    net = _Net(suspects, frozenset(open_paths))
    cleaned = net.cleaned(document, ())
    return (cleaned, Counter(leak.kind for leak in net.leaks)) if net.leaks else (document, Counter())


def leaks_in(document: Mapping[str, Any], *, open_paths: Collection[str] = ()) -> list[Leak]:
    """Every place of a document that `second_net` would close, in the order of the document."""
    suspects = _suspects(document)
    if not suspects:
        return []
    net = _Net(suspects, frozenset(open_paths))
    net.cleaned(document, ())
    return net.leaks


# -- one scan over all texts ----------------------------------------------------------------------------------------------


def _suspects(document: Mapping[str, Any]) -> dict[Any, str]:
    """The texts and whole numbers in which a detector found something, with its kind, wherever they stand."""
    texts: list[str] = []
    numbers: list[int] = []
    nodes: list[Any] = []
    for own in _own_mappings(document):
        texts.extend(own)
        nodes.extend(_without_its_shape(own))
    for node in nodes:  # it grows while it is read
        kind = type(node)
        if kind is str:
            texts.append(node)
        elif kind is dict:
            texts.extend(node)
            nodes.extend(node.values())
        elif kind is list or kind is tuple:
            nodes.extend(node)
        elif kind is int:
            if node > 10**12:
                numbers.append(node)
        elif isinstance(node, Mapping):
            nodes.append(dict(node))
        elif kind is bytes:
            texts.append(node.decode("latin-1"))
    found: dict[Any, str] = {}
    unknown = [text for text in texts if text not in _harmless]
    for text in _worth_a_look(unknown):
        if _OWN_LINK.fullmatch(text):
            continue
        try:
            kind_name = kind_in(text)
        except Exception:  # noqa: BLE001 - what cannot be looked at is closed, and must not be told
            kind_name = UNREADABLE
        if kind_name is not None:
            found[text] = kind_name
    _remember_harmless(text for text in unknown if len(text) <= _MAX_REMEMBERED_LENGTH and text not in found)
    for number in numbers:
        if _is_card(number):
            found[number] = _K.CARD.value
    return found


def _own_mappings(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The mappings at `_OWN_PLACES`: the document, its payload, its occurrences, signals and error details."""
    yield document
    payload = document.get("trace_payload")
    if isinstance(payload, Mapping):
        yield payload
    for name in _OWN_LISTS:
        items = document.get(name)
        if isinstance(items, (list, tuple)):
            yield from (item for item in items if isinstance(item, Mapping))


def _without_its_shape(own: Mapping[str, Any]) -> Iterator[Any]:
    """The values of such a mapping that do not have the one shape of their field: ids and digests need no look."""
    for key, value in own.items():
        shape = _SHAPES.get(key)
        if shape is not None and (type(value) is str or type(value) is int) and shape.fullmatch(str(value)):
            continue
        if type(value) is bytes and key in _PACKED:
            continue
        if key == "trace_payload" and isinstance(value, Mapping):
            continue  # it is one of our own, too
        if key in _OWN_LISTS and isinstance(value, (list, tuple)):
            yield [item for item in value if not isinstance(item, Mapping)]
            continue
        yield value


_harmless: set[str] = set()
"""Short texts that were looked at and hold nothing: keys, words, models, versions. Telemetry repeats itself."""
_MAX_REMEMBERED, _MAX_REMEMBERED_LENGTH = 20_000, 60


def _remember_harmless(texts: Iterable[str]) -> None:
    if len(_harmless) >= _MAX_REMEMBERED:
        _harmless.clear()
    _harmless.update(texts)


def _worth_a_look(texts: list[str]) -> set[str]:
    joined = "\f".join(texts)  # white space that no row reads across, as a line break inside a text is
    # One byte a character, so that places in the bytes are places in the text.
    data = joined.encode("ascii", "replace")
    search = gate().search
    hit = search(data)
    chosen = set() if joined.isascii() else {text for text in texts if not text.isascii()}
    if hit is None:
        return chosen
    starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
    while hit is not None:
        n = min(bisect_right(starts, hit.start()) - 1, len(texts) - 1)
        last = min(bisect_right(starts, max(hit.end() - 1, hit.start())) - 1, len(texts) - 1)
        chosen.update(texts[n : last + 1])
        if starts[n + 1] >= len(data):
            break
        hit = search(data, starts[n + 1])
    return chosen


def kind_in(text: str) -> str | None:
    """The kind of the first personal thing that has a shape of its own in a text, read in every encoding; None for none."""
    for n, view in enumerate(decoded_views(_without_harmless_frames(text))):
        leaves = json_leaves(view)
        is_prose = leaves is None and " " in view.strip() and measures.time(view) is None
        for finding in find_identifiers(view):
            if _is_sure(finding, view, is_prose=is_prose, is_hidden=n > 0 and leaves is None):
                return finding.kind.value
        for leaf in leaves or ():
            for finding in find_identifiers(leaf):
                if _is_sure(finding, leaf, is_prose=" " in leaf.strip(), is_hidden=False):
                    return finding.kind.value
    return None


def _without_harmless_frames(text: str) -> str:
    """The text without the frames of stack traces that hold nothing when they are looked at by themselves."""
    places = frames_of(text) if len(text) > _MAX_REMEMBERED_LENGTH else []
    if len(places) < 2:  # else this text is the frame
        return text
    parts: list[str] = []
    at = 0
    for start, end in places:
        frame = text[start:end]
        if frame not in _harmless_frames:
            if kind_in(frame) is not None:
                continue
            if len(_harmless_frames) >= _MAX_REMEMBERED:
                _harmless_frames.clear()
            _harmless_frames.add(frame)
        parts.append(text[at:start])
        at = end
    return "".join((*parts, text[at:]))


_harmless_frames: set[str] = set()


def json_leaves(view: str) -> list[str] | None:
    """The texts in a view that is a JSON object or list; None where it is none. What stands between them is no prose."""
    if view[:1] not in ("{", "[") or view[-1:] not in ("}", "]"):
        return None
    try:
        nodes: list[Any] = [orjson.loads(view)]
    except ValueError:
        return None
    leaves = []
    for node in nodes:  # it grows while it is read
        if type(node) is str:
            leaves.append(node)
        elif type(node) is dict:
            nodes.extend(node.values())
        elif type(node) is list:
            nodes.extend(node)
    return leaves


def _is_sure(finding: Finding, view: str, *, is_prose: bool, is_hidden: bool) -> bool:
    """Whether a finding stands by itself; what a detector takes for personal in a text may be an identifier elsewhere."""
    kind = finding.kind
    if kind in _LIKE_OUR_OWN:
        return is_prose and not is_hidden
    found = view[finding.start : finding.end]
    if kind is _K.PATH:
        return _HOME.search(found) is not None
    if is_prose or is_hidden:
        return True
    if kind in _ONLY_IN_PROSE:
        return False
    if kind is _K.PHONE and software.release(view) is not None:
        return False
    if kind in _NUMBERS and found.isdigit():
        return kind is _K.CARD and _is_card(int(found))
    return True


# Issuers' ranges by their first digits and lengths. Source: https://en.wikipedia.org/wiki/Payment_card_number
_CARD = re.compile(
    r"4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|35(?:2[89]|[3-8][0-9])[0-9]{12}|62[0-9]{14}"
)


def _is_card(number: int) -> bool:
    if not 10**12 < number < 10**16:
        return False
    digits = str(number)
    return _CARD.fullmatch(digits) is not None and luhn(digits)


# -- where they stand -----------------------------------------------------------------------------------------------------


class _Net:
    """One pass over a document that closes the suspects, but for those that have the shape of the field they stand in."""

    def __init__(self, suspects: Mapping[Any, str], open_paths: frozenset[str]) -> None:
        self._suspects = suspects
        self._open_paths = open_paths
        self.leaks: list[Leak] = []

    def cleaned(self, node: Any, path: tuple[str, ...], depth: int = 0) -> Any:
        """`node` with every leak below it closed."""
        if isinstance(node, (Mapping, list, tuple)):
            if self._is_open(path):
                return node
            if depth >= _MAX_DEPTH:
                return self._cleaned_whole(node, path)
            if not isinstance(node, Mapping):
                return [self.cleaned(item, path, depth + 1) for item in node]
            self._note_open(node, path)
            return self._cleaned_mapping(node, path, depth)
        text = node.decode("latin-1") if isinstance(node, bytes) else node
        kind = self._suspects.get(text) if type(text) in (str, int) else None
        if kind is None or self._is_open(path) or _has_its_shape(text, path):
            return node
        self.leaks.append(Leak(shown_path(path), kind))
        return marks.placeholder(text)

    def _cleaned_whole(self, node: Any, path: tuple[str, ...]) -> Any:
        """A tree that lies too deep to go through: closed whole if anything in it is a suspect."""
        kind = next((kind for kind in _suspects({"": node}).values()), None)
        if kind is None:
            return node
        self.leaks.append(Leak(shown_path(path), kind))
        return marks.placeholder(node)

    def _cleaned_mapping(self, node: Mapping[Any, Any], path: tuple[str, ...], depth: int) -> dict[Any, Any]:
        document: dict[Any, Any] = {}
        for key, value in node.items():
            cleaned = self.cleaned(value, (*path, str(key)), depth + 1)
            if key in self._suspects:
                self.leaks.append(Leak(shown_path((*path, "[key]")), self._suspects[key]))
                key = next(mark for n in count(1) if (mark := f"[key {n}]") not in document and mark not in node)
            document[key] = cleaned
        return document

    def _note_open(self, node: Mapping[Any, Any], path: tuple[str, ...]) -> None:
        named = node.get(OPEN_TEXT) if path in ((), ("trace_payload",)) else None
        if isinstance(named, (list, tuple)):
            self._open_paths |= frozenset(one for one in named if isinstance(one, str))

    def _is_open(self, path: tuple[str, ...]) -> bool:
        if not self._open_paths:
            return False
        if path and path[0] == "trace_payload":
            path = path[1:]
        if not path:
            return False
        section, keys = path[0], path[1:]
        spelled = {section, *(f"{section}.{normal_key('.'.join(keys[:n]))}" for n in range(1, len(keys) + 1))}
        return not spelled.isdisjoint(self._open_paths)


def _has_its_shape(value: str | int, path: tuple[str, ...]) -> bool:
    if not path:
        return False
    key = path[-1]
    if path[:-1] in _OWN_PLACES:
        shape = _SHAPES.get(key)
        if shape is not None and shape.fullmatch(str(value)):
            return True
    kinds = FIELDS.get(normal_key(key), ())
    codes = tuple(kind for kind in kinds if kind in _CODE_KINDS)
    # A code may be what an encoding made of something readable: that is looked for first.
    return bool(codes) and rules.kept(value, codes) == value and (isinstance(value, int) or len(decoded_views(value)) == 1)


def shown_path(path: tuple[str, ...]) -> str:
    """A path that may be told: keys that could say something themselves are shown as `[key]`."""
    shown = path if len(path) <= _MAX_SHOWN_KEYS else (*path[:_MAX_SHOWN_KEYS], "[...]")
    return ".".join(key if key in ("[key]", "[...]") or _is_plain(key) else "[key]" for key in shown) or "[document]"


def _is_plain(key: str) -> bool:
    return len(key) <= MAX_KEY_LENGTH and (normal_key(key) in FIELDS or is_storable_key(key))
