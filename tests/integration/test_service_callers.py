"""Who may come in, at the real process on an address that is not loopback: keys, tokens, roles, bounds, no way around."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from evalforge.core.callers import Role, key_row_text
from evalforge.sandbox.server import BackgroundServer
from evalforge.service.envelope import SECURITY_HEADERS
from tests.id_tokens import ACCOUNT, AUDIENCE, Certificates, Signer, certificate_server
from tests.integration.commands import PATIENCE_S, PLAIN, ran_text
from tests.integration.test_service_process import SERVICE, Service, environment_for, until

KEYS = {role: f"evf_{str(number) * 43}" for number, role in enumerate(Role)}
NEW_KEY = "evf_" + "N" * 43
ROWS = [key_row_text(f"the-{role}", [role], key) for role, key in KEYS.items()]

RESERVED = {
    ("POST", "/ingestion/run-once"): Role.RUN,
    ("GET", "/ingestion/runs"): Role.READ,
    ("GET", "/ingestion/runs/run_x"): Role.READ,
    ("POST", "/exports"): Role.REVIEW,
    ("GET", "/exports"): Role.READ,
    ("GET", "/exports/export_x"): Role.READ,
    ("POST", "/privacy/erase"): Role.ERASE,
}
"""What needs a role, with the role."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=40) as server:
        yield server


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("key-1")


@pytest.fixture(scope="module")
def certificates(signer: Signer) -> Iterator[Certificates]:
    with certificate_server() as served:
        served.publish(signer)
        yield served


@pytest.fixture(scope="module")
def environment(
    sandbox: BackgroundServer, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    return environment_for(sandbox, tmp_path_factory.mktemp("callers")) | {
        "HOST": "0.0.0.0",
        "SERVICE_API_KEYS": ",".join(ROWS),
        "SERVICE_OIDC_AUDIENCE": AUDIENCE,
        "SERVICE_OIDC_CALLERS": f"{ACCOUNT}=run+read",
        "SERVICE_OIDC_CERTS_URL": certificates.url,
    }


@pytest.fixture(scope="module")
def service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("log") / "service.log", environment) as running:
        yield running


