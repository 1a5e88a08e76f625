"""Writes the locks of deploy/ from pyproject.toml: `python -m deploy.lock`, with `--check` only to compare, offline.

requirements.lock is what the service and the command need at run time, with the extras that a deployment has; build.lock is
what makes the wheel. Every package is there in one version, with the SHA-256 of each of its files, whatever index they come
from. `--upgrade` takes the newest versions; without it those that are locked stay as long as pyproject.toml lets them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

DEPLOY = Path(__file__).parent
ROOT = DEPLOY.parent

PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
"""Where the locks can be installed, as uv calls these places. Intel Macs are none: cryptography has no wheels for them."""

WHEELS_ONLY = "--only-binary :all:"
"""The one option in a lock: no package runs code of its own while it is installed."""

_REQUIRES = "# requires: "
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock: its file, and what it is made for, read from pyproject.toml."""

    name: str
    requirements: Callable[[Mapping[str, Any]], Sequence[str]]

    @property
    def path(self) -> Path:
        """Where the lock stands."""
        return DEPLOY / self.name

    def required(self, pyproject: Mapping[str, Any]) -> list[str]:
        """What pyproject.toml asks for, in one spelling and order."""
        return sorted(str(Requirement(text)) for text in self.requirements(pyproject))


DEPLOYED_EXTRAS = ("gcs", "otel")
"""The extras that are locked too, and so in the image: what is deployed exports to buckets, and is watched."""


def _run_time(pyproject: Mapping[str, Any]) -> list[str]:
    extras = pyproject["project"]["optional-dependencies"]
    return [*pyproject["project"]["dependencies"], *(one for name in DEPLOYED_EXTRAS for one in extras[name])]


LOCKS = (
    Lock("requirements.lock", _run_time),
    Lock("build.lock", lambda pyproject: pyproject["build-system"]["requires"]),
)
RUN_TIME = LOCKS[0]


