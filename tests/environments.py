"""Virtual environments that tests make for themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def new_environment(python: str, folder: Path) -> str:
    """The interpreter of a new virtual environment of that Python, with nothing in it, not even pip."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


def install(python: str, *wanted: str) -> None:
    """Installs into the environment of that interpreter what pip's arguments ask for.

    uv does it in a tenth of the time. Where it cannot, pip is asked: a mirror may be named in pip's settings alone.

    Raises:
        subprocess.CalledProcessError: neither could; its `stderr` is what pip said.
    """
    uv = [sys.executable, "-m", "uv", "--no-config", "--quiet", "pip", "install", "--python", python, *wanted]
    if subprocess.run(uv, check=False, capture_output=True).returncode:
        pip(python, "install", "-qq", *wanted)


def pip(python: str, *arguments: str) -> None:
    """Runs the pip of the tests' own environment on that of another interpreter.

    Raises:
        subprocess.CalledProcessError: it failed; `stderr` is what it said.
    """
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)
