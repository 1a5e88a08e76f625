"""CSV that no spreadsheet takes for formulas.

Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from evalforge.core.inert import inert_text
from evalforge.exports.examples import Example

_STARTS_FORMULA = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_BLANK = " \t\n\u00a0\u200b\u200c\u200d\u2060\u3000"

# Controls but tab and line feed, lone surrogates, what turns or ends lines. Joiners stay: emoji and scripts need them.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def cell(text: str) -> str:
    """A text as a cell: what controls or turns text is spelled out, and what might be a formula begins with an apostrophe.

    Line ends become line feeds. It is the one form that cannot give every text back as it was.
    """
    plain = _OBEYED.sub(lambda found: inert_text(found[0]), text.replace("\r\n", "\n"))
    return f"'{plain}" if plain.startswith(("\t", "\n")) or plain.lstrip(_BLANK).startswith(_STARTS_FORMULA) else plain


def table(
    row_of: Callable[[Example], Mapping[str, str]], columns: Iterable[str]
) -> Callable[[Iterable[Example]], Iterator[bytes]]:
    """What writes a row for each example under these columns; every cell is quoted and no formula."""
    names = list(columns)

    def render(examples: Iterable[Example]) -> Iterator[bytes]:
        yield _row(names)
        for example in examples:
            row = row_of(example)
            yield _row([cell(row.get(name, "")) for name in names])

    return render


def _row(cells: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return out.getvalue().encode()
