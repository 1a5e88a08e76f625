"""The real Dockerfile, built and run without a container engine: buildah's chroot isolation on a debootstrap base.

What chroot isolation cannot show: limits of memory and processes, seccomp and network namespaces, an engine that obeys
HEALTHCHECK. The read-only root is a real one, in a mount namespace of the test's own; arm64 is never run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.image.references import BASE_LABEL
from evalforge.sandbox.server import BackgroundServer
from tests.emulator import free_port
from tests.integration.test_browser import lacking
from tests.integration.test_service_process import SALT, environment_for, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "debootstrap")
NOT_RUN = "THE IMAGE WAS NOT BUILT AND NOT RUN."
HOW_TO_INSTALL = (
    f"{NOT_RUN} It takes root on Debian or Ubuntu, and: apt-get install -y --no-install-recommends {' '.join(TOOLS)}"
)

BASE, IMAGE = "localhost/base:bookworm", "localhost/evalforge:test"
UNNEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")
USER = 65532
OUR_LARGEST_MB = 170
"""What is added to the base may have, unpacked."""

CANARY = "packages.canary.invalid"
"""Stands in the settings of pip outside while the image is built; nothing of these may stay in it."""

READ_ONLY = f"""
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && mount --bind "$2" "$1/data" || exit 125
root=$1; shift 2
exec chroot --userspec={USER}:{USER} --groups={USER} "$root" env -C /data "$@"
"""
NOT_MOUNTED = "THE READ-ONLY ROOT WAS NOT SHOWN: it takes the right to mount in a namespace (CAP_SYS_ADMIN)"


def lacking_tools() -> str | None:
    """What keeps the image from being built here; in CI the tools are installed where they are missing."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing and os.environ.get("CI") and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *command], capture_output=True, timeout=300, check=False)
        missing = [name for name in TOOLS if shutil.which(name) is None]
    return HOW_TO_INSTALL if missing or os.geteuid() != 0 else None


def ran(*command: str, environment: Mapping[str, str] | None = None, code: int = 0) -> str:
    """What a program answered, or where it is to fail what it said of that."""
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == code, (command, done.returncode, done.stdout[-2_000:], done.stderr[-4_000:])
    return done.stderr if code else done.stdout


