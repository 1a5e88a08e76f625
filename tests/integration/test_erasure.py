"""Erasure, access and retention through the real commands and the real service, on SQLite and on the Firestore emulator."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import COLLECTIONS, Selection
from evalforge.core.privacy import KeyRing
from evalforge.erasure import trace_target, user_target
from evalforge.exports import json_bytes
from evalforge.sandbox import samples
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.trouble import Fault
from evalforge.stores.firestore import FirestoreStore
from tests.examples import one_in
from tests.integration.commands import PLAIN, on_a_terminal, ran_text
from tests.integration.test_end_to_end import store_settings
from tests.integration.test_service_process import Service
from tests.unit.test_erasure import ANN, RING, at_once, trace

__all__ = ["store_settings"]

SALT, OTHER_SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY", "Vw3nT8cM5xK1zH7qL9rJ2fD6gB4pS0eU"
PATIENCE_S = 100.0


@pytest.fixture
def loaded() -> Iterator[tuple[BackgroundServer, samples.Samples]]:
    with BackgroundServer() as server:
        yield server, samples.load(server.sandbox.store, end=datetime.now(UTC), traces=80)


@pytest.fixture
def environment(
    loaded: tuple[BackgroundServer, samples.Samples], store_settings: dict[str, str], tmp_path: Path
) -> dict[str, str]:
    return PLAIN | store_settings | {
        "DATADOG_API_URL": loaded[0].url,
        "DATADOG_API_KEY": "k",
        "DATADOG_APP_KEY": "a",
        "PII_SALT": SALT,
        "EXPORT_DESTINATIONS": f"evals={tmp_path / 'evals'}",
        "LOG_FORMAT": "json",
    }  # fmt: skip


class Told:
    """Runs commands and remembers all that they said."""

    def __init__(self) -> None:
        self.everything = ""

    def run(self, environment: dict[str, str], *arguments: str, stdin: str = "", code: int = 0) -> str:
        done = ran_text(*arguments, environment=environment, input=stdin)
        self.everything += done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, environment: dict[str, str], *arguments: str, **options: Any) -> Any:
        return json.loads(self.run(environment, *arguments, "--json", **options))


@pytest.fixture
def told() -> Told:
    return Told()


def settings_of(environment: dict[str, str]) -> Settings:
    return Settings.from_environment(environment)


def held(environment: dict[str, str]) -> dict[str, list[str]]:
    """The stored traces, each with the hashes of its users."""

    async def body() -> dict[str, list[str]]:
        async with bootstrap.opened_store(settings_of(environment)) as store:
            found = store.select(Selection(), now=bootstrap.utc_now())
            return {one.capture.trace_id: one.document["user_hashes"] async for one in found}

    return asyncio.run(body())


def everything_stored(environment: dict[str, str]) -> str:
    """Every byte of the store, as text: all documents of all collections, and with SQLite the file itself."""

    async def body() -> str:
        async with bootstrap.opened_store(settings_of(environment)) as store:
            documents = [one for name in COLLECTIONS async for one in store.documents(name)]
            return "\n".join(one.key + json_bytes(dict(one.document)).decode() for one in documents)

    text = asyncio.run(body())
    path = settings_of(environment).sqlite_path
    for file in Path(path).parent.glob(Path(path).name + "*") if path else ():
        text += file.read_bytes().decode("latin-1")
    return text


def someone(loaded: samples.Samples, stored: dict[str, list[str]]) -> tuple[str, set[str]]:
    """The user with the most captures that name one, and these captures' traces."""
    ring = KeyRing((SALT.encode(),))
    by_user = {user: ring.candidate_hashes(user) for user in set(loaded.users.values())}
    counts = Counter({user: sum(not hashes.isdisjoint(one) for one in stored.values()) for user, hashes in by_user.items()})
    [(user, count)] = counts.most_common(1)
    assert count >= 2
    return user, {trace_id for trace_id, hashes in stored.items() if not by_user[user].isdisjoint(hashes)}


def test_a_person_is_erased_and_does_not_come_back(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told, tmp_path: Path
) -> None:
    told.run(environment, "ingest")
    before = held(environment)
    user, theirs = someone(loaded[1], before)
    exported = asyncio.run(_exported(environment, tmp_path / "evals"))
    told.run(environment, "export", "--out", str(tmp_path / "mine.jsonl"))
    access = told.run(environment, "export", "--user-id", "-", "--out", "-", stdin=f"{user}\n")
    assert {json.loads(line)["trace_id"] for line in access.splitlines()} == theirs

    first = told.json(environment, "erase", "--user-id", "-", "--actor", "dpo", stdin=user)
    assert first["counts"] == {"captures": len(theirs), "dead_letters": 0, "export_rows": len(theirs)}
    assert (first["kind"], first["actor"]) == ("user", "dpo")
    assert sum("to 'file'" in task for task in first["tasks"]) == 2
    assert sum("to 'evals'" in task for task in first["tasks"]) == 1
    after = held(environment)
    assert set(after) == set(before) - theirs
    rows = [json.loads(line)["trace_id"] for line in exported.read_bytes().splitlines()]
    assert set(rows) == set(after)

    second = told.json(environment, "erase", "--user-id", user)
    assert (set(second["counts"].values()), second["tasks"]) == ({0}, first["tasks"]), "an answer may be lost"
    assert set(told.json(environment, "erase", "--again").values()) == {0}
    told.run(environment, "erase", "--again", "--user-id", user, code=2)
    assert "wants exactly one" in told.everything
    report = told.json(environment, "ingest")
    assert held(environment) == after
    assert report["captures"]["created"] == report["captures"]["updated"] == 0
    assert report["captures"]["kept_out"] >= len(theirs)
    items = report["items"]
    assert items["fetched"] == items["healthy"] + items["failing"] + items["rejected"]
    assert told.run(environment, "export", "--user-id", user, "--out", "-") == ""

    stored = everything_stored(environment)
    assert user not in stored + told.everything.replace(access, "")
    assert [trace_id for trace_id in theirs if trace_id in stored] == [], "not even in a free page of the file"
    names = " ".join(str(path) for path in tmp_path.rglob("*"))
    assert user not in names
    assert user not in exported.read_text()


