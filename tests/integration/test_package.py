"""What is handed out: a wheel and a source distribution, and what becomes of the wheel where somebody installs it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def ran(*command: str | Path, **environment: str) -> str:
    """What a program answered; it runs outside the checkout, so that nothing is imported from there."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(
        [str(part) for part in command], env=surroundings, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout[-2_000:], done.stderr[-4_000:])
    return done.stdout


def built(folder: Path, *options: str) -> Path:
    """A folder with what `make package` builds."""
    locked = ["--build-constraints", str(ROOT / "deploy" / "build.lock"), "--require-hashes"]
    ran(sys.executable, "-m", "uv", "build", "--quiet", *locked, "--out-dir", folder, *options, ROOT)
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("dist"))


def the_wheel(folder: Path) -> Path:
    [wheel] = folder.glob("*.whl")
    return wheel


def test_the_source_distribution_makes_the_same_wheel_as_the_checkout(dist: Path, tmp_path: Path) -> None:
    """`make package` makes its wheel from the source distribution."""
    from_checkout = the_wheel(built(tmp_path / "checkout", "--wheel"))
    digests = {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in (the_wheel(dist), from_checkout)}
    assert len(digests) == 1


def test_what_is_in_them(dist: Path) -> None:
    [archive] = dist.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        names = {name.partition("/")[2] for name in sources.getnames()}
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    ).stdout.split()
    wanted = {name for name in tracked if not name.startswith(".ci/")}
    assert wanted <= names  # so that it can be tested and deployed from
    assert not any(re.search(r"\.(sqlite3|env|pem|pyc)$|evalforge_venv", name) for name in names)
    with zipfile.ZipFile(the_wheel(dist)) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
        assert tops == {"evalforge", f"evalforge_ingestion-{PROJECT['version']}.dist-info"}
        metadata = wheel.read(f"evalforge_ingestion-{PROJECT['version']}.dist-info/METADATA").decode()
    told = set(re.findall(r"(?m)^Provides-Extra: (.+)$", metadata))
    assert told == set(PROJECT["optional-dependencies"])
    for line in ("Name: evalforge-ingestion", "Requires-Python: >=3.11", "License-Expression: Apache-2.0"):
        assert line in metadata


COMMANDS = """
import importlib.metadata, json, sys
from click.testing import CliRunner
from evalforge.cli import COMMANDS, main
from importlib import import_module
for row in COMMANDS.values():
    done = CliRunner().invoke(import_module(f"evalforge.cli.{row.module}").command, ["--help"])
    assert done.exit_code == 0 and "Usage:" in done.output, (row, done.output)
told = importlib.metadata.distribution("evalforge-ingestion")
print(json.dumps([len(COMMANDS), [[one.group, one.name] for one in told.entry_points]]))
"""


def test_pipx_installs_the_wheel_and_every_entry_point_runs(dist: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "pipx", with_pip=True)
    python = tmp_path / "pipx" / "bin" / "python"
    ran(python, "-m", "pip", "install", "-qq", "pipx>=1.8,<2")
    places = {
        "PIPX_HOME": str(tmp_path / "home"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_MAN_DIR": str(tmp_path / "man"),
    }
    ran(python, "-m", "pipx", "install", "--quiet", the_wheel(dist), **places)
    assert {path.name for path in (tmp_path / "bin").iterdir()} == {"evalforge"} == set(PROJECT["scripts"])
    program = tmp_path / "bin" / "evalforge"
    assert ran(program, "--version").split() == ["evalforge", PROJECT["version"]]
    assert "serve" in ran(program, "--help")
    inside = tmp_path / "home" / "venvs" / "evalforge-ingestion" / "bin" / "python"
    assert ran(inside, "-m", "evalforge", "--version") == ran(program, "--version")
    assert ran(inside, "-c", COMMANDS).strip().endswith('[["console_scripts", "evalforge"]]]')
    assert "captures, one per failing trace" in ran("env", "-C", tmp_path, program, "demo")
    ran(python, "-m", "pipx", "uninstall", "evalforge-ingestion", **places)
    assert not program.exists()
