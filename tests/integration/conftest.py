"""Which integration tests `make test` leaves to `make test-all`."""

from __future__ import annotations

from pathlib import Path

import pytest

ON_THE_EMULATOR_LATER = frozenset({"test_audit_purge.py", "test_erasure.py", "test_nothing_leaves.py"})
"""Files whose processes take long on the emulator: `make test` runs them on SQLite; the contract suite runs on both."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the emulator's variants of those files as long."""
    for item in items:
        if Path(item.path).name in ON_THE_EMULATOR_LATER and "firestore" in item.name.partition("[")[2]:
            item.add_marker(pytest.mark.long)