async def _exported(environment: dict[str, str], folder: Path) -> Path:
    from evalforge.exports import Destination, write_package

    async with bootstrap.opened_store(settings_of(environment)) as store:
        destination = Destination("evals", folder=folder)
        written = await write_package(store, Selection(), destination, now=bootstrap.utc_now())
    assert written.path is not None
    return written.path / "captures.jsonl"


def test_the_record_of_an_access_export_names_nobody(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told
) -> None:
    told.run(environment, "ingest")
    user, _ = someone(loaded[1], held(environment))
    lines = told.run(environment, "export", "--user-id", user, "--limit", "1", "--out", "-").splitlines()
    assert len(lines) == 1
    [record] = asyncio.run(_packages(environment))
    assert (record.selection, record.count) == ({"user": True, "limit": 1}, 1)
    assert not any(user_hash in repr(record) for user_hash in KeyRing((SALT.encode(),)).candidate_hashes(user))


async def _packages(environment: dict[str, str]) -> list[Any]:
    async with bootstrap.opened_store(settings_of(environment)) as store:
        return list(await store.packages())


@pytest.mark.long
def test_a_trace_is_erased_without_a_ring(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told
) -> None:
    told.run(environment, "ingest")
    before = held(environment)
    gone = sorted(before)[0]
    without = {name: value for name, value in environment.items() if name != "PII_SALT"}
    record = told.json(without, "erase", "--trace-id", gone.upper())
    assert record["counts"]["captures"] == 1
    assert gone not in json.dumps(record)
    told.run(environment, "ingest")
    assert set(held(environment)) == set(before) - {gone}
    told.run(without, "erase", "--user-id", "u-1", code=2)
    assert "PII_SALT" in told.everything
    assert "--trace-id" in told.run(environment, "erase", "--help")
    told.run(environment, "erase", "--user-id", "someone-secret", "--trace-id", gone, code=2)
    told.run(environment, "erase", code=2)
    told.run(environment, "erase", "--user-id", "-", stdin="someone-secret\ntwo lines", code=2)
    told.run(environment, "erase", "--user-id", "-", stdin="", code=2)
    told.run(environment, "erase", "--user-id", "null", code=2)
    assert "someone-secret" not in told.everything


@pytest.mark.long
def test_a_rotated_ring_finds_all_and_a_ring_that_lacks_a_key_is_refused(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told
) -> None:
    told.run(environment, "ingest")
    before = held(environment)
    user, theirs = someone(loaded[1], before)
    told.run(environment | {"PII_SALT": OTHER_SALT}, "erase", "--user-id", user, code=5)
    assert held(environment) == before
    rotated = environment | {"PII_SALT": f"{OTHER_SALT} {SALT}"}
    assert told.json(rotated, "erase", "--user-id", user)["counts"]["captures"] == len(theirs)
    told.run(rotated, "ingest")
    assert set(held(environment)) == set(before) - theirs
    assert user not in told.everything


@pytest.mark.long
def test_an_erasure_before_a_rotation_holds_after_it(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told
) -> None:
    told.run(environment, "ingest", "--lookback", "12")
    user, theirs = someone(loaded[1], held(environment))
    told.run(environment, "erase", "--user-id", user)
    told.run(environment | {"PII_SALT": f"{OTHER_SALT} {SALT}"}, "ingest")
    ring = KeyRing((OTHER_SALT.encode(), SALT.encode()))
    mine = ring.candidate_hashes(user)
    stored = held(environment)
    assert [trace_id for trace_id, hashes in stored.items() if not mine.isdisjoint(hashes)] == []
    assert theirs.isdisjoint(stored)


@pytest.mark.long
def test_an_erasure_in_another_process_while_a_run_reads(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told
) -> None:
    told.run(environment, "ingest")
    before = held(environment)
    user, theirs = someone(loaded[1], before)
    for turn in range(3):
        loaded[0].sandbox.trouble.faults = [Fault("slow", latency_s=0.4, times=4)]
        reading = threading.Thread(target=lambda: told.run(environment, "ingest"))
        reading.start()
        time.sleep(0.5 + turn * 0.5)
        told.run(environment, "erase", "--user-id", user)
        reading.join()
        assert set(held(environment)) == set(before) - theirs


