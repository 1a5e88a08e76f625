"""JSON that can be looked at: what a terminal would obey stands there as an escape, which means the same to every reader."""

from __future__ import annotations

import re

# JSON may hold these raw, but a terminal obeys them, and some readers split lines at them: DEL and the C1 controls, line and
# paragraph separators, and the marks that turn the direction of text.
_OBEYED = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def inert_json(text: str) -> str:
    """The same JSON with an escape in place of every character that does more than stand there."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
