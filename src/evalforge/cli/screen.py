"""What reaches the terminal. Captured text is untrusted: it is shown, never obeyed, neither by the terminal nor by rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from evalforge.core.inert import inert_text
from evalforge.exports import json_bytes

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

SEVERITY_STYLE = {"critical": "bold red", "high": "yellow", "medium": "cyan"}


def console(*, err: bool = False) -> Console:
    """A console that takes nothing it is given for markup, emoji codes or things to highlight."""
    return Console(stderr=err, markup=False, emoji=False, highlight=False, soft_wrap=False)


def safe(value: Any, limit: int = 2000) -> str:
    """`value` as text that a terminal can only show: what controls, hides or turns text around is spelled out.

    Longer texts end with an ellipsis.
    """
    text = value if isinstance(value, str) else str(value)
    cut = inert_text(text[: limit + 1])
    return cut if len(cut) <= limit else cut[: limit - 1] + "…"


def text(value: Any, style: str = "", *, limit: int = 2000, link: str | None = None) -> Text:
    """`value` as a rich text in one style; never markup. `link` is a URL of our own making."""
    made = Text(safe(value, limit), style=style)
    if link is not None:
        made.stylize(f"link {link}")
    return made


def print_json(value: Any, *, indent: bool = False, sort_keys: bool = True) -> None:
    """Writes `value` as JSON to standard output, safe to look at."""
    sys.stdout.buffer.write(json_bytes(value, indent=indent, sort_keys=sort_keys) + b"\n")
    sys.stdout.buffer.flush()


def json_lines(value: Any) -> list[tuple[int, Text]]:
    """`value` as indented JSON in colour, line by line: the indent in columns, and what stands there.

    Keys stand out, and so does what the sanitizer put in the place of something.
    """
    lines = []
    for line in json_bytes(value, indent=True).decode().split("\n"):
        stripped = line.lstrip(" ")
        made, rest = Text(), stripped
        key, colon, after = stripped.partition('": ')
        if colon and stripped.startswith('"'):
            made.append(safe(key + '"', 400), "bold")
            made.append(": ")
            rest = after
        made.append(safe(rest), "green" if is_placeholder(rest) else "")
        lines.append((len(line) - len(stripped), made))
    return lines


def json_view(lines: Iterable[tuple[int, Text]]) -> Group:
    """The lines of `json_lines` one below the other; one that is too long goes on below its own beginning."""
    return Group(*(Padding(made, (0, 0, 0, indent), expand=False) for indent, made in lines))


def is_placeholder(line: str) -> bool:
    """Whether a JSON value, as printed, begins with a mark that the sanitizer made, such as `"[redacted:text 312]"`."""
    return line.startswith('"[redacted')


def moment(instant: datetime) -> str:
    """A time in UTC to the minute, such as `11-23 06:26`."""
    return instant.astimezone(UTC).strftime("%m-%d %H:%M")


def full_moment(instant: datetime) -> str:
    """A time in UTC to the second, such as `2026-11-23 06:26:00 UTC`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 span`, `1,234 spans`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def joined_counts(counts: Mapping[str, int]) -> str:
    """Counts by name, the greatest first: `http_error 12 · toxicity 3`."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return " · ".join(f"{safe(name, 60)} {count:,}" for name, count in ordered)


def progress_columns() -> tuple[ProgressColumn, ...]:
    """What a line of live progress shows: that it moves, what it is at, how far it is, and since when."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    return SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), TimeElapsedColumn()


def is_terminal() -> bool:
    """Whether a person is probably watching standard error."""
    return sys.stderr.isatty()
