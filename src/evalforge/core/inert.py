"""Text that can be looked at: whatever a terminal would obey is spelled out.

Captured text is untrusted, and so is what others may have written into the store.
"""

from __future__ import annotations

import re
import unicodedata

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# JSON may hold these raw, but a terminal obeys them, and some readers split lines at them: DEL and the C1 controls, line and
# paragraph separators, and the marks that turn the direction of text.
_OBEYED = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def inert_text(text: str) -> str:
    """The same text on one line, in which what controls, hides or turns text around is spelled out: `\\x1b`, `\\n`."""
    return text if text.isascii() and text.isprintable() else "".join(map(_spelled, text))


def _spelled(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def inert_json(text: str) -> str:
    """The same JSON with an escape, which means the same to every reader, where a character does more than stand there."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
