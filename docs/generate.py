"""Writes the generated parts of docs/ from the code: `python -m docs.generate`, with `--check` only to compare.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end generated -->`; NAME is a row of `PARTS`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from evalforge import errors
from evalforge.config import SETTINGS
from evalforge.core.signals import PREFIXES, RULES
from evalforge.events import EVENTS
from evalforge.runs import INCOMPLETE

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: ([a-z_]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; pipes in cells are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)]) + "\n"


def code(text: str) -> str:
    """`text` as Markdown code, or nothing for nothing."""
    return f"`{text}`" if text else ""


def settings() -> str:
    """Every setting, its default, what it means and what it accepts."""
    return table(
        ("setting", "default", "meaning", "accepts"),
        ((code(row.name), code(row.default) or "unset", row.meaning, row.wants) for row in SETTINGS),
    )


def signals() -> str:
    """The named rows of the signal table."""
    rows = []
    for rule in RULES:
        when = []
        if rule.bound:
            limit = rule.bound.limit if not isinstance(rule.bound.limit, str) else f"{rule.bound.limit.upper()}_THRESHOLD"
            when.append(f"a number {rule.bound.op} {limit}")
        if rule.truth:
            when.append("true")
        if rule.labels:
            when.append("one of " + ", ".join(f'"{label}"' for label in sorted(rule.labels)))
        rows.append((code(rule.type.value), ", ".join(map(code, rule.names)), "; or ".join(when), rule.severity.label))
    return table(("signal", "names", "when the value is", "severity"), rows)


def spellings() -> str:
    """What may stand before a name."""
    return ", ".join(f"`{prefix}NAME`" for prefix in PREFIXES) + "\n"


def events() -> str:
    """Every log event."""
    return table(
        ("event", "level", "fields", "when"),
        ((code(row.name), row.level, ", ".join(map(code, row.fields)), row.meaning) for row in EVENTS),
    )


def error_classes() -> list[type[errors.EvalForgeError]]:
    """Every error class, the root first, each branch before its leaves."""

    def below(cls: type[errors.EvalForgeError]) -> Iterable[type[errors.EvalForgeError]]:
        yield cls
        for child in cls.__subclasses__():
            yield from below(child)

    return [cls for cls in below(errors.EvalForgeError) if cls.__module__ == errors.__name__]


def errors_table() -> str:
    """Every error class with its exit code and HTTP status."""
    rows = []
    for cls in error_classes():
        first = (cls.__doc__ or "").strip().split("\n")[0]
        rows.append((code(cls.__name__), code(cls.code), str(cls.exit_code), str(cls.http_status), first))
    return table(("error", "code", "exit code", "HTTP status", "what to do"), rows)


def incomplete() -> str:
    """Why a run report may say that it is not complete."""
    return table(("code", "meaning"), ((code(name), meaning) for name, meaning in INCOMPLETE.items()))


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "signals": signals,
    "spellings": spellings,
    "events": events,
    "errors": errors_table,
    "incomplete": incomplete,
}


def rewritten(text: str) -> str:
    """The page with every generated part made anew.

    Raises:
        KeyError: when a part has no row in `PARTS`.
    """
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}{match[3]}", text)


def pages() -> list[Path]:
    """Every page that may hold generated parts."""
    return [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"]


def main(arguments: Sequence[str]) -> int:
    """Rewrites the pages, or with `--check` names those that are out of date; the exit code says whether all were right."""
    stale = []
    for page in pages():
        text = page.read_text()
        new = rewritten(text)
        if new != text:
            stale.append(page)
            if "--check" not in arguments:
                page.write_text(new)
    for page in stale:
        print(
            f"{page.relative_to(DOCS.parent)}: "
            + ("out of date, run `make docs`" if "--check" in arguments else "rewritten")
        )
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
