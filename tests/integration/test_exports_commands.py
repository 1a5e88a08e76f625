"""Exports as a person at the command line makes them: a format, a folder, a split, a destination, and what became of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evalforge.sandbox.server import BackgroundServer
from tests.integration.commands import PLAIN, evalforge
from tests.packages import MADE_FORMATS, content, manifest
from tests.storage import Storage, storage
from tests.webhooks import Receiver, answer

__all__ = ["storage"]

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
WIDE = {"COLUMNS": "200"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment whose store holds the samples' captures with their texts, and one destination."""
    folder = tmp_path_factory.mktemp("filled")
    with BackgroundServer(samples=True, traces=60) as sandbox:
        environment = PLAIN | {
            "DATADOG_API_URL": sandbox.url,
            "DATADOG_API_KEY": "hunter2-api-key",
            "DATADOG_APP_KEY": "hunter2-app-key",
            "PII_SALT": SALT,
            "PII_TEXT_ALLOWLIST": "input,output",
            "CAPTURE_STORE": f"sqlite:///{folder / 'captures.sqlite3'}",
            "EXPORT_DESTINATIONS": f"evals={folder / 'evals'}",
        }
        evalforge(environment, "ingest")
        yield environment


@pytest.mark.parametrize("name", MADE_FORMATS)
def test_a_format_and_a_folder_are_all_it_takes(filled: dict[str, str], tmp_path: Path, name: str) -> None:
    done = evalforge(filled, "export", "--format", name, "--out", "evals/", cwd=tmp_path)
    document = manifest(tmp_path / "evals")
    assert document["counts"]["taken"] > 5
    assert document["package"]["id"] in done.stderr
    assert done.stdout == ""
    evalforge(filled, "export", "--format", name, "--out", "again/", cwd=tmp_path)
    first, second = content(tmp_path / "evals"), content(tmp_path / "again")
    del first["manifest.json"], second["manifest.json"]
    assert first == second, "another process, the same bytes"


def test_what_is_asked_for_is_what_is_made(filled: dict[str, str], tmp_path: Path) -> None:
    done = evalforge(
        filled, "export", "--format", "deepeval", "--one-per-group", "--split", "test=0.4", "--out", "p", cwd=tmp_path
    )
    document = manifest(tmp_path / "p")
    assert document["filters"] == {"per_group": 1, "test_share": 0.4}
    counts = document["counts"]
    assert counts["train"] + counts["test"] == counts["taken"]
    assert f"{counts['surplus']:,} beyond --per-group" in done.stderr
    groups = json.loads(evalforge(filled, "groups", "list", "--limit", "500", "--json").stdout)["groups"]
    assert counts["taken"] <= len(groups)
    evalforge(filled, "export", "--format", "deepeval", "--out", "p", code=2, cwd=tmp_path)
    evalforge(filled, "export", "--format", "promptfoo", "--limit", "3", "--out", "p", "--force", cwd=tmp_path)
    assert manifest(tmp_path / "p")["counts"]["taken"] == 3


