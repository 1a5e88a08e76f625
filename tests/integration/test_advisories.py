"""The advisory check against a real server that speaks OSV's query API: it proves itself first, and says when it cannot."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deploy import advisories
from deploy.lock import LOCKS, pins_in

CONTROL = ("jinja2", "2.10")


def advisory(name: str, number: int = 1, **more: Any) -> dict[str, Any]:
    """An advisory as OSV gives it. Source: https://ossf.github.io/osv-schema/"""
    fixed = {
        "package": {"name": name, "ecosystem": "PyPI"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "99.0"}]}],
    }
    return {"id": f"PYSEC-2019-{number}", "aliases": [f"CVE-2019-{number}"], "affected": [fixed], "details": "bad", **more}


@dataclass
class Osv:
    """A local OSV: what it knows by name and version, and what it was asked."""

    known: Mapping[tuple[str, str], list[dict[str, Any]]]
    answer: Callable[[int], tuple[int, bytes] | None] = lambda _: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def served(osv: Osv) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert query["package"]["ecosystem"] == "PyPI"
            osv.asked.append((query["package"]["name"], query["version"]))
            found = osv.known.get(osv.asked[-1])
            plain = (200, json.dumps({"vulns": found} if found else {}).encode())
            status, body = osv.answer(len(osv.asked)) or plain
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def checked(osv: Osv, *arguments: str) -> int:
    with served(osv) as url:
        return advisories.main(["--osv-url", url, *arguments])


LOCKED = [(pin.name, pin.version) for lock in LOCKS for pin in pins_in(lock.path.read_text())]


def test_a_clean_lock_is_clean_once_the_control_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    osv = Osv({CONTROL: [advisory("jinja2", 217)]})
    assert checked(osv) == 0
    told = capsys.readouterr().out
    assert "the check works here: jinja2 2.10: PYSEC-2019-217 (CVE-2019-217), fixed in 99.0" in told
    assert f"nothing is known of the {len(LOCKED)} locked packages" in told
    assert "SKIPPED" not in told
    assert osv.asked == [CONTROL, *LOCKED]  # every locked package, the control first, and nothing else


def test_a_known_vulnerability_of_a_locked_package_fails_unless_it_was_looked_into(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, last = LOCKED[0], LOCKED[-1]
    known = {first: [advisory(first[0], 7)], last: [advisory(last[0], 8, id="PYSEC-\x1b[2J")]}
    assert checked(Osv({CONTROL: [advisory("jinja2")], **known}), "--ignore", "PYSEC-2019-7") == 1
    told = capsys.readouterr().out
    assert f"{last[0]} {last[1]}: PYSEC-" in told
    assert "PYSEC-2019-7" not in told
    assert told.replace("\n", "").isprintable()


SILENT: dict[str, Callable[[int], tuple[int, bytes] | None]] = {
    "knows nothing": lambda _: None,
    "a web page with 200": lambda _: (200, b"<html>sign in</html>"),
    "is down": lambda _: (503, b""),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "knows nothing" else pytest.mark.long) for name in SILENT]
)
def test_where_the_control_is_not_reported_nothing_is_called_clean(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    osv = Osv({}, SILENT[name])
    assert checked(osv) == 0
    told = capsys.readouterr().out
    assert "SKIPPED. Nothing was checked" in told
    assert "nothing is known" not in told
    assert set(osv.asked) == {CONTROL}


def test_a_release_may_insist_on_a_check_that_proves_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Osv({})) as url:
        pass
    assert advisories.main(["--osv-url", url, "--must"]) == 3
    assert "SKIPPED" in capsys.readouterr().out


@pytest.mark.long  # two more audits of all that is locked
def test_an_audit_that_breaks_off_after_the_control_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    osv = Osv({CONTROL: [advisory("jinja2")]}, lambda count: (503, b"") if count > 10 else None)
    assert checked(osv) == 2
    assert "the audit of the locks broke off" in capsys.readouterr().out
