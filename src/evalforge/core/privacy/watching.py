"""Listens to the sanitizer while it decides: which entry it looks at, where that goes, what it counts and which rule holds.

Only an explanation needs this. Production's `Tally` and `KeptTexts` have the same methods and note nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from evalforge.core.privacy.echoes import Echoes
from evalforge.core.privacy.keys import KeyVerdict
from evalforge.core.privacy.modes import TextMode
from evalforge.core.privacy.rules import Kind
from evalforge.core.privacy.texts import KeptTexts
from evalforge.core.privacy.walk import Place, Tally, _Entry
from evalforge.core.span import Json

Path = tuple[Any, ...]
"""Keys and positions from the top of a span: `("metadata", "user", "email")`. A key that came twice is `(key, 1)`."""

EXTRA = "extra"
"""What the paths of top-level fields that no section names begin with."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What the sanitizer found a key to mean: its verdict, the rules of a known field, and how its surroundings are read."""

    verdict: KeyVerdict
    kinds: tuple[Kind, ...] | None
    is_numeric: bool
    has_verdicts: bool
    is_closed: bool


@dataclass(slots=True)
class Recorder:
    """What was heard, by raw path. `counted` holds the kinds in the order in which they were counted there.

    `produced` tells into which container an entry went, and under which keys. `scrubbed` are the paths of texts, of values
    of sensitive keys and of long numbers that became placeholders; `opened` those kept as they are. The empty path stands
    for what was decided outside of any section.
    """

    counted: dict[Path, list[str]] = field(default_factory=dict)
    rules: dict[Path, KeyRule] = field(default_factory=dict)
    produced: dict[Path, tuple[Any, list[Any]]] = field(default_factory=dict)
    scrubbed: dict[Path, str] = field(default_factory=dict)
    opened: set[Path] = field(default_factory=set)
    payload: dict[str, Any] = field(default_factory=dict)
    tally: Tally | None = None
    _stack: list[tuple[Any, int]] = field(default_factory=list)
    _is_open: bool = False

    def make_tally(self, echoes: Echoes) -> Tally:
        """A tally that tells this recorder everything."""
        self.tally = _WatchedTally(texts=_WatchedTexts(echoes, self))
        self.tally.recorder = self
        self.tally.counts = _WatchedCounter(self)
        return self.tally

    @property
    def path(self) -> Path:
        """The entry that is looked at now."""
        return tuple(component for component, _ in self._stack)

    def entered(self, entries: Iterable[_T], document: Any) -> Iterator[_T]:
        """The entries, each while this recorder stands on it."""
        if not self._is_open:
            self._is_open, self.payload = True, document
        met: Counter[Any] = Counter()
        for entry in entries:
            key: Any = entry[0]  # type: ignore[index]  # a pair, or a row that begins with the key
            pushed = self._push(key, met, document, is_extra=document is self.payload and len(entry) == 2)  # type: ignore[arg-type]
            before = len(document)
            try:
                yield entry
            finally:
                if pushed:
                    self._note_produced(document, before, key)
                    del self._stack[-pushed:]

    def _push(self, key: Any, met: Counter[Any], document: Any, *, is_extra: bool) -> int:
        if self._stack and self._stack[-1] == (key, id(document)):
            return 0  # the same entry, looked at a second time
        component = repeated(key, met)
        if is_extra:
            self._stack += [(EXTRA, 0), (component, id(document))]
            return 2
        self._stack.append((component, id(document)))
        return 1

    def _note_produced(self, document: Any, before: int, key: Any) -> None:
        if isinstance(document, list):
            keys = list(range(before, len(document)))
            if not keys and isinstance(key, int) and key < len(document):
                keys = [key]
        else:
            keys = list(document)[before:] or ([key] if key in document else [])
        self.produced[self.path] = (document, keys)

    def count(self, kind: str) -> None:
        """Something was counted under this kind."""
        self.counted.setdefault(self.path, []).append(kind)


def repeated(key: Any, met: Counter[Any]) -> Any:
    """The key, or with how often it was met before where it was."""
    met[key] += 1
    return key if met[key] == 1 else (key, met[key] - 1)


class _WatchedCounter(Counter[str]):
    """Tells the recorder whenever a count grows."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __setitem__(self, kind: str, count: int) -> None:
        if count > self.get(kind, 0):
            self._recorder.count(kind)
        super().__setitem__(kind, count)


@dataclass
class _WatchedTally(Tally):
    is_watched: ClassVar[bool] = True
    recorder: Recorder = field(default_factory=Recorder)

    def entered(self, entries: Iterable[_T], document: Any) -> Iterable[_T]:
        return self.recorder.entered(entries, document)

    def judged(self, entry: _Entry, place: Place) -> None:
        self.recorder.rules[self.recorder.path] = KeyRule(
            entry.verdict, entry.kinds, place.numeric, place.verdicts, place.closed
        )

    def allowed(self, container: Any, key: Any, value: Json, mode: TextMode, path: str) -> None:
        if mode is TextMode.OPEN:
            self.recorder.opened.add(self.recorder.path)
        Tally.allowed(self, container, key, value, mode, path)


class _WatchedTexts(KeptTexts):
    def __init__(self, echoes: Echoes, recorder: Recorder) -> None:
        super().__init__(echoes)
        self._recorder = recorder
        self.redactions = _WatchedCounter(recorder)

    def entered(self, entries: Iterable[_T], document: Any) -> Iterable[_T]:
        return self._recorder.entered(entries, document)

    def text(self, container: Any, key: Any, text: str) -> None:
        self._recorder.scrubbed[self._recorder.path] = "text"
        super().text(container, key, text)

    def sensitive(self, container: Any, key: Any, value: Any, verdict: KeyVerdict) -> None:
        self._recorder.scrubbed[self._recorder.path] = verdict.key_class.value
        super().sensitive(container, key, value, verdict)

    def number(self, container: Any, key: Any, value: float) -> None:
        self._recorder.scrubbed[self._recorder.path] = "long_number"
        super().number(container, key, value)


def is_container(value: Json) -> bool:
    """Whether a value holds others."""
    return isinstance(value, (Mapping, list, tuple))