def test_json_lines_are_a_file_or_a_package_by_one_rule(filled: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for out, is_package in (("a.jsonl", False), ("b", False), ("c/", True), ("there", True)):
        evalforge(filled, "export", "--limit", "2", "--out", out, cwd=tmp_path)
        assert (tmp_path / out).is_dir() == is_package
        lines = (tmp_path / out / "captures.jsonl" if is_package else tmp_path / out).read_bytes().splitlines()
        assert len(lines) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "x", "--to", "evals"],
        [],
        ["--to", "nowhere"],
        ["--to", "../evals"],
        ["--out", "x", "--format", "yaml"],
        ["--out", "x", "--format", "promptfoo", "--split", "test=2"],
        ["--out", "x/", "--split", "test=0"],
        ["--out", "x/", "--split", "train=0.2"],
        ["--out", "x", "--split", "test=0.2"],
        ["--out", "-", "--format", "promptfoo"],
        ["--out", "x/", "--per-group", "0"],
        ["--out", "x/", "--per-group", "3", "--one-per-group"],
        ["--out", "x/", "--user-id", "ann"],
        ["--to", "evals", "--user-id", "ann"],
        ["--out", "x/", "--signature", "nonsense"],
    ],
)
def test_what_cannot_be_meant_is_refused_with_nothing_written(
    filled: dict[str, str], tmp_path: Path, arguments: list[str]
) -> None:
    evalforge(filled, "export", *arguments, code=2, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def packages(environment: dict[str, str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in evalforge(environment, "exports", "list", "--json").stdout.splitlines()]


def test_packages_are_listed_and_shown(filled: dict[str, str]) -> None:
    evalforge(filled, "export", "--format", "langsmith", "--severity", "high", "--to", "evals")
    [package, *_] = packages(filled)
    assert (package["state"], package["destination"], package["format"]) == ("delivered", "evals", "langsmith")
    listed = evalforge(filled | WIDE, "exports", "list").stdout
    assert package["id"] in listed
    assert "delivered" in listed
    shown = evalforge(filled | WIDE, "exports", "show", package["id"]).stdout
    for words in ("severity high", "examples.jsonl", package["sha256"], "langsmith"):
        assert words in shown
    whole = json.loads(evalforge(filled, "exports", "show", "--json", package["id"]).stdout)
    assert len(whole["capture_ids"]) == package["count"]
    assert "no package" in evalforge(filled, "exports", "show", "\x1b[2J", code=2).stderr
    assert "was delivered" in evalforge(filled, "exports", "retry", package["id"], code=2).stderr


def test_a_package_that_failed_is_delivered_again(filled: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = filled | {"EXPORT_DESTINATIONS": f"mended={tmp_path / 'file' / 'x'}"}
    done = evalforge(broken, "export", "--format", "promptfoo", "--limit", "4", "--to", "mended", code=2)
    assert "EXPORT_DESTINATIONS" in done.stderr
    [package, *_] = packages(filled)
    assert (package["state"], package["reason"]) == ("failed", "bad_settings")
    assert "destination" in evalforge(filled, "exports", "retry", package["id"], code=2).stderr
    mended = filled | {"EXPORT_DESTINATIONS": f"mended={tmp_path / 'there'}"}
    evalforge(mended, "exports", "retry", package["id"])
    assert manifest(tmp_path / "there" / package["id"])["counts"]["taken"] == 4
    [package, *_] = packages(filled)
    assert (package["state"], package["attempts"]) == ("delivered", 2)


@pytest.mark.long
def test_a_process_that_died_left_an_abandoned_package(filled: dict[str, str], tmp_path: Path) -> None:
    store = Path(filled["CAPTURE_STORE"].removeprefix("sqlite:///"))
    evalforge(filled, "export", "--limit", "2", "--to", "evals")
    [package, *_] = packages(filled)
    with sqlite3.connect(store) as opened:  # as if it had been killed before it was delivered
        opened.execute(
            "UPDATE evalforge_exports SET document = replace(document, 'delivered', 'pending') WHERE id = ?",
            (package["id"],),
        )
    assert packages(filled)[0]["state"] == "pending"
    assert "at this moment" in evalforge(filled, "exports", "retry", package["id"], code=2).stderr
    impatient = filled | {"RUN_BUDGET_S": "1"}
    time.sleep(1.1)
    assert packages(impatient)[0]["state"] == "abandoned"
    assert "its process died" in evalforge(impatient | WIDE, "exports", "show", package["id"]).stdout
    assert "The same bytes" in evalforge(impatient, "exports", "retry", package["id"]).stderr
    assert packages(filled)[0]["state"] == "delivered"


def test_closed_texts_make_no_tests_and_it_is_said_why(filled: dict[str, str], tmp_path: Path) -> None:
    with BackgroundServer(samples=True, traces=10) as sandbox:
        closed = filled | {
            "DATADOG_API_URL": sandbox.url,
            "PII_TEXT_ALLOWLIST": "",
            "CAPTURE_STORE": f"sqlite:///{tmp_path / 'closed.sqlite3'}",
        }
        evalforge(closed, "ingest")
    done = evalforge(closed, "export", "--format", "promptfoo", "--out", "p", code=2, cwd=tmp_path)
    assert "closed texts" in done.stderr
    assert "PII_TEXT_ALLOWLIST" in done.stderr
    assert not (tmp_path / "p").exists()
    assert packages(closed)[0]["reason"] == "texts_closed"
    done = evalforge(closed, "export", "--out", "all.jsonl", cwd=tmp_path)
    assert "PII_TEXT_ALLOWLIST" in done.stderr
    assert (tmp_path / "all.jsonl").stat().st_size > 0


@pytest.mark.long
def test_an_erasure_reaches_packages_of_every_format(filled: dict[str, str], tmp_path: Path) -> None:
    own = filled | {
        "CAPTURE_STORE": f"sqlite:///{tmp_path / 'own.sqlite3'}",
        "EXPORT_DESTINATIONS": f"evals={tmp_path / 'evals'}",
    }
    store = Path(filled["CAPTURE_STORE"].removeprefix("sqlite:///"))
    with sqlite3.connect(store) as opened, sqlite3.connect(tmp_path / "own.sqlite3") as copy:
        opened.backup(copy)
    for name in MADE_FORMATS:
        evalforge(own, "export", "--format", name, "--to", "evals")
    folders = sorted((tmp_path / "evals").iterdir())
    assert len(folders) == len(MADE_FORMATS)
    rows = [json.loads(line) for line in (folders[-1] / "examples.jsonl").read_bytes().splitlines()]
    gone = rows[0]["trace_id"]
    report = json.loads(evalforge(own, "erase", "--trace-id", gone, "--json").stdout)
    assert report["counts"]["export_rows"] == len(MADE_FORMATS)
    for folder in folders:
        assert manifest(folder)["erased_count"] == 1
        assert gone.encode() not in b"".join(content(folder).values())


def test_a_bucket_is_named_in_the_settings_and_that_is_all(filled: dict[str, str], storage: Storage) -> None:
    storage.make_bucket("team-evals")
    away = filled | {
        "EXPORT_DESTINATIONS": "lake=gs://team-evals/failures",
        "CLOUD_STORAGE_ENDPOINT": storage.address,
        "STORAGE_EMULATOR_HOST": "http://evil.example.com",
        "RETRY_BUDGET_S": "2",
    }
    evalforge(away, "export", "--format", "promptfoo", "--to", "lake")
    package = packages(filled)[0]
    assert f"failures/{package['id']}/manifest.json" in storage.objects("team-evals")
    nowhere = away | {"EXPORT_DESTINATIONS": "lake=gs://no-such-bucket"}
    assert "does not exist" in evalforge(nowhere, "export", "--format", "promptfoo", "--to", "lake", code=12).stderr
    down = away | {"CLOUD_STORAGE_ENDPOINT": "127.0.0.1:9"}
    assert "RETRY_BUDGET_S" in evalforge(down, "export", "--format", "promptfoo", "--to", "lake", code=13).stderr
    failed = packages(filled)[0]
    assert (failed["state"], failed["reason"]) == ("failed", "destination_unavailable")
    assert "The same bytes" in evalforge(away, "exports", "retry", failed["id"]).stderr


def test_a_webhook_gets_every_file_signed_and_the_manifest_last(filled: dict[str, str]) -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    with closing(Receiver()) as receiver:
        away = filled | {
            "EXPORT_DESTINATIONS": f"hook=http://127.0.0.1:{receiver.port}/in?key=hunter2",
            "EXPORT_WEBHOOK_SECRET": secret,
        }
        evalforge(away, "export", "--format", "promptfoo", "--split", "test=0.5", "--to", "hook")
    package = packages(filled)[0]
    names = [one.headers["x-evalforge-file"] for one in receiver.heard]
    assert names == [*(one["name"] for one in package["files"]), "manifest.json"]
    for one in receiver.heard:
        assert one.headers["x-evalforge-package"] == package["id"]
        assert one.headers["x-evalforge-sha256"] == hashlib.sha256(one.body).hexdigest()
        signed = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
        assert (
            one.headers["webhook-signature"]
            == "v1," + base64.b64encode(hmac.digest(bytes(range(32)), signed, "sha256")).decode()
        )
    with closing(Receiver(answer(403))) as refusing:
        away["EXPORT_DESTINATIONS"] = f"hook=http://127.0.0.1:{refusing.port}/"
        evalforge(away, "export", "--format", "promptfoo", "--to", "hook", code=12)
    assert packages(filled)[0]["reason"] == "destination_refused"
    without = {name: value for name, value in away.items() if name != "EXPORT_WEBHOOK_SECRET"}
    assert "EXPORT_WEBHOOK_SECRET" in evalforge(without, "export", "--to", "hook", code=2).stderr
