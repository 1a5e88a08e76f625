"""The figures as text: against what is to be reached, by kind, beside the peers, and the list of misses."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from bench.privacy.beside import Column
from bench.privacy.case import Planted
from bench.privacy.needles import NAMES, SECRETS
from bench.privacy.scorer import Score, by_kind
from bench.privacy.speed import Speed

GROUPS = {
    "specified": "what the specification names",
    "spellings": "other spellings and containers",
    "encoded": "encoded or obfuscated",
    "prose": "names and addresses in prose",
    "conversations": "allow-listed conversations",
    "identifiers": "structured identifiers and secrets in text",
}


def share(part: float, whole: float) -> str:
    """A percentage."""
    return "-" if not whole else f"{100 * part / whole:.2f} %"


def _leaked(
    score: Score,
    group: str,
    kinds: frozenset[str] | None = None,
    without: frozenset[str] = frozenset(),
    form: Callable[[str], bool] | None = None,
) -> str:
    if form is not None:
        forms = [key for key in score.forms if key[0] == group and form(key[1])]
        return (
            f"{share(sum(map(score.leaked_forms.__getitem__, forms)), sum(map(score.forms.__getitem__, forms)))} of "
            + str(sum(map(score.forms.__getitem__, forms)))
        )
    keys = [key for key in score.planted if key[0] == group and (kinds is None or key[1] in kinds) and key[1] not in without]
    planted, leaked = sum(score.planted[key] for key in keys), sum(score.leaked[key] for key in keys)
    return f"{share(leaked, planted)} of {planted}"


def _words(score: Score, *kinds: str, group: str | None = None) -> str:
    keys = [key for key in score.words if key[1] in kinds and group in (None, key[0])]
    total = sum(score.words[key] for key in keys)
    return f"{share(sum(score.words_kept[key] for key in keys), total)} of {total:,}"


def _lost(score: Score, what: str) -> str:
    return f"{share(score.lost[what], score.kept[what])} of {score.kept[what]}"


def _rows(score: Score) -> list[tuple[str, str, str]]:
    return [
        ("leaks: what the specification names", "0 %", _leaked(score, "specified")),
        ("leaks: other spellings and containers", "≤ 0.5 %", _leaked(score, "spellings")),
        ("leaks: encoded or obfuscated", "≤ 3 %", _leaked(score, "encoded")),
        ("leaks: names and addresses in prose", "≤ 3 %", _leaked(score, "prose")),
        ("of these, names made of ordinary words", "", _leaked(score, "prose", form=lambda form: "of words" in form)),
        ("leaks: people's names in prose", "≤ 5 %", _leaked(score, "prose", NAMES)),
        ("leaks: allow-listed conversations", "≤ 1 %", _leaked(score, "conversations")),
        ("leaks: structured identifiers in text", "≤ 1 %", _leaked(score, "identifiers", without=SECRETS)),
        ("leaks: secrets in text", "≤ 3 %", _leaked(score, "identifiers", SECRETS)),
        ("lost: what a payload keeps", "0 %", _lost(score, "what a payload keeps")),
        ("lost: ordinary telemetry", "≤ 6 %", _lost(score, "ordinary telemetry")),
        ("words kept: harmless reasoning", "≥ 95 %", _words(score, "reasoning", group="clean")),
        ("words kept: harmless error messages", "≥ 85 %", _words(score, "error message", group="clean")),
        ("words kept: around names in prose", "≥ 85 %", _words(score, "reasoning", "error message", group="prose")),
        ("words kept: around values in allow-listed conversations", "≥ 70 %", _words(score, "conversation", "document")),
        ("words kept: harmless allow-listed chats", "≥ 85 %", _words(score, "harmless chat", "filler")),
        ("users with an id whose hash is right", "100 %", f"{share(score.users_right, score.users)} of {score.users}"),
        ("spans that gave another document the second time", "0", str(score.unstable)),
    ]


def figures(score: Score) -> list[str]:
    """One row for each figure to reach."""
    return [
        "| figure | to reach | measured |",
        "| --- | ---: | ---: |",
        *(f"| {what} | {aim} | {found} |" for what, aim, found in _rows(score)),
    ]


def by_kind_table(score: Score, *, forms: bool = True) -> list[str]:
    """Recall by kind (rows) and group (columns); then the forms of which something leaked."""
    groups = [group for group in GROUPS if any(key[0] == group for key in score.planted)]
    found = {group: by_kind(score, group) for group in groups}
    lines = ["", f"| removed, by kind | {' | '.join(groups)} |", f"| --- |{' ---: |' * len(groups)}"]
    for kind in sorted({kind for kinds in found.values() for kind in kinds}):
        cells = []
        for group in groups:
            planted, leaked = found[group].get(kind, (0, 0))
            cells.append(f"{100 - 100 * leaked / planted:.1f} % of {planted}" if planted else "")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    if forms:
        lines += ["", "| group | form | planted | leaked |", "| --- | --- | ---: | ---: |"]
        for (group, form), planted in sorted(score.forms.items()):
            if score.leaked_forms[group, form]:
                lines.append(f"| {group} | {form} | {planted} | {share(score.leaked_forms[group, form], planted)} |")
    return lines


# -- peers and speed ------------------------------------------------------------------------------------------------------


def peers_table(columns: Sequence[Column], spans: int) -> list[str]:
    """One column for each tool, on the same spans."""
    run = [
        (column.title, column.score, column.speed)
        for column in columns
        if column.score is not None and column.speed is not None
    ]
    lines = [
        f"On the same {spans:,} spans, a sample of every group:",
        "",
        f"| | {' | '.join(title for title, _, _ in run)} |",
        f"| --- |{' ---: |' * len(run)}",
    ]

    def row(what: str, cells: Iterable[str]) -> None:
        lines.append(f"| {what} | {' | '.join(cells)} |")

    for group, label in GROUPS.items():
        row(f"left: {label}", [_leaked(score, group).partition(" of")[0] for _, score, _ in run])
    for what in ("what a payload keeps", "ordinary telemetry"):
        row(f"lost: {what}", [_lost(score, what).partition(" of")[0] for _, score, _ in run])
    for label, kinds in (
        ("harmless reasoning", ("reasoning",)),
        ("harmless error messages", ("error message",)),
        ("harmless allow-listed chats", ("harmless chat", "filler")),
    ):
        row(f"words kept: {label}", [_words(score, *kinds).partition(" of")[0] for _, score, _ in run])
    row("MB/s", [f"{speed.mb_s:.2f}" for _, _, speed in run])
    row("× orjson.loads", [f"{speed.ratio:.4f}" for _, _, speed in run])
    row("p99 per span, ms", [f"{speed.p99_ms:.2f}" for _, _, speed in run])
    lines.append("")
    lines += [f"- {column.title}: {column.remark}." for column in columns]
    return lines


def speed_table(modes: Mapping[str, Speed], growth: Mapping[str, tuple[float, float]], spans: int, size: float) -> list[str]:
    """Speed by mode, and how time grows with the length of one text."""
    lines = [
        f"Judging apart, sanitizing {spans:,} failing spans of {size:.1f} KB on one core (to reach: 0.06 × and 3 ms):",
        "",
        "| mode | MB/s | × orjson.loads | p99 per span, ms |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [f"| {mode} | {speed.mb_s:.1f} | {speed.ratio:.3f} | {speed.p99_ms:.2f} |" for mode, speed in modes.items()]
    lines += [
        "",
        "One reasoning of 4 to 250 KB (longer texts are closed whole). The exponent is the fitted power law's; 1 is linear:",
        "",
        "| text | exponent | MB/s at 250 KB |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| `{shape}` | {slope:.2f} | {mb_s:.1f} |" for shape, (slope, mb_s) in growth.items()]
    return lines


def machine() -> str:
    """When and on what this was measured."""
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


# -- misses ---------------------------------------------------------------------------------------------------------------


def misses(score: Score) -> list[str]:
    """Every leak and loss on a line, grouped by kind; then the harmless words that were removed most often."""
    return [*_leaks(score), *_losses(score), *_removed(score)]


def _leaks(score: Score) -> Iterator[str]:
    def order(planted: Planted) -> tuple[str, str, str]:
        return planted.kind, planted.form, planted.carrier

    for leak in sorted(score.leaks, key=lambda leak: (leak.group, *order(leak.planted))):
        yield leak.line()


def _losses(score: Score) -> Iterator[str]:
    lines: dict[str, int] = {}
    for loss in score.losses:
        lines[loss.line()] = lines.get(loss.line(), 0) + 1
    for line, times in sorted(lines.items()):
        yield f"{line}  ×{times}"


def _removed(score: Score) -> Iterator[str]:
    for (kind, word), times in score.removed_words.most_common(400):
        yield f"WORD  {kind:14} {word} ×{times}"
