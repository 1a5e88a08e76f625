"""CSV that no spreadsheet takes for formulas.

Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping

from evalforge.core.inert import inert_text
from evalforge.exports.examples import Example

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def cell(text: str) -> str:
    """A text as a cell: what controls or hides is spelled out, and one that might be a formula begins with an apostrophe."""
    plain = "\n".join(inert_text(line) for line in text.replace("\r\n", "\n").split("\n"))
    return f"'{plain}" if plain.lstrip(" ").startswith(_STARTS_FORMULA) else plain


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
