"""Imports run one way, and the core stays pure. A second test proves that the first can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "evalforge"

RANKS = {
    "errors": 0,
    "garbage": 0,
    "core": 1,
    "config": 2,
    "events": 2,
    "google_credentials": 2,
    "datadog_http": 2,
    "telemetry": 3,
    "credentials": 3,
    "archives": 3,
    "ingest": 3,
    "measuring": 3,
    "runs": 3,
    "completeness": 3,
    "dead_letters": 3,
    "review": 3,
    "enrichment": 3,
    "erasure": 3,
    "migration": 3,
    "probes": 3,
    "rehearsal": 3,
    "rejudging": 3,
    "sweep": 3,
    "upkeep": 3,
    "users": 3,
    "sources": 3,
    "stores": 3,
    "exports": 3,
    "telling": 3,
    "webhook": 3,
    "bootstrap": 4,
    "inventory": 4,
    "service": 5,
    "scale": 5,
    "cli": 6,
    "sandbox": 7,
}
USE_CASES = {
    "archives",
    "ingest",
    "measuring",
    "enrichment",
    "rehearsal",
    "rejudging",
    "runs",
    "review",
    "telling",
    "erasure",
    "probes",
    "users",
    "upkeep",
    "sweep",
    "migration",
    "completeness",
    "dead_letters",
}
IMPURE = {
    "os",
    "io",
    "time",
    "random",
    "socket",
    "logging",
    "asyncio",
    "threading",
    "subprocess",
    "pathlib",
    "sqlite3",
    "httpx",
}
MAKERS = {"SanitizedSpan": "core/privacy", "FailureCapture": "core/capture.py"}


@cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    """All the nodes of a file's tree: two tests look at them."""
    return tuple(ast.walk(ast.parse(source)))


def imports_of(source: str) -> Iterator[str]:
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "evalforge" and len(parts) > 1 and parts[1] in RANKS else None


def wrong_imports(path: str, source: str) -> list[str]:
    """The imports in one file that the house does not allow."""
    here = path.split("/")[0].removesuffix(".py")
    wrong = []
    for module in imports_of(source):
        there = room_of(module)
        if here == "core" and module.split(".")[0] in IMPURE:
            wrong.append(f"{path}: the core is pure, but imports {module}")
        if there is None or there == here or here.startswith("__"):
            continue
        shares = here in USE_CASES and there in USE_CASES
        if here == "sandbox" or there == "sandbox":
            if here != "cli":
                wrong.append(f"{path}: the sandbox stands alone, but {here} imports {module}")
        elif RANKS[there] > RANKS[here] or (RANKS[there] == RANKS[here] and not shares):
            wrong.append(f"{path}: {here} must not import {module}")
    return wrong


def files() -> list[tuple[str, str]]:
    return [(str(path.relative_to(PACKAGE)), path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))]


def test_imports_run_one_way() -> None:
    assert [line for path, source in files() for line in wrong_imports(path, source)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/signals.py", "import os"),
        ("core/privacy/fields.py", "from evalforge.config import Settings"),
        ("stores/sqlite.py", "from evalforge.sources.datadog import client"),
        ("sources/datadog/client.py", "def f():\n    import evalforge.bootstrap"),
        ("service/app.py", "from evalforge import cli"),
        ("sandbox/app.py", "from evalforge.errors import FatalError"),
        ("service/app.py", "from evalforge.sandbox import server"),
    ],
)
def test_a_wrong_import_is_seen(path: str, source: str) -> None:
    assert wrong_imports(path, source)


def test_every_room_has_a_rank() -> None:
    rooms = {path.split("/")[0].removesuffix(".py") for path, _ in files()}
    assert {room for room in rooms if not room.startswith("__")} <= set(RANKS)


def test_only_the_sanitizer_makes_what_a_store_accepts() -> None:
    for path, source in files():
        for node in nodes_of(source):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
                assert path.startswith(MAKERS[node.func.id]), f"{path}:{node.lineno} makes a {node.func.id}"


def test_only_config_touches_the_environment() -> None:
    touching = {path for path, source in files() if "os.environ" in source or "os.getenv" in source}
    assert touching == {"config/__init__.py"}
