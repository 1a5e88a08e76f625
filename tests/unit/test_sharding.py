"""Live ingestion sharded by application: what two services share under one prefix, and that under two they share nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evalforge.core.plans import SinceLast
from evalforge.core.ports import Checkpoint
from evalforge.core.window import MS_PER_HOUR, Window, epoch_ms
from evalforge.errors import RunInProgressError
from evalforge.runs import taken_lease
from evalforge.stores.sqlite import SqliteStore

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR = Window(epoch_ms(NOW) - MS_PER_HOUR, epoch_ms(NOW))


def stores(path: Path, *prefixes: str) -> list[SqliteStore]:
    return [SqliteStore(str(path / "captures.sqlite3"), prefix=prefix) for prefix in prefixes]


async def test_shards_with_prefixes_of_their_own_share_neither_lease_nor_checkpoint(tmp_path: Path) -> None:
    support, ops = stores(tmp_path, "evalforge_support_", "evalforge_ops_")
    await taken_lease(support, "support", NOW)
    lease = await taken_lease(ops, "ops", NOW)
    done = Checkpoint("llm_obs", HOUR, query_digest="support's", done=True, tier="recent", began_ms=HOUR.to_ms)
    assert await support.save_checkpoint(done, fence=1)
    assert await ops.load_checkpoints("llm_obs", ["recent"]) == {}
    assert await ops.save_checkpoint(replace(done, query_digest="ops'"), fence=lease.fence)
    assert (await support.load_checkpoints("llm_obs", ["recent"]))["recent"].query_digest == "support's"
    for store in (support, ops):
        await store.close()


async def test_under_one_prefix_they_take_turns_and_take_each_others_windows_for_read(tmp_path: Path) -> None:
    """What docs/scale.md warns of: the place of incremental runs is a prefix's, whatever their scope."""
    support, ops = stores(tmp_path, "evalforge_", "evalforge_")
    await taken_lease(support, "support", NOW)
    with pytest.raises(RunInProgressError):
        await taken_lease(ops, "ops", NOW)
    done = Checkpoint("llm_obs", HOUR, query_digest="support's", done=True, tier="recent", began_ms=HOUR.to_ms)
    await support.save_checkpoint(done, fence=1)
    known = await ops.load_checkpoints("llm_obs", ["recent"])
    [recent, *_] = SinceLast(24 * MS_PER_HOUR).due(known, epoch_ms(NOW + timedelta(minutes=5)))
    assert recent.windows[0][0].from_ms > HOUR.from_ms - MS_PER_HOUR, "the 24 hours before are taken for read"
    for store in (support, ops):
        await store.close()
