"""`evalforge demo`: the whole flow on this machine, in a few seconds."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from evalforge.cli.cards import application, facts_grid, print_cards, reason, section
from evalforge.cli.options import run_async
from evalforge.cli.screen import SEVERITY_STYLE, console, counted, joined_counts, json_lines, json_view, safe, text
from evalforge.core.capture import FailureCapture
from evalforge.core.signals import FailureType

if TYPE_CHECKING:
    from evalforge.runs import RunReport

STORE_NAME = "evalforge_demo.sqlite3"
SIDE_BY_SIDE_COLUMNS = 110
_MAX_SHOWN_LINES = 60


@dataclass(frozen=True, slots=True)
class Found:
    """What the demo has to show: the run, its captures, and the raw items and personal strings of the samples."""

    report: RunReport
    captures: Sequence[FailureCapture]
    raw_by_span_id: Mapping[str, Any]
    planted: tuple[str, ...]


@click.command(name="demo", short_help="Watch the whole flow on a local Datadog; needs no account.")
def command() -> int:
    """Watch the whole flow on this machine: a local Datadog with sample failures, one ingestion into SQLite, the captures.

    Needs no account and no setting, and reads none. The captures stay in evalforge_demo.sqlite3, to be looked at with the
    other commands; each demo begins a new one.
    """
    from evalforge.events import configure_logging

    configure_logging("console", level="ERROR")
    out = console()
    store_path = _fresh_store()
    out.print(Rule(Text("EvalForge demo", style="bold"), style="dim"))
    out.print(
        text(
            "A local Datadog is loaded with a day of sample traces of three LLM applications: a support bot, a "
            f"documentation assistant and an operations copilot. One run reads the failures into {store_path}."
        )
    )
    found = run_async(_ingested(store_path))
    if found.report.error is not None:
        click.echo(f"evalforge: {safe(found.report.error['message'])}", err=True)
        return int(found.report.error["exit_code"])
    _print_run(out, found)
    _print_captures(out, found.captures)
    _print_before_and_after(out, found)
    _print_privacy(out, found, store_path)
    _print_next(out, found, store_path)
    return 0


def _fresh_store() -> Path:
    """The demo's own file in the working directory, or in a temporary one where that cannot be written."""
    folder = Path() if os.access(Path(), os.W_OK) else Path(tempfile.mkdtemp(prefix="evalforge_"))
    path = folder / STORE_NAME
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path


async def _ingested(store_path: Path) -> Found:
    from evalforge import bootstrap
    from evalforge.config import Settings
    from evalforge.core.ports import Selection
    from evalforge.core.window import Window, epoch_ms
    from evalforge.runs import default_holder
    from evalforge.sandbox.samples import DEFAULT_SEED, generate
    from evalforge.sandbox.server import BackgroundServer

    end = datetime.now(UTC)
    with BackgroundServer(samples=True, end=end) as sandbox:
        settings = Settings.from_environment(
            {
                "DATADOG_API_URL": sandbox.url,
                "DATADOG_API_KEY": "demo",
                "DATADOG_APP_KEY": "demo",
                "CAPTURE_STORE": f"sqlite:///{store_path}",
                # Random, so hashes of two demos do not match. Only here: a real salt has to stay the same.
                "PII_SALT": secrets.token_urlsafe(48),
                # By default all that people and models wrote stays closed; here an eval is to be made of it, so it is
                # kept, scrubbed.
                "PII_TEXT_ALLOWLIST": "input,output,prompt,response",
                "DATADOG_RESOLVE_USERS": "true",
            }
        )
        window = Window(epoch_ms(end - timedelta(hours=24)), epoch_ms(datetime.now(UTC)))
        report = await bootstrap.ingest_once(settings, holder=default_holder("demo"), window=window)
    async with bootstrap.opened_store(settings) as store:
        captures = [stored.capture async for stored in store.select(Selection(), now=bootstrap.utc_now())]
    samples = generate(DEFAULT_SEED, end)
    raw = {item["attributes"]["span_id"]: item["attributes"] for item in samples.llm_obs}
    return Found(report, captures, raw, samples.planted)


def _section(out: Console, title: str) -> None:
    out.print()
    out.print(section(title))


def _print_run(out: Console, found: Found) -> None:
    from evalforge.cli.ingest import report_view

    _section(out, "The run")
    out.print(report_view(found.report.document()))


def _print_captures(out: Console, captures: Sequence[FailureCapture]) -> None:
    by_type = {kind: [one for one in captures if one.failure_type is kind] for kind in FailureType}
    _section(out, f"{counted(len(captures), 'capture')}, one per failing trace")
    grid = Table.grid(padding=(0, 3, 0, 0))
    for justify in ("left", "right", "left"):
        grid.add_column(justify=justify, no_wrap=justify != "left")
    for kind, those in by_type.items():
        if those:
            worst = max(one.severity for one in those)
            apps: dict[str, int] = {}
            for one in those:
                app = application(one)
                apps[app] = apps.get(app, 0) + 1
            grid.add_row(
                text(f"● {kind.value}", SEVERITY_STYLE[worst.label]), text(len(those)), text(joined_counts(apps), "dim")
            )
    out.print(grid)
    _section(out, "The latest of each kind: why it is one, and where to look")
    print_cards(out, (those[0] for those in by_type.values() if those))