def test_erasing_on_a_terminal_asks_first(environment: dict[str, str]) -> None:
    code, shown = on_a_terminal(environment, "erase", "--user-id", "u-1", answers=[("[y/N]", "n")])
    assert (code, "Erase everything" in shown, "nothing was erased" in shown) == (130, True, True)
    answers = [("user id:", "someone-secret"), ("[y/N]", "y")]
    code, shown = on_a_terminal(environment, "erase", "--user-id", "-", answers=answers)
    assert code == 0
    assert "0 captures" in shown
    assert "someone-secret" not in shown, "what is typed is hidden"
    code, shown = on_a_terminal(environment, "erase", "--trace-id", "77", "--yes")
    assert (code, "Erase everything" in shown) == (0, False)


def test_the_service_erases_and_quotes_nothing(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told, tmp_path: Path
) -> None:
    told.run(environment, "ingest")
    before = held(environment)
    user, theirs = someone(loaded[1], before)
    with Service(tmp_path / "log", environment) as service:
        answer = service.http.post("/privacy/erase", json={"user_id": user})
        assert answer.status_code == 200, answer.text
        assert answer.json()["counts"]["captures"] == len(theirs)
        assert answer.json()["actor"] == "service"
        again = service.http.post("/privacy/erase", json={"user_id": user, "actor": "dpo"})
        assert set(again.json()["counts"].values()) == {0}
        gone = sorted(held(environment))[0]
        by_trace = service.http.post("/privacy/erase", json={"trace_id": gone})
        assert by_trace.json()["counts"]["captures"] == 1
        refused = [
            service.http.post("/privacy/erase", params={"user_id": user}),
            service.http.post("/privacy/erase", params={"x": user}, json={"user_id": user}),
            service.http.post("/privacy/erase", json={"user_id": [user]}),
            service.http.post("/privacy/erase", json={user: 1}),
            service.http.post("/privacy/erase", json={"user_id": "null", "actor": user}),
            service.http.post("/privacy/erase", json={}),
        ]
        assert {one.status_code for one in refused} == {422}
        assert {one.headers["content-type"] for one in refused} == {"application/problem+json"}
        foreign = {"Origin": "https://evil.com"}
        assert service.http.post("/privacy/erase", json={"user_id": user}, headers=foreign).status_code == 403
        assert service.http.get("/privacy/erase").status_code == 405
        paths = httpx.get(f"{service.http.base_url}/openapi.json").json()["paths"]
        assert "requestBody" in paths["/privacy/erase"]["post"]
        report = service.run_once().json()
        assert report["captures"]["kept_out"] > 0
        assert set(held(environment)) == set(before) - theirs - {gone}
        answers = "".join(one.text for one in (answer, again, by_trace, *refused)) + json.dumps(report)
        said = answers + service.log
    assert service.events("erasure.finished")
    assert user not in said + everything_stored(environment)
    assert gone not in "".join(one.text for one in (answer, again, by_trace))


def test_the_service_without_a_ring_says_what_can_be_done(environment: dict[str, str], tmp_path: Path) -> None:
    without = {name: value for name, value in environment.items() if name != "PII_SALT"}
    with Service(tmp_path / "log", without) as service:
        answer = service.http.post("/privacy/erase", json={"user_id": "someone-secret"})
        assert (answer.status_code, answer.json()["code"]) == (503, "bad_settings")
        assert "trace id" in answer.json()["detail"]
        assert service.http.post("/privacy/erase", json={"trace_id": "77"}).status_code == 200
        assert "someone-secret" not in answer.text + service.log


@pytest.mark.parametrize("seed", one_in(5, range(6)))
async def test_interleavings_on_firestore(firestore_emulator: str, seed: int) -> None:
    rng = random.Random(seed)
    store = FirestoreStore(f"turns-{os.getpid()}-{seed}", prefix="evalforge_", emulator_host=firestore_emulator)
    weights = (rng.randint(1, 9), rng.randint(1, 9))
    schedule = rng.choices(("run", "erase"), weights, k=120)
    target = user_target(ANN, RING) if seed % 3 else trace_target(trace(1), RING)
    await at_once(store, schedule, target, filled=bool(seed % 2))
    await store.close()


def test_what_has_expired_is_deleted_at_the_end_of_a_run(
    loaded: tuple[BackgroundServer, samples.Samples], environment: dict[str, str], told: Told
) -> None:
    path = settings_of(environment).sqlite_path
    if path is None:
        pytest.skip("Firestore's TTL policy does it there; the emulator has none")
    told.run(environment, "ingest")
    before = held(environment)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE evalforge_raw_traces SET expires_at = '2020-01-01T00:00:00.000000Z'")
    report = told.json(environment, "ingest", "--from", "13d", "--to", "12d")
    assert report["expired"] == len(before)
    assert held(environment) == {}
    assert f'"expired":{len(before)}' in told.everything.replace(" ", "")
    assert [trace_id for trace_id in before if trace_id in everything_stored(environment)] == []
