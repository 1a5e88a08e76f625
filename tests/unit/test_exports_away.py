"""Destinations that the settings declare: folders, buckets, and webhooks that get one signed POST a file."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from evalforge.bootstrap.exports import declared_destination, one_package, recent_packages, retry_once
from evalforge.config import Settings
from evalforge.config.values import spelled_destinations
from evalforge.core.ports import Selection
from evalforge.errors import DestinationRefusedError, DestinationUnavailableError, NotFoundError, RequestError, SettingsError
from evalforge.exports import Destination, Shape, write_package
from evalforge.exports.buckets import Bucket
from evalforge.exports.webhooks import ATTEMPT, FILE, PACKAGE, SHA256, Webhook
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW, trace_id_of
from tests.packages import told

URL = "https://evals.example.com/hook"
HOOK_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    await opened.upsert([told(1), told(2)], now=NOW)
    yield opened
    await opened.close()


class Receiver:
    """Takes posts, and fails at the one that it is told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.posts: list[dict[str, Any]] = []

    async def __call__(
        self, url: str, secret: str, body: bytes, *, content_type: str, headers: Mapping[str, str], message_id: str
    ) -> None:
        """One post."""
        if len(self.posts) == self.fails_at:
            raise DestinationUnavailableError("the receiver is down")
        self.posts.append({"url": url, "secret": secret, "body": body, "type": content_type, "id": message_id, **headers})


def hook(receiver: Receiver) -> Destination:
    return Destination("hook", away=Webhook("hook", URL, "whsec_abc", receiver))


async def test_each_file_is_a_post_and_the_manifest_the_last(store: SqliteStore) -> None:
    receiver = Receiver()
    written = await write_package(store, Selection(), hook(receiver), now=NOW, shape=Shape("promptfoo"))
    assert [one[FILE] for one in receiver.posts] == [*(one.name for one in written.package.files), "manifest.json"]
    for post in receiver.posts:
        assert (post["url"], post["secret"]) == (URL, "whsec_abc")
        assert (post[PACKAGE], post[ATTEMPT]) == (written.package.id, "1")
        assert post[SHA256] == sha256(post["body"]).hexdigest()
        assert post["id"].startswith(written.package.id)
    assert len({post["id"] for post in receiver.posts}) == len(receiver.posts)
    assert receiver.posts[-1]["type"] == "application/json"
    assert json.loads(receiver.posts[-1]["body"])["package"]["id"] == written.package.id


async def test_a_receiver_that_fails_never_gets_a_manifest(store: SqliteStore) -> None:
    receiver = Receiver(fails_at=3)
    with pytest.raises(DestinationUnavailableError):
        await write_package(store, Selection(), hook(receiver), now=NOW, shape=Shape("promptfoo"))
    assert "manifest.json" not in [one[FILE] for one in receiver.posts]
    [record] = await store.packages()
    assert (record.state, record.reason) == ("failed", "destination_unavailable")


async def test_a_file_too_large_for_a_post_is_refused_before_any_is_sent(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalforge.exports.webhooks.MAX_FILE_BYTES", 100)
    receiver = Receiver()
    with pytest.raises(DestinationRefusedError, match="select less"):
        await write_package(store, Selection(), hook(receiver), now=NOW)
    assert receiver.posts == []


# -- what the settings declare --------------------------------------------------------------------------------------------


def declared(tmp_path: Path, **others: str) -> Settings:
    places = f"evals={tmp_path / 'evals'},lake=gs://team-bucket/evals/prod/,hook={URL}?key=hunter2"
    store = {"CAPTURE_STORE": f"sqlite:///{tmp_path / 'c.sqlite3'}"}
    return Settings.from_environment({"EXPORT_DESTINATIONS": places} | store | others)


async def test_a_name_leads_to_its_place_and_no_other(tmp_path: Path) -> None:
    settings = declared(tmp_path, EXPORT_WEBHOOK_SECRET=HOOK_SECRET, CLOUD_STORAGE_ENDPOINT="127.0.0.1:4443")
    assert (await declared_destination(settings, "evals")).folder == tmp_path / "evals"
    assert isinstance((await declared_destination(settings, "lake")).away, Bucket)
    assert settings.export_folders == {"evals": str(tmp_path / "evals")}
    for name in ("other", "../evals", "", "EVALS"):
        with pytest.raises(NotFoundError, match="evals, lake, hook"):
            await declared_destination(settings, name)
    with pytest.raises(SettingsError, match="EXPORT_WEBHOOK_SECRET"):
        await declared_destination(declared(tmp_path), "hook")


def test_the_address_of_a_webhook_is_not_shown(tmp_path: Path) -> None:
    settings = declared(tmp_path)
    assert "hunter2" not in spelled_destinations(settings.export_destinations)
    assert "hunter2" not in repr(settings.shown())
    assert "https://evals.example.com/…" in settings.shown()["EXPORT_DESTINATIONS"]
    assert "gs://team-bucket/evals/prod/" in settings.shown()["EXPORT_DESTINATIONS"]


# -- the records ----------------------------------------------------------------------------------------------------------


async def test_packages_are_listed_shown_and_made_again(tmp_path: Path) -> None:
    settings = declared(tmp_path)
    store = SqliteStore(str(tmp_path / "c.sqlite3"), prefix="evalforge_")
    await store.upsert([told(1), told(2)], now=NOW)
    receiver = Receiver(fails_at=0)
    destination = Destination("evals", away=Webhook("evals", URL, "s", receiver))  # it was a webhook then
    with pytest.raises(DestinationUnavailableError):
        await write_package(store, Selection(), destination, now=NOW, shape=Shape("deepeval"))
    own = await write_package(store, Selection(), Destination(path=tmp_path / "mine.jsonl"), now=NOW)
    rows = await recent_packages(settings, store, limit=5)
    assert {one["id"]: (one["state"], "capture_ids" in one) for one in rows} == {
        rows[0]["id"]: (rows[0]["state"], False),
        rows[1]["id"]: (rows[1]["state"], False),
    }
    failed = next(one for one in rows if one["state"] == "failed")
    shown = await one_package(settings, store, failed["id"])
    assert shown["reason_text"] == "the bucket or webhook was down or unreachable"
    assert len(shown["capture_ids"]) == 2
    with pytest.raises(NotFoundError):
        await one_package(settings, store, "export_x")
    await store.delete_captures([trace_id_of(9)])
    await store.close()

    again = await retry_once(settings, failed["id"])
    assert (again.differs, again.package.state, again.package.attempts) == (False, "delivered", 2)
    assert (tmp_path / "evals" / failed["id"] / "goldens.json").exists() or any(
        (tmp_path / "evals" / failed["id"]).iterdir()
    )
    for package_id, says in ((failed["id"], "was delivered"), (own.package.id, "was delivered")):
        with pytest.raises(RequestError, match=says):
            await retry_once(settings, package_id)
    with pytest.raises(NotFoundError):
        await retry_once(settings, "\x1b[2J")
