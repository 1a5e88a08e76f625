"""Which integration tests `make test` leaves to `make test-all`."""

from __future__ import annotations

from pathlib import Path

import pytest

ON_THE_EMULATOR_LATER = frozenset({"test_audit_purge.py", "test_erasure.py", "test_nothing_leaves.py"})
"""Files whose processes take long on the emulator: `make test` runs them on SQLite; the contract suite runs on both."""

MODES_ON_THE_EMULATOR_LATER = frozenset({"firestore-scan", "firestore-query"})
"""The main job on the emulator: `make test` runs it in the default mode; a mode is the source's matter, not the store's."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the emulator's variants of those files as long."""
    for item in items:
        name, variant = Path(item.path).name, item.name.partition("[")[2].rstrip("]")
        is_slow_file = name in ON_THE_EMULATOR_LATER and "firestore" in variant
        if is_slow_file or (name == "test_end_to_end.py" and variant in MODES_ON_THE_EMULATOR_LATER):
            item.add_marker(pytest.mark.long)