def _print_before_and_after(out: Console, found: Found) -> None:
    chosen = _telling_capture(found)
    if chosen is None:
        return
    raw = found.raw_by_span_id[chosen.greatest.span_id]
    before = json_view(_marked(json_lines(raw), found.planted))
    after = json_view(json_lines(chosen.to_document()["trace_payload"]))
    _section(out, "One capture in full, before and after")
    facts = [
        ("trace", chosen.trace_id),
        ("why", reason(chosen.signals[0])),
        ("removed", joined_counts(chosen.redactions)),
        ("user", f"{chosen.user_hash}, the keyed hash of the user id" if chosen.user_hash else None),
    ]
    out.print(facts_grid(facts))
    out.print()
    out.print(_two_texts(("What Datadog holds", before), ("What the store holds", after), out.width))


def _telling_capture(found: Found) -> FailureCapture | None:
    """The capture from which the most was removed, among those that fit on a page."""
    candidates = []
    for capture in found.captures:
        raw = found.raw_by_span_id.get(capture.greatest.span_id)
        if raw is not None and len(json_lines(raw)) <= _MAX_SHOWN_LINES:
            candidates.append((sum(capture.redactions.values()), capture.trace_id, capture))
    return max(candidates, default=(0, "", None), key=lambda candidate: candidate[:2])[2]


def _marked(lines: list[tuple[int, Text]], planted: Iterable[str]) -> list[tuple[int, Text]]:
    """The same lines with every personal string of the samples in red."""
    # Longest first, so that a name inside an address does not hide the rest of it.
    words = sorted({safe(word) for word in planted}, key=len, reverse=True)
    personal = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    for _, line in lines:
        line.highlight_regex(personal, "bold red")
    return lines


def _two_texts(left: tuple[str, RenderableType], right: tuple[str, RenderableType], width: int) -> RenderableType:
    (left_title, before), (right_title, after) = left, right
    if width < SIDE_BY_SIDE_COLUMNS:
        return Group(text(left_title, "bold underline"), before, Text(), text(right_title, "bold underline"), after)
    grid = Table.grid(padding=(0, 3, 0, 0), expand=True)
    grid.add_column(ratio=1, overflow="fold")
    grid.add_column(ratio=1, overflow="fold")
    grid.add_row(text(left_title, "bold underline"), text(right_title, "bold underline"))
    grid.add_row(before, after)
    return grid


def _print_privacy(out: Console, found: Found, store_path: Path) -> None:
    left = leaked(store_path, found.planted)
    _section(out, "Is anything personal left?")
    if left:
        out.print(
            text(
                f"{counted(len(left), 'planted string')} of {len(found.planted):,} found in the file. Please report this.",
                "bold red",
            )
        )
    else:
        out.print(
            text(
                f"None of the {len(found.planted):,} personal strings that were planted in the samples (names, addresses, "
                "phone numbers, cards, keys) is anywhere in the file.",
                "green",
            )
        )


def leaked(store_path: Path, planted: Iterable[str]) -> list[str]:
    """The planted strings that the bytes of the store's files hold, in any case."""
    held = b"".join(
        path.read_bytes() for suffix in ("", "-wal") if (path := store_path.with_name(store_path.name + suffix)).exists()
    ).lower()
    return [word for word in planted if word.lower().encode() in held or _escaped(word) in held]


def _escaped(word: str) -> bytes:
    return word.lower().encode("ascii", "backslashreplace").lower()


def _print_next(out: Console, found: Found, store_path: Path) -> None:
    program = _program()
    example = found.captures[0].trace_id if found.captures else "TRACE_ID"
    _section(out, "What to do next")
    steps: Collection[tuple[str, Sequence[str]]] = (
        (
            "Look at these captures",
            (
                f"export CAPTURE_STORE=sqlite:///{store_path}",
                f"{program} captures list --severity critical",
                f"{program} captures show {example}",
                f"{program} groups list",
                f"{program} serve    # and open http://127.0.0.1:8000",
            ),
        ),
        (
            "Make an eval of them, and run it with promptfoo",
            (
                f"{program} export --format promptfoo --out failures",
                "npx promptfoo@latest eval -c failures/promptfooconfig.yaml",
            ),
        ),
        (
            "Read your own failures (docs/configuration.md has every setting)",
            (
                "export DATADOG_SITE=datadoghq.com DATADOG_API_KEY=... DATADOG_APP_KEY=...",
                f"{program} check",
                f"{program} ingest --lookback 24",
            ),
        ),
    )
    for title, lines in steps:
        out.print(text(title))
        for line in lines:
            shown = text(f"  {line}", "bold cyan")
            shown.no_wrap, shown.overflow = True, "ignore"
            out.print(shown, soft_wrap=True)
    out.print(
        text(
            "This demo hashed user ids with a random PII_SALT and threw it away, and kept what was said, scrubbed "
            "(PII_TEXT_ALLOWLIST): nothing else does that. Set your own salt, and keep it.",
            "dim",
        )
    )


def _program() -> str:
    """How the reader calls this program from here."""
    called = Path(sys.argv[0])
    found = shutil.which("evalforge")
    if found is not None and called.exists() and Path(found).samefile(called):
        return "evalforge"
    return os.path.relpath(called) if called.name == "evalforge" else "evalforge"