@dataclass(frozen=True, slots=True)
class Pin:
    """One locked package. `via` are the packages that need it; None among them is the project itself."""

    requirement: Requirement
    hashes: tuple[str, ...]
    via: frozenset[str | None]

    @property
    def name(self) -> str:
        """The package's name in its normal form."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """The locked version; empty when none is locked exactly."""
        exact = [one for one in self.requirement.specifier if one.operator == "==" and not one.version.endswith(".*")]
        return exact[0].version if len(exact) == len(self.requirement.specifier) == 1 else ""


def pins_in(text: str) -> Iterator[Pin]:
    """The packages of a lock, in its order.

    Raises:
        ValueError: a line is none that a lock may hold; the message has the line.
    """
    for entry in _entries(text):
        head, *rest = entry
        hashes = [part for part in rest if part.startswith("--")]
        via = [part.removeprefix("# via").removeprefix("#").strip() for part in rest if part.startswith("#")]
        if any(_HASH.fullmatch(part) is None for part in hashes):
            raise ValueError(f"{head}: an option that is no SHA-256")
        try:
            requirement = Requirement(head)
        except InvalidRequirement:
            raise ValueError(f"{head!r} is no package in one version") from None
        needed_by = frozenset(None if " " in name else canonicalize_name(name) for name in via if name)
        yield Pin(requirement, tuple(hashes), needed_by)


def _entries(text: str) -> Iterator[list[str]]:
    """The lines of each package, without what joins them; the options and comments above the first are left out."""
    entry: list[str] = []
    for line in text.splitlines():
        stripped = line.strip().removesuffix("\\").rstrip()
        if not stripped or line.startswith("# ") or stripped == WHEELS_ONLY:
            continue
        if not line.startswith(" "):
            if entry:
                yield entry
            entry = []
        entry.append(stripped)
    if entry:
        yield entry


def problems_of(text: str, required: Sequence[str]) -> list[str]:
    """Why a lock cannot be trusted to be what `required` (as `Lock.required` gives it) needs; nothing when it can."""
    found = []
    lines = text.splitlines()
    locked_for = [line.removeprefix(_REQUIRES) for line in lines if line.startswith(_REQUIRES)]
    for missing in sorted(set(required) - set(locked_for)):
        found.append(f"it was not locked for {missing}")
    for gone in sorted(set(locked_for) - set(required)):
        found.append(f"it was locked for {gone}, which is not asked for any more")
    if WHEELS_ONLY not in lines:
        found.append(f"it lacks {WHEELS_ONLY}")
    found += [f"{line.strip()!r}: a place on a machine or in a network" for line in lines if _names_a_place(line)]
    try:
        pins = list(pins_in(text))
    except ValueError as error:
        return [*found, str(error)]
    return [*found, *_problems_of_pins(pins, [Requirement(one) for one in required])]


def _names_a_place(line: str) -> bool:
    return "://" in line or ("/" in line and not line.startswith("# "))


def _problems_of_pins(pins: Sequence[Pin], required: Iterable[Requirement]) -> Iterator[str]:
    versions = {pin.name: pin for pin in pins}
    if len(versions) < len(pins):
        yield "a package is there twice"
    for pin in pins:
        if not pin.version or pin.requirement.url is not None:
            yield f"{pin.name} is not locked to one version"
        if not pin.hashes:
            yield f"{pin.name} has no hash"
    wanted = {canonicalize_name(one.name): one for one in required}
    for name, requirement in wanted.items():
        if name not in versions:
            yield f"{name} is not locked"
        elif not requirement.specifier.contains(versions[name].version or "0", prereleases=True):
            yield f"{name} {versions[name].version} is not what pyproject.toml asks for: {requirement}"
    for pin in pins:
        if (None in pin.via) != (pin.name in wanted):
            yield f"{pin.name} is needed by the project {'no more' if None in pin.via else 'and does not say so'}"
        yield from (
            f"{pin.name} is needed by {name}, which is not locked" for name in pin.via if name and name not in versions
        )
    reached: set[str] = set()
    while more := {pin.name for pin in pins if None in pin.via or pin.via & reached} - reached:
        reached |= more
    yield from (f"{name} is needed by nothing" for name in versions if name not in reached)


def project() -> Mapping[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def check(pyproject: Mapping[str, Any]) -> list[str]:
    """The problems of all locks, each with the name of its file."""
    found = []
    for lock in LOCKS:
        if not lock.path.exists():
            found.append(f"deploy/{lock.name} is not there")
            continue
        found += [f"deploy/{lock.name}: {one}" for one in problems_of(lock.path.read_text(), lock.required(pyproject))]
    return found


def written(lock: Lock, pyproject: Mapping[str, Any], *, upgrade: bool) -> str:
    """A new text of the lock, as uv resolves it now on the index that its environment names.

    Raises:
        subprocess.CalledProcessError: uv found no solution, or no wheel for one of the places; it has said why.
    """
    required = lock.required(pyproject)
    with tempfile.TemporaryDirectory() as folder:
        draft, source = Path(folder) / lock.name, Path(folder) / "project.in"
        source.write_text("\n".join(required))
        if lock.path.exists():
            draft.write_text(lock.path.read_text())
        options = ["--universal", "--generate-hashes", "--only-binary", ":all:", "--emit-build-options", "--no-header"]
        options += ["--python-version", PYTHONS[0], "--output-file", draft.name, *(["--upgrade"] if upgrade else [])]
        _uv("compile", *options, source.name, folder=folder)
        resolved = draft.read_text().replace(f"-r {source.name}", "the project itself")
        for platform in PLATFORMS:
            for python in PYTHONS:
                place = ["--python-platform", platform, "--python-version", python]
                _uv("install", "--dry-run", "--target", "x", "--require-hashes", *place, "-r", draft.name, folder=folder)
    head = ["# Made by `make lock` from pyproject.toml, and compared with it by `make check`."]
    return "\n".join([*head, *(f"{_REQUIRES}{one}" for one in required), resolved])


def _uv(command: str, *arguments: str, folder: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "uv", "--no-config", "--quiet", "pip", command, *arguments],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def main(arguments: Sequence[str]) -> int:
    """Writes the locks, or with `--check` names what is wrong with them; the exit code says whether all is right."""
    pyproject = project()
    if "--check" not in arguments:
        for lock in LOCKS:
            text = written(lock, pyproject, upgrade="--upgrade" in arguments)
            draft = lock.path.with_suffix(".new")
            draft.write_text(text)
            os.replace(draft, lock.path)
            print(f"deploy/{lock.name}: {len(list(pins_in(text)))} packages")
    found = check(pyproject)
    for problem in found:
        print(f"{problem}; run `make lock`")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