def ask(service: Service, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
    headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
    return service.http.request(method, path, headers=headers, **options)


def test_without_a_caller_nothing_but_the_bare_status_answers(service: Service) -> None:
    assert ask(service, "GET", "/livez").json() == {"status": "ok"}
    bare = ask(service, "GET", "/health")
    assert (bare.status_code, bare.json()) == (200, {"status": "ok"})
    for key in (None, "evf_" + "x" * 43, "nonsense"):
        for method, path in [
            *RESERVED,
            ("GET", "/openapi.json"),
            ("GET", "/nothing"),
            ("DELETE", "/exports"),
            ("GET", "/docs"),
        ]:
            answer = ask(service, method, path, key)
            assert (answer.status_code, answer.json()["code"]) == (401, "no_caller"), path
            assert answer.headers["www-authenticate"].startswith('Bearer realm="evalforge"')
        assert ask(service, "GET", "/health", key).json() == {"status": "ok"}
    assert set(ask(service, "GET", "/health", KEYS[Role.ERASE]).json()) > {"status", "parts"}
    assert "/exports" in ask(service, "GET", "/openapi.json", KEYS[Role.READ]).json()["paths"]


@pytest.mark.parametrize("role", Role)
def test_a_caller_may_do_what_its_role_says_and_no_more(service: Service, role: Role) -> None:
    for (method, path), needed in RESERVED.items():
        # Nothing begins: an unknown field, or an id that is not there.
        answer = ask(service, method, path, KEYS[role], content=b'{"x": 1}' if method == "POST" else None)
        if role is needed:
            assert answer.status_code in (200, 404, 422), path
        else:
            assert (answer.status_code, answer.json()["code"], answer.json()["role"]) == (403, "missing_role", needed.value)


def test_the_report_and_the_history_name_who_asked(service: Service, sandbox: BackgroundServer) -> None:
    report = ask(service, "POST", "/ingestion/run-once", KEYS[Role.RUN], json={"lookback": 1}).json()
    assert report["asked_by"] == "the-run"
    place = f"/ingestion/runs/{report['run_id']}"
    assert ask(service, "GET", place, KEYS[Role.READ]).json()["asked_by"] == "the-run"
    told = ("the-run", "/ingestion/run-once")
    assert until(
        lambda: told in [(one["caller"], one["route"]) for one in service.events("caller.admitted")], "the log to tell"
    )


def test_a_token_of_google_lets_its_account_in(service: Service, certificates: Certificates, signer: Signer) -> None:
    now = time.time()
    report = ask(service, "POST", "/ingestion/run-once", signer.token(now), json={"lookback": 1}).json()
    assert report["asked_by"] == ACCOUNT
    assert ask(service, "POST", "/privacy/erase", signer.token(now)).status_code == 403
    for wrong in (
        signer.token(now, aud="https://other.example.com"),
        signer.token(now, email="x@my-project.iam.gserviceaccount.com"),
        signer.token(now - 7200),
        Signer("key-1").token(now),
        Signer("key-9").token(now),
        Signer("key-9").token(now),
    ):
        assert ask(service, "GET", "/ingestion/runs", wrong).status_code == 401
    assert certificates.asked == 1, "an unknown key is not asked for again and again"


def test_nothing_of_a_credential_is_in_any_log_or_answer(service: Service, signer: Signer) -> None:
    token = signer.token(time.time(), aud="https://other.example.com")
    for secret in (KEYS[Role.RUN], "evf_" + "z" * 43, token):
        for headers in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": secret}, {"X-Request-Id": secret}):
            answer = ask(service, "GET", "/ingestion/runs/none", headers=headers)
            assert secret not in answer.text + str(dict(answer.headers))
        ask(service, "GET", f"/{secret[:200]}")
    service.stop()
    assert not [secret for secret in (*KEYS.values(), "evf_" + "z" * 43, token[:200]) if secret in service.log]
    assert [row for row in ROWS if row.rpartition(":")[2] in service.log] == []
    refused = {(one["route"], one["reason"]) for one in service.events("caller.refused")}
    assert ("other", "no_credential") in refused, "a path that is no route is not told: it may hold anything"


def test_a_key_is_rotated_without_a_gap(environment: dict[str, str], tmp_path: Path) -> None:
    old, new = KEYS[Role.READ], NEW_KEY
    rows = [key_row_text("reader", [Role.READ], key) for key in (old, new)]
    for number, (row, good, bad) in enumerate(((",".join(rows), [old, new], []), (rows[1], [new], [old]))):
        settings = environment | {"SERVICE_API_KEYS": row}
        with Service(tmp_path / f"{number}.log", settings) as running:
            assert [ask(running, "GET", "/ingestion/runs", key).status_code for key in good] == [200] * len(good)
            assert [ask(running, "GET", "/ingestion/runs", key).status_code for key in bad] == [401] * len(bad)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SERVICE_API_KEYS": "", "SERVICE_OIDC_AUDIENCE": "", "SERVICE_OIDC_CALLERS": ""}, 2),
        ({"SERVICE_API_KEYS": "a=b", "SERVICE_OIDC_AUDIENCE": "", "SERVICE_OIDC_CALLERS": ""}, None),
        (
            {
                "SERVICE_API_KEYS": "",
                "SERVICE_OIDC_AUDIENCE": "",
                "SERVICE_OIDC_CALLERS": "",
                "SERVICE_CALLERS_CHECKED_BY": "platform",
            },
            None,
        ),
    ],
    ids=["nobody", "wrong", "platform"],
)
def test_an_open_address_is_refused_unless_callers_or_a_platform_are_named(
    environment: dict[str, str], tmp_path: Path, changes: dict[str, str], code: int | None
) -> None:
    settings = environment | changes
    if code is not None:
        done = ran_text(environment=PLAIN | settings | {"PORT": "0"}, module=SERVICE)
        assert done.returncode == code
        assert "SERVICE_API_KEYS" in done.stderr
        assert "evalforge keys new" in " ".join(done.stderr.split())
        return
    with Service(tmp_path / "service.log", settings) as running:
        is_open = "SERVICE_CALLERS_CHECKED_BY" in changes
        assert ask(running, "GET", "/ingestion/runs").status_code == (200 if is_open else 401)
        # Wrong settings of callers let nobody in, and the bare status says that something is wrong.
        assert ask(running, "GET", "/health").status_code == (200 if is_open else 500)
        assert ("parts" in ask(running, "GET", "/health").json()) is is_open


