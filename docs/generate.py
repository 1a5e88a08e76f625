"""Writes the generated parts of docs/ from the code: `python -m docs.generate`, with `--check` only to compare.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end generated -->`; NAME is a row of `PARTS`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from deploy.dashboards import ALERTS
from docs import prices
from evalforge import errors
from evalforge.config import SETTINGS
from evalforge.core.signals import PREFIXES, RULES
from evalforge.events import EVENTS
from evalforge.inventory import MEANINGS, PLACES
from evalforge.runs import INCOMPLETE
from evalforge.sources.datadog.permissions import PERMISSIONS
from evalforge.stores.firestore_indexes import INDEXES, Mode
from evalforge.telemetry.instruments import INSTRUMENTS, STRETCHES, Attribute, Instrument, Stretch, prometheus_name

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: ([a-z_]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; pipes in cells are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"

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


def permissions() -> str:
    """What the application key must be allowed to do."""
    return table(
        ("permission", "for", "needed by", "without it"),
        (
            (code(row.name), row.opens, row.needed_by, row.without + ("" if row.is_required else " (optional)"))
            for row in PERMISSIONS
        ),
    )


def exit_codes() -> str:
    """Every exit code of the command line."""
    from evalforge.cli import EXIT_CODES

    return table(("exit code", "meaning"), ((str(number), meaning) for number, meaning in EXIT_CODES))


def commands() -> str:
    """Every command with its arguments and options, as its own help has them."""
    from evalforge.cli import cli as command_line

    def below(command: click.Command, path: str) -> Iterable[str]:
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                child = command.get_command(click.Context(command), name)
                assert child is not None
                yield from below(child, f"{path} {name}")
            return
        # click marks a paragraph that must keep its lines with a backspace character.
        text = re.sub(r"\x08\n(.*?)(?=\n\n|$)", r"```\n\1\n```", inspect.cleandoc(command.help or ""), flags=re.DOTALL)
        yield f"### `{path}`\n\n{text}\n"
        rows = []
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                names = ", ".join(parameter.opts + parameter.secondary_opts)
                shown = names if parameter.is_flag else f"{names} {parameter.make_metavar(click.Context(command))}"
                rows.append((code(shown), parameter.help or ""))
            elif isinstance(parameter, click.Argument):
                rows.append((code(parameter.make_metavar(click.Context(command))), "required" if parameter.required else ""))
        yield table(("option", "meaning"), rows) if rows else ""

    return "\n".join(below(command_line, "evalforge")) + "\n"


def routes() -> str:
    """Every route of the service in one table."""
    from docs import api_reference

    return api_reference.overview(table)


def api() -> str:
    """Every route of the service, with what it takes and answers."""
    from docs import api_reference

    return api_reference.routes(table)


def decisions() -> str:
    """Every page of decisions, by its title."""
    rows = []
    for page in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        rows.append(f"- [{title}]({page.name})\n")
    return "\n" + "".join(rows) + "\n"


def inventory() -> str:
    """What is kept or handed out, a table for each place, and what the answers mean."""
    parts = [table(("personal", "meaning"), ((personal.value, meaning) for personal, meaning in MEANINGS.items()))]
    for place in PLACES:
        rows = (
            (row.shown or ", ".join(map(code, row.names)), row.source, row.personal.value, place.retention)
            for row in place.rows
        )
        title = f"**{place.title[0].upper()}{place.title[1:]}**"
        parts.append(f"{title}\n\n{table(('field', 'source', 'personal', 'kept'), rows)}")
    return "\n" + "\n".join(parts)


def costs() -> str:
    """A month of each schedule, by failures a day."""
    rows = []
    for schedule, minutes in prices.SCHEDULES.items():
        for failures in prices.FAILURES_A_DAY:
            month = prices.month(minutes, failures)
            rows.append(
                (
                    schedule,
                    f"{failures:,}",
                    f"{month.requests:,}",
                    f"{month.requests / (prices.DAYS * 24):,.1f}",
                    f"{month.reads:,}",
                    f"{month.writes:,}",
                    f"${month.dollars:,.2f}",
                )
            )
    head = ("schedule", "failures a day", "Datadog requests", "an hour", "Firestore reads", "Firestore writes", "Firestore")
    return table(head, rows)


def firestore_indexes() -> str:
    """Every index that Firestore is asked for; composite ones in one cell."""
    return table(
        ("collection", "index", "for"),
        (
            (
                code(f"{{prefix}}{index.collection}"),
                ", then ".join(f"{code(field)} {_MODES[mode]}" for field, mode in index.fields),
                index.serves,
            )
            for index in INDEXES
        ),
    )


_MODES = {Mode.ASCENDING: "ascending", Mode.DESCENDING: "descending", Mode.CONTAINS: "as an array"}


def fault_matrix() -> str:
    """Every cell of the fault matrix: the fault, the stores that it is tried on, and what comes of it."""
    from tests.integration.faults.cells import CELLS, Ends

    rows = []
    for number, cell in enumerate(CELLS, 1):
        becomes = cell.becomes
        ends = (
            f"{code(becomes.code)} ({becomes.exit_code}), then complete" if isinstance(becomes, Ends) else _BECOMES[becomes]
        )
        stores = ", ".join(_NAMES[store] for store in cell.stores)
        where = _NAMES.get(cell.where, cell.where)
        rows.append((str(number), where, cell.fault, stores, ends + (f"; {cell.but}" if cell.but else "")))
    return table(("", "where", "fault", "store", "the run that meets it, and what follows"), rows)


_NAMES = {"datadog": "Datadog", "firestore": "Firestore", "sqlite": "SQLite"}
_BECOMES = {
    "completes": "completes",
    "incomplete": "says that it is incomplete; the next one completes",
    "gone": "is gone; a later one completes",
}


def instruments() -> str:
    """Every metric, by both names, with its attributes."""
    return table(
        ("metric", "in Prometheus", "kind", "unit", "attributes", "what"),
        (
            (
                code(row.name),
                code(prometheus_name(row)),
                row.kind.value,
                row.unit,
                ", ".join(code(one.name) for one in row.attributes),
                row.meaning,
            )
            for row in INSTRUMENTS
        ),
    )


def instrument_values() -> str:
    """Every attribute with all its values, where it has the same ones."""
    found: dict[Attribute, list[str]] = {}
    rows: list[Instrument | Stretch] = [*INSTRUMENTS, *STRETCHES]
    for row in rows:
        for one in row.attributes:
            found.setdefault(one, []).append(row.name)
    return table(
        ("attribute", "of", "values, and `other`"),
        (
            (code(one.name), ", ".join(map(code, dict.fromkeys(names))), ", ".join(sorted(one.values)))
            for one, names in found.items()
        ),
    )


def stretches() -> str:
    """Every span that a trace of ours can hold."""
    return table(
        ("span", "what", "attributes"),
        (
            (
                code(row.name),
                row.meaning,
                ", ".join(map(code, (*(one.name for one in row.attributes), *row.counts, *row.ids))),
            )
            for row in STRETCHES
        ),
    )


def alerts() -> str:
    """Every alert, what it means and what to do."""
    return table(
        ("alert", "severity", "when", "it means", "what to do"),
        (
            (
                code(alert.name),
                alert.severity,
                code(f"{alert.promql} {alert.comparison} {alert.threshold:g}")
                + (f" for {alert.minutes} minutes" if alert.minutes else ""),
                alert.meaning,
                alert.do,
            )
            for alert in ALERTS
        ),
    )


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "signals": signals,
    "spellings": spellings,
    "events": events,
    "errors": errors_table,
    "incomplete": incomplete,
    "permissions": permissions,
    "exit_codes": exit_codes,
    "commands": commands,
    "routes": routes,
    "api": api,
    "decisions": decisions,
    "inventory": inventory,
    "prices": costs,
    "firestore_indexes": firestore_indexes,
    "fault_matrix": fault_matrix,
    "instruments": instruments,
    "instrument_values": instrument_values,
    "stretches": stretches,
    "alerts": alerts,
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
