"""Values in the columns of tables: CSV, Markdown, SQL, and what databases say of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from evalforge.core.privacy.text.assignments import ANY_SENSITIVE, judged, named_key
from evalforge.core.privacy.text.detector import Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind

_DELIMITERS = (",", "\t", "|", ";")
_HALVES_OF_NAMES = frozenset({"first", "last", "middle", "given", "family", "surname", "forename", "firstname", "lastname"})
"""Columns that hold people's names where there are two of them."""
_COLUMN_LABEL = re.compile(r"""(?=.{0,40}$)[^(){}\[\]=<>@;"]*(?:\([^(){}\[\]=<>@;"]*\))?[^(){}\[\]=<>@;"]*""")
"""What a column may be called. Neither `send(scope, sender)` nor `File "client.py", line 3, in handle` is a header."""

# A quote that stands twice is a part of the literal, and nothing else: without the possessive marks, each such pair could
# also end one literal and begin the next, and the ways to read a row of quotes would double with each pair.
_LITERAL = r"'(?:[^'\\]|''|\\.){0,1000}+'"
_VALUES = re.compile(rf"\s*+,?\s*+\(((?:{_LITERAL}|[^()']){{0,200}}+)\)")
_CELL = re.compile(rf"((?:{_LITERAL}|[^,'])++)(?:,|$)")


def _table(view: View, match: Match) -> Iterable[Finding]:
    """Rows below a header line: CSV, TSV, Markdown."""
    if match.start(1) < view.read_to.get("table", 0):
        return
    header = view.plain[slice(*match.span(1))]
    delimiter = max(_DELIMITERS, key=header.count)
    columns = [cell.strip(" \"'*`|") for cell in header.split(delimiter)]
    known = [named_key(cell) if 0 < len(cell) <= 40 and len(cell.split(" ")) <= 3 else None for cell in columns]
    halves = [n for n, cell in enumerate(columns) if cell.lower() in _HALVES_OF_NAMES]
    if len(halves) > 1:
        for n in halves:
            known[n] = known[n] or named_key("first name")
    if not any(known) or len(columns) < 2 or not all(map(_COLUMN_LABEL.fullmatch, columns)):
        return
    at = match.end(1) + 1
    for _ in range(500):
        stop = view.plain.find("\n", at)
        stop = len(view.plain) if stop < 0 else stop
        view.read_to["table"] = stop
        row = view.plain[at:stop]
        if row.count(delimiter) < 1 or not row.strip():
            return
        for n, (start, end) in enumerate(_cells(row, delimiter)):
            column = known[n] if n < len(known) else None
            if column is not None and (finding := judged(view, *column, (at + start, at + end), "=")) is not None:
                yield finding
        at = stop + 1
        if at >= len(view.plain):
            return


def _cells(row: str, delimiter: str) -> Iterator[tuple[int, int]]:
    for cell in re.finditer(rf'(?:^|{re.escape(delimiter)})([ ]*"(?:[^"]|""){{0,500}}"|[^{re.escape(delimiter)}]*)', row):
        start, end = cell.span(1)
        inner = row[start:end]
        start += len(inner) - len(inner.lstrip(' "'))
        yield start, max(start, start + len(inner.strip(' "')))


def _insert(view: View, match: Match) -> Iterable[Finding]:
    """`INSERT INTO users (name, email) VALUES ('...', '...')`: the literals of sensitive columns."""
    columns = [named_key(column.strip(' `"[]')) for column in view.plain[slice(*match.span(1))].split(",")]
    at = match.end()
    while (row := _VALUES.match(view.plain, at)) is not None:
        start = row.start(1)
        for n, cell in enumerate(_CELL.finditer(row[1])):
            column = columns[n] if n < len(columns) else None
            if column is not None:
                inner = cell[1].strip().strip("'")
                offset = start + cell.start(1) + cell[1].find(inner)
                finding = judged(view, *column, (offset, offset + len(inner)), "=")
                if finding is not None:
                    yield finding
        at = row.end()


def _database_words(view: View, match: Match) -> Iterable[Finding]:
    """What databases and validators say of a row: `Key (email)=(...)`, `Duplicate entry '...'`, `input_value='...'`."""
    for group in range(1, len(match.groups()) + 1):
        start, end = match.span(group)
        if end > start >= 0:
            yield view.found(start, end, TextKind.WORD)
            return


DETECTORS: tuple[Detector, ...] = (
    Detector(
        "table",
        r"(?:^|\n)([^\n]{2,600})\n[^\n]*[,\t|;][^\n]*",
        _table,
        gate=rf"(?:^|\n)[^\n]{{0,400}}{ANY_SENSITIVE}[^\n]{{0,400}}\n",
    ),
    Detector("insert", r"(?i)\binsert\s+(?:into|or)\s+[^()]{1,120}\(([^()]{1,600})\)\s{0,8}values", _insert),
    Detector(
        "database_words",
        r"(?i)\bkey \([^()\n]{1,200}\)=\(([^\n]{1,500}?)\)(?: |$|\n)|failing row contains "
        r"\(([^\n]{1,1000})\)|duplicate entry '([^\n]{1,300}?)' for key"
        r"|\[parameters: ([^\n]{1,1000})\]"
        r"|input_value=('(?:[^'\\\n]|\\.){0,500}'|\"[^\"\n]{0,500}\"|[^\s,\]{\[][^\s,\]]{0,200})"
        r"|invalid input syntax for [^\n:]{1,60}: \"([^\"\n]{1,300})\"|incorrect [a-z]{1,20} value: '([^'\n]{1,300})'",
        _database_words,
        gate=r"(?i)\)=\(|failing row|duplicate entry|\[parameters:|input_value=|invalid input syntax|incorrect [a-z]+ value",
    ),
)