def test_a_key_is_made_on_the_command_line(environment: dict[str, str], tmp_path: Path) -> None:
    def made(*arguments: str, code: int = 0) -> str:
        done = ran_text("keys", "new", *arguments, environment=PLAIN)
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    key, row = made("--name", "nightly", "--roles", "read+run").split()
    assert row.startswith("nightly=run+read:")
    assert key not in row
    assert set(json.loads(made("--name", "x", "--roles", "run", "--json"))) == {"key", "row"}
    assert "roles are" in made("--name", "x", "--roles", "fly", code=2)
    assert "a name has" in made("--name", "\x1b[2J", "--roles", "run", code=2)
    with Service(tmp_path / "service.log", environment | {"SERVICE_API_KEYS": row}) as running:
        assert ask(running, "GET", "/ingestion/runs", key).status_code == 200


@pytest.fixture
def own_service(environment: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "own.log", environment) as running:
        yield running


def raw(service: Service, request: bytes) -> bytes:
    """What comes back for these bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def test_every_answer_has_a_request_id_and_security_headers(own_service: Service) -> None:
    service = own_service
    key = KEYS[Role.RUN]
    answers = [
        ask(service, "GET", "/livez", headers={"X-Request-Id": "mine-1"}),
        ask(service, "GET", "/nothing"),
        ask(service, "GET", "/nothing", key),
        ask(service, "GET", "/livez", headers={"Host": "evil.com"}),
        ask(service, "POST", "/ingestion/run-once", key, content=b"["),
        ask(service, "POST", "/ingestion/run-once", key, content=b"x" * 70_000),
        ask(service, "GET", "/livez?" + "x" * 5_000),
        ask(service, "GET", "/livez", headers={f"X-{number}": "1" for number in range(80)}),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 421, 422, 413, 414, 431]
    assert answers[0].headers["x-request-id"] == "mine-1"
    for answer in answers:
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers
        assert "Traceback" not in answer.text
    for request in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x" * 20_000,
    ):
        told = raw(service, request).decode()
        assert told.split()[1] in ("400", "431")
        assert "x-request-id" in told.lower()
        assert "application/problem+json" in told


@pytest.mark.long  # a sender has 20 seconds
def test_a_crowd_is_turned_away_and_a_slow_sender_cut(own_service: Service) -> None:
    """Bodies that never end hold no place for ever, and a health probe always finds one."""
    key, service = KEYS[Role.RUN], own_service
    begun = f"POST /ingestion/run-once HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Length: 10\r\n\r\n{{"
    head = begun.encode()
    crowd = [socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) for _ in range(32)]
    try:
        for connection in crowd:
            connection.sendall(head)
        busy = until(
            lambda: (answer := ask(service, "GET", "/ingestion/runs", KEYS[Role.READ])).status_code == 503 and answer, "it"
        )
        assert (busy.json()["code"], busy.headers["retry-after"]) == ("busy", "5")
        assert ask(service, "GET", "/livez").status_code == 200
        assert ask(service, "GET", "/health").status_code == 200
        assert b" 408 " in crowd[0].recv(4096).partition(b"\r\n")[0]
    finally:
        for connection in crowd:
            connection.close()
    until(lambda: ask(service, "GET", "/ingestion/runs", KEYS[Role.READ]).status_code == 200, "room")
