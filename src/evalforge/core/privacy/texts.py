"""The texts of one span that are kept scrubbed: gathered first, scrubbed together, then put in place."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from evalforge.core.privacy.echoes import Echoes
from evalforge.core.privacy.keys import KeyVerdict
from evalforge.core.privacy.marks import is_mark, placeholder
from evalforge.core.privacy.text.findings import TextKind, is_text_mark

if TYPE_CHECKING:
    from evalforge.core.privacy.text.scrubber import Scrubber

MAX_TEXT_LENGTH = 20_000
"""Characters of one kept text; a longer one is scrubbed whole and then cut with a mark."""

MAX_SPAN_LENGTH = 512 * 1024
"""Characters of all texts of a span that are scrubbed; those after them are closed."""

MAX_KEPT_BYTES = 160 * 1024
"""UTF-8 bytes of all kept texts of a span; those that no longer fit are closed, so that no section is lost as a whole."""

_T = TypeVar("_T")
_CUT = re.compile(r"\n\[cut: [0-9]{1,9} more characters\]$")


class KeptTexts:
    """Places in a document that wait for their scrubbed text or for the placeholder of a sensitive value.

    One thing has one placeholder in all of them, so a span's texts are scrubbed in one call, in the order in which they
    stand in the document.
    """

    __slots__ = ("_encoded", "_length", "_marks", "_slots", "echoes", "redactions")

    def __init__(self, echoes: Echoes) -> None:
        self.echoes = echoes
        self.redactions: Counter[str] = Counter()
        self._slots: list[tuple[Any, Any, str]] = []
        self._marks: list[tuple[Any, Any, TextKind, str]] = []
        self._encoded: list[tuple[Any, Any]] = []
        self._length = 0

    def entered(self, entries: Iterable[_T], document: Any) -> Iterable[_T]:
        """`entries` as they are; see `walk.Tally.entered`."""
        return entries

    def __bool__(self) -> bool:
        return bool(self._slots or self._marks or self._encoded)

    def text(self, container: Any, key: Any, text: str) -> None:
        """Lets `container[key]` become the scrubbed text; until then its closed placeholder stands there."""
        container[key] = placeholder(text)
        self._length += len(text)
        if self._length > MAX_SPAN_LENGTH:
            self._length -= len(text)
            self.redactions["limit"] += 1
        elif not is_mark(text) and text:
            self._slots.append((container, key, text))
        elif not text:
            container[key] = ""

    def sensitive(self, container: Any, key: Any, value: Any, verdict: KeyVerdict) -> None:
        """Lets `container[key]` become the placeholder of the kind of value that stands under a sensitive key."""
        container[key] = placeholder(value)
        if _is_huge(value):
            self.redactions[verdict.key_class.value] += 1
            return
        text = value if isinstance(value, str) else str(value)
        if is_text_mark(text):
            self._slots.append((container, key, text))
        elif not is_mark(text) and text:
            self._marks.append((container, key, *self.echoes.identified(text, verdict)))

    def number(self, container: Any, key: Any, value: float) -> None:
        """Lets `container[key]` become the placeholder of a number too long to be harmless."""
        container[key] = placeholder(value)
        if _is_huge(value):
            self.redactions[TextKind.NUMBER.value] += 1
        else:
            self._marks.append((container, key, TextKind.NUMBER, str(value)))

    def encode(self, container: Any, key: Any) -> None:
        """Lets the tree at `container[key]` become a JSON string again once its texts are in place."""
        self._encoded.append((container, key))

    def put_in_place(self) -> Counter[str]:
        """Scrubs, fills every place, and gives what was removed by kind. A text that breaks stays closed."""
        # Imported when the first text is there to scrub: it loads the word lists.
        from evalforge.core.privacy.text.scrubber import Scrubber

        scrubber = Scrubber(self.echoes)
        texts, tails = [], []
        for _, _, text in self._slots:
            cut = _CUT.search(text) if text.endswith("]") else None
            texts.append(text[: cut.start()] if cut else text)
            tails.append(cut[0] if cut else "")
        left = MAX_KEPT_BYTES
        for (container, key, _), scrubbed, tail in zip(self._slots, self._scrubbed(scrubber, texts), tails, strict=True):
            if scrubbed is None:
                continue
            kept_text = bounded(scrubbed) + tail
            left -= len(kept_text) if kept_text.isascii() else len(kept_text.encode("utf-8", "surrogatepass"))
            if left >= 0:
                container[key] = kept_text
            else:
                self.redactions["limit"] += 1
        for container, key, kind, identity in self._marks:
            container[key] = scrubber.mark(kind, self.echoes.person(identity) if kind is TextKind.PERSON else identity)
        for container, key in self._encoded:
            try:
                container[key] = json.dumps(container[key], ensure_ascii=False, allow_nan=False)
            except (ValueError, TypeError, RecursionError):
                container[key] = placeholder(container[key])
                self.redactions["error"] += 1
        self.redactions.update(scrubber.redactions)
        return self.redactions

    def _scrubbed(self, scrubber: Scrubber, texts: list[str]) -> list[str | None]:
        try:
            return list(scrubber.scrub(texts))
        except Exception:  # noqa: BLE001 - one text broke a rule: find out which, and keep the others
            self.redactions["error"] += 1
        found: list[str | None] = []
        for text in texts:
            try:
                found.extend(scrubber.scrub([text]))
            except Exception:  # noqa: BLE001 - it costs this text only, and must not leak it
                found.append(None)
        return found


def bounded(text: str) -> str:
    """The text, cut between words to at most `MAX_TEXT_LENGTH` characters with a mark that says how much is gone."""
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    end = MAX_TEXT_LENGTH - 60
    space = max(text.rfind(" ", end - 400, end), text.rfind("\n", end - 400, end))
    end = space if space > 0 else end
    return f"{text[:end]}\n[cut: {len(text) - end} more characters]"


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 256
