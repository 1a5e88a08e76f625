"""The lock can be installed where nothing of ours was ever run: every package has a wheel there, whose hash is locked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.lock import PYTHONS, RUN_TIME

ARM64 = "aarch64-manylinux_2_28"
EM_AARCH64 = 183
"""What an ELF file for arm64 has as its machine. Source: https://github.com/ARM-software/abi-aa (aaelf64)."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def installed(lock: Path, platform: str, python: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What uv says of unpacking what is locked for that platform; nothing of it is run."""
    place = ["--python-platform", platform, "--python-version", python, "--target", str(folder / "there")]
    command = [sys.executable, "-m", "uv", "--no-config", "pip", "install", "--require-hashes", *place, *options]
    return subprocess.run([*command, "-r", str(lock)], cwd=folder, capture_output=True, text=True, check=False)


def packages_in(text: str) -> int:
    return len(set(re.findall(r"(?m)^(?: \+ )?([a-z0-9-]+)==", text)))


@pytest.mark.parametrize("python", PYTHONS)
def test_every_locked_package_has_a_wheel_for_linux_on_arm64(python: str, tmp_path: Path) -> None:
    done = installed(RUN_TIME.path, ARM64, python, tmp_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert packages_in(done.stderr) == packages_in(RUN_TIME.path.read_text()) > 40


def test_those_wheels_are_the_locked_ones_and_made_for_arm64(tmp_path: Path) -> None:
    """A dry run compares no hashes, so this one unpacks."""
    done = installed(RUN_TIME.path, ARM64, PYTHONS[-1], tmp_path)
    assert done.returncode == 0, done.stderr
    libraries = [path.read_bytes()[:20] for path in (tmp_path / "there").rglob("*.so")]
    assert len(libraries) > 10
    assert {head[:4] for head in libraries} == {b"\x7fELF"}
    assert {int.from_bytes(head[18:20], "little") for head in libraries} == {EM_AARCH64}


def test_a_platform_without_wheels_is_seen(tmp_path: Path) -> None:
    """cryptography has none for Intel Macs any more."""
    done = installed(RUN_TIME.path, "x86_64-apple-darwin", PYTHONS[-1], tmp_path, "--dry-run")
    assert done.returncode != 0
    assert "cryptography" in done.stderr


def test_a_lock_without_the_hashes_of_a_platforms_wheels_is_seen(tmp_path: Path) -> None:
    [entry] = re.findall(r"(?m)^orjson==.*\n(?: .*\n)*", RUN_TIME.path.read_text())
    lock = tmp_path / "requirements.lock"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", entry))
    done = installed(lock, ARM64, PYTHONS[-1], tmp_path, "--no-deps")
    assert done.returncode != 0
    assert "Hash mismatch for `orjson" in done.stderr