class Image:
    """The built image in a storage of its own, and a container of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        storage = folder / "storage.conf"
        lines = ["[storage]", 'driver = "vfs"', *(f'{name} = "{folder / name}"' for name in ("graphroot", "runroot"))]
        storage.write_text("\n".join(lines) + "\n")
        places = {"CONTAINERS_STORAGE_CONF": str(storage), "BUILDAH_ISOLATION": "chroot"}
        self.environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}

    def buildah(self, *arguments: str, code: int = 0) -> str:
        return ran("buildah", *arguments, environment=self.environment, code=code)

    def deploy(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "deploy.image", "--engine", "buildah", *arguments]
        return ran(*command, environment=self.environment | {"PIP_TRUSTED_HOST": CANARY}, code=code)

    def make_base(self) -> None:
        """Debian with Python, without manuals, and with nothing compiled: like Docker's own slim images of Python."""
        container = self.buildah("from", "scratch").strip()
        base = Path(self.buildah("mount", container).strip())
        # Nobody minds if the power fails while a test's base is unpacked: dpkg need not wait for the disk.
        surroundings = {**os.environ, "DPKG_FORCE": "unsafe-io"}
        packages = "--include=python3,python3-venv,ca-certificates"
        ran("debootstrap", "--variant=minbase", packages, "bookworm", str(base), environment=surroundings)
        compiled = base.glob("usr/lib/python3*/**/__pycache__")
        for unneeded in [*compiled, *(base / place for place in UNNEEDED)]:
            shutil.rmtree(unneeded, ignore_errors=True)
        self.buildah("commit", "--quiet", "--rm", container, BASE)

    def build(self) -> None:
        self.told = self.deploy("build", "--base", BASE, "--tag", IMAGE, "--", "--pull-never")
        self.document: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", IMAGE))
        self.config = self.document["Docker"]["config"]
        self.container = self.buildah("from", "--pull-never", IMAGE).strip()
        self.root = Path(self.buildah("mount", self.container).strip())
        self.site = next(self.root.glob("opt/evalforge/lib/python3.*/site-packages"))

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs something in the container, as its user."""
        settings = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        return ["buildah", "run", "--isolation", "chroot", *settings, self.container, "--", *arguments]

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None, code: int = 0) -> str:
        return ran(*self.command(*arguments, environment=environment), environment=self.environment, code=code)

    def read_only(self, *arguments: str) -> list[str]:
        """The same with a root that the kernel keeps as it is, but for /data."""
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
            lacking(NOT_MOUNTED)
        place = self.folder / "data"
        if not place.exists():
            place.mkdir()
            os.chown(place, USER, USER)
        return ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(self.root), str(place), *arguments]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if why := lacking_tools():
        lacking(why)
    folder = tmp_path_factory.mktemp("image")
    try:
        built = Image(folder)
        built.make_base()
        built.build()
        yield built
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the storage has more than a gigabyte


def test_it_says_what_it_is_and_a_release_of_it_is_refused(image: Image) -> None:
    assert image.config["User"] == f"{USER}:{USER}"
    assert [*image.config["Entrypoint"], *image.config["Cmd"]] == ["evalforge", "serve"]
    assert image.config["Healthcheck"]["Test"] == ["CMD", "python", "/opt/evalforge/livez.py"]
    labels = image.config["Labels"]
    assert labels[BASE_LABEL] == BASE
    assert labels["org.opencontainers.image.version"] == image.run("evalforge", "--version").split()[-1]
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", labels["org.opencontainers.image.revision"])
    assert "has no digest" in image.deploy("check", IMAGE, code=1)


WRITABLE = """
import json, os
print(json.dumps([os.getuid(), os.getgid(), os.getgroups(), sorted(
    folder for folder, *_ in os.walk("/") if not folder.startswith(("/proc", "/sys", "/dev")) and os.access(folder, os.W_OK)
)]))
"""


def test_it_is_nobody_and_writes_nothing_but_its_folder(image: Image) -> None:
    *who, writable = json.loads(image.run("python", "-c", WRITABLE))
    assert who == [USER, USER, [USER]]
    # What every Linux lets everybody write to; nothing of what is installed.
    assert {"/data"} < set(writable) <= {"/data", "/tmp", "/var/tmp", "/run/lock"}
    *who, writable = json.loads(ran(*image.read_only("python3", "-c", WRITABLE)))
    assert who == [USER, USER, [USER]]
    assert writable == ["/data"]


def test_everything_is_compiled_and_stays_so(image: Image) -> None:
    sources = [path for path in image.site.rglob("*.py") if "/tests/" not in str(path)]
    assert len(sources) > 1_000
    [tag] = {path.name.split(".")[-2] for path in (image.site / "evalforge" / "__pycache__").iterdir()}
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
        # 1: checked by hash, but not when it is imported (PEP 552).
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", source
    library = next(image.root.glob("usr/lib/python3.*/json"))
    assert (library / "__pycache__" / f"decoder.{tag}.pyc").exists()  # not of the base, which had none


def test_nothing_is_in_it_that_is_not_needed(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    names = {path.name for path in image.site.iterdir()}
    assert {"evalforge", "google", "uvicorn"} <= names
    assert not names & {"tests", "bench", "deploy", "docs", "pip", "setuptools", "hatchling", "pytest", "src"}
    assert any(name.startswith("google_cloud_storage-") for name in names)  # the extra `gcs`
    for place in ("build", "root/.cache", "data/.cache", "opt/evalforge/bin/pip", "run/secrets"):
        assert not (image.root / place).exists(), place
    programs = {
        path.name for folder in ("usr/bin", "usr/local/bin", "opt/evalforge/bin") for path in (image.root / folder).glob("*")
    }
    assert not programs & {"gcc", "cc", "c++", "ld", "as", "make", "git", "curl", "wget"}
    searched = subprocess.run(["grep", "-rlsF", CANARY, str(image.root)], capture_output=True, text=True, check=False)
    assert (searched.returncode, searched.stdout) == (1, "")
    assert CANARY not in json.dumps(image.document)
    assert list((image.root / "data").iterdir()) == []
    ours, whole = (size_mb(place) for place in (image.root / "opt", image.root))
    with capsys.disabled():
        sys.stdout.write(f"\nimage: {whole} MB unpacked, {ours} MB of it ours, the rest Debian's base with Python\n")
    assert ours < OUR_LARGEST_MB


def size_mb(folder: Path) -> int:
    return int(subprocess.run(["du", "-sm", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0])


class Running:
    """The image's own command as a process; its environment is the image's and `settings`."""

    def __init__(self, image: Image, settings: Mapping[str, str], *, read_only: bool) -> None:
        self.log = image.folder / f"service-{read_only}.log"
        command = [*image.config["Entrypoint"], *image.config["Cmd"]]
        environment: dict[str, str] = image.environment
        if read_only:
            environment = dict(line.split("=", 1) for line in image.config["Env"]) | dict(settings)
            command = image.read_only(*command)
        else:
            command = image.command(*command, environment=settings)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        self.base = f"http://127.0.0.1:{settings['PORT']}"

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["message"] == name]

    def __enter__(self) -> Running:
        until(lambda: self.events("service.started") or self.process.poll() is not None, "the service")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def key(image: Image) -> tuple[str, str]:
    """A key, and its row of SERVICE_API_KEYS, made by the image."""
    said = image.run("evalforge", "keys", "new", "--name", "scheduler", "--roles", "run+read")
    made, row = re.search(r"evf_[\w-]{43}", said), re.search(r"scheduler=[a-z+]+:[0-9a-f]{64}", said)
    assert made is not None, said
    assert row is not None, said
    return made[0], row[0]


@pytest.mark.parametrize("read_only", [False, True], ids=["chroot isolation", "read-only root"])
def test_the_service_starts_and_runs_for_a_caller_that_it_knows(read_only: bool, image: Image, key: tuple[str, str]) -> None:
    with BackgroundServer(samples=True, traces=60) as sandbox:
        settings = environment_for(sandbox, Path("/data")) | {"SERVICE_API_KEYS": key[1], "PORT": str(free_port())}
        with (
            Running(image, settings, read_only=read_only) as service,
            httpx.Client(base_url=service.base, timeout=60) as http,
        ):
            [started] = service.events("service.started")
            assert (started["host"], started["port"]) == ("0.0.0.0", int(settings["PORT"]))
            assert http.get("/livez").json() == {"status": "ok"}
            health = http.get("/health")
            assert (health.status_code, health.json()) == (200, {"status": "ok"})
            assert http.post("/ingestion/run-once").status_code == 401
            ran_once = http.post("/ingestion/run-once", headers={"X-API-Key": key[0]})
            assert ran_once.status_code == 200, ran_once.text
            assert ran_once.json()["complete"] is True
            assert ran_once.json()["captures"]["created"] > 0
            check = image.config["Healthcheck"]["Test"][1:]
            image.run(*check, environment={"PORT": settings["PORT"]})
            image.run(*check, environment={"PORT": str(free_port())}, code=1)
            if read_only:  # buildah does not pass the signal on: it kills
                assert service.stop() == 0
                assert service.events("service.stopped")
        log = service.log.read_text()
        assert not any(secret in log for secret in (key[0], SALT, "hunter2"))
        files = image.folder / "data" if read_only else image.root / "data"
        assert (files / "captures.sqlite3").stat().st_uid == USER
        assert list(files.rglob("*.pyc")) == []


def test_an_open_address_without_callers_is_refused(image: Image) -> None:
    said = image.run("evalforge", "serve", environment={"PORT": str(free_port())}, code=2)
    assert "SERVICE_API_KEYS" in said
