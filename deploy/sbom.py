"""Writes deploy/sbom.cdx.json, the bill of materials of the locked run time: `python -m deploy.sbom`; `--check` compares.

CycloneDX 1.6: name, version, licences as declared, and who needs whom, of every package in requirements.lock. The hashes
of their files are the lock's; the bill names the lock by its own. It is committed, so that it can be read and compared
without a network (docs/decisions/0013-supply-chain.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from deploy.lock import DEPLOY, ROOT, RUN_TIME, pins_in, project

SBOM = DEPLOY / "sbom.cdx.json"
SPEC_VERSION = "1.6"

Bill = dict[str, Any]


def bill_of(environment: Path, pyproject: Path, lock: str) -> Bill:
    """The bill of what is installed in a virtual environment; equal environments give equal bills.

    Raises:
        subprocess.CalledProcessError: the environment cannot be read, or what came of it is not valid CycloneDX.
    """
    command = ["environment", str(environment), "--pyproject", str(pyproject), "--output-reproducible", "--validate"]
    command += ["--spec-version", SPEC_VERSION, "--output-format", "JSON"]
    done = subprocess.run([sys.executable, "-m", "cyclonedx_py", *command], check=True, capture_output=True)
    bill: Bill = json.loads(done.stdout)
    reference = {
        "type": "build-meta",
        "url": f"deploy/{RUN_TIME.name}",
        "comment": "every package in one version, with the SHA-256 of each of its files",
        "hashes": [{"alg": "SHA-256", "content": _digest(lock)}],
    }
    bill["metadata"]["component"]["externalReferences"] = [reference]
    return bill


def problems_of(bill: Mapping[str, Any], lock: str, pyproject: Mapping[str, Any]) -> Iterator[str]:
    """Why the bill is not that of this project and this lock; nothing when it is."""
    root = bill["metadata"]["component"]
    if (root["name"], root["version"]) != (pyproject["project"]["name"], pyproject["project"]["version"]):
        yield f"it is that of {root['name']} {root['version']}"
    digests = [entry["content"] for one in root.get("externalReferences", ()) for entry in one.get("hashes", ())]
    if digests != [_digest(lock)]:
        yield "it was made from another lock"
    locked = {(pin.name, pin.version) for pin in pins_in(lock)}
    billed = {(canonicalize_name(one["name"]), one["version"]) for one in bill["components"]}
    yield from (f"it lacks {name} {version}" for name, version in sorted(locked - billed))
    yield from (f"it has {name} {version}, which is not locked" for name, version in sorted(billed - locked))
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    refs = {one["bom-ref"] for one in bill["components"]}
    reached: set[str] = set()
    waiting = [root["bom-ref"]]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += needs.get(ref, [])
    yield from (f"{ref} is needed and not in it" for ref in sorted(reached - refs - {root["bom-ref"]}))
    yield from (f"{ref} is in it and needed by nothing" for ref in sorted(refs - reached))


def _digest(lock: str) -> str:
    return hashlib.sha256(lock.encode()).hexdigest()


def installed(lock: Path, folder: Path) -> Path:
    """A new virtual environment in `folder` with what the lock says and nothing else, each file compared with its hash.

    Raises:
        subprocess.CalledProcessError: pip could not install it; it has said why.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder), "install", "-qq", "--require-hashes", "-r", str(lock)]
    subprocess.run(pip, check=True)
    return folder


def main(arguments: Sequence[str]) -> int:
    """Writes the bill, or with `--check` says what is wrong with it; the exit code says whether all is right."""
    lock = RUN_TIME.path.read_text()
    if "--check" not in arguments:
        with tempfile.TemporaryDirectory() as folder:
            bill = bill_of(installed(RUN_TIME.path, Path(folder) / "venv"), ROOT / "pyproject.toml", lock)
        draft = SBOM.with_suffix(".new")
        draft.write_text(json.dumps(bill, indent=1, sort_keys=True, ensure_ascii=True) + "\n")
        os.replace(draft, SBOM)
        print(f"deploy/{SBOM.name}: {len(bill['components'])} components")
    found = list(problems_of(json.loads(SBOM.read_text()), lock, project())) if SBOM.exists() else ["it is not there"]
    for problem in found:
        print(f"deploy/{SBOM.name}: {problem}; run `make sbom`")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
