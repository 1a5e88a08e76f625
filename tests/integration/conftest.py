"""Which integration tests `make test` leaves to `make test-all`."""

from __future__ import annotations

from pathlib import Path

import pytest

ON_THE_EMULATOR_LATER = frozenset(
    {
        "test_audit_purge.py",
        "test_datadog_enrichment.py",
        "test_datadog_roots.py",
        "test_erasure.py",
        "test_nothing_leaves.py",
    }
)
"""Files that take long on the emulator: `make test` runs them on SQLite; the contract suite runs on both."""

LATER = frozenset(
    {
        ("test_end_to_end.py", "firestore-scan"),
        ("test_end_to_end.py", "firestore-query"),
        ("test_all_signals_in_every_place_of_both_sources_none_missed_none_invented", "firestore-auto"),
        ("test_all_signals_in_every_place_of_both_sources_none_missed_none_invented", "sqlite-scan"),
    }
)
"""Variants of the main job, by file or test. `make test` runs the default mode on both stores and the others on SQLite, for
a mode is the source's matter; and it asks for every signal in every place in the default mode on SQLite."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the emulator's variants of those files as long."""
    for item in items:
        name, (test, _, variant) = Path(item.path).name, item.name.rstrip("]").partition("[")
        is_slow_file = name in ON_THE_EMULATOR_LATER and "firestore" in variant
        if is_slow_file or (name, variant) in LATER or (test, variant) in LATER:
            item.add_marker(pytest.mark.long)
