"""The built wheel, not the checkout, passes the unit and property tests on every supported Python that is installed.

And it runs with nothing but what is locked. On the Python that runs this the checkout passes the same tests: there the wheel
need not, as long as another Python shows that nothing is missing from it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.lock import PYTHONS
from tests.environments import install, new_environment, pip

ROOT = Path(__file__).parents[2]


pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


def interpreter(version: str) -> str | None:
    """The path of that Python, if it starts: on the path, or among pyenv's versions (its shims may lead nowhere)."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *(str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in filter(None, candidates):
        answer = subprocess.run(
            [candidate, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=False
        )
        if answer.returncode == 0:
            return answer.stdout.strip()
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


def installed(version: str) -> str:
    """The path of that Python; without one the test is skipped."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed: install it (for example with pyenv) to test on it")
    return python


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_passes_its_tests(version: str, wheel: Path, tmp_path: Path) -> None:
    python = installed(version)
    venv_python = new_environment(python, tmp_path / "venv")
    install(venv_python, f"evalforge-ingestion[dev] @ {wheel.as_uri()}")
    place = tmp_path / "checkout"
    shutil.copytree(ROOT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "bench", "deploy", "docs", "README.md", ".dockerignore"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name != "PYTHONPATH"
    }
    done = subprocess.run(
        [
            venv_python,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-m",
            "not long",
            "tests/unit",
            "tests/property",
        ],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    shown = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "evalforge"), "--version"], capture_output=True, text=True, check=True
    )
    assert "0." in shown.stdout


@pytest.mark.parametrize("version", PYTHONS)
def test_what_is_locked_is_enough_to_build_and_to_run(version: str, tmp_path: Path) -> None:
    build, run = (new_environment(installed(version), tmp_path / name) for name in ("build", "run"))
    for python, lock in ((build, "build.lock"), (run, "requirements.lock")):
        install(python, "--require-hashes", "-r", str(ROOT / "deploy" / lock))
    wheels = ["-qq", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(ROOT)]
    pip(build, "wheel", *wheels)
    install(run, "--no-deps", "--no-index", *map(str, tmp_path.glob("*.whl")))
    pip(run, "check")
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [run, "-m", "evalforge", "demo"], cwd=tmp_path, env=outside, capture_output=True, text=True, check=True
    )
    assert "captures, one per failing trace" in shown.stdout


def test_a_file_that_is_not_the_locked_one_is_not_installed(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", (ROOT / "deploy" / "build.lock").read_text()))
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--target", str(tmp_path / "x"), "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "x").exists()
