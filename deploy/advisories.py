"""Asks whether what is locked has known vulnerabilities: `python -m deploy.advisories`.

First it asks about a package that is known to be bad, and installs nothing of it: where that is not reported, nothing that
the service says of other packages means anything, and the check is SKIPPED, loudly. Only then the locks are audited.
The work is pip-audit's, the advisories are those of OSV (https://osv.dev), or of a mirror of it.

Exit code: 0 nothing is known, or skipped; 1 something is known; 2 the audit broke off; 3 skipped, with `--must`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.lock import DEPLOY, LOCKS

KNOWN_BAD = DEPLOY / "known-bad.txt"
"""One package in a version with an advisory that nobody will withdraw: a sandbox escape of 2019."""

OSV_URL = "https://api.osv.dev/v1/query"

CLEAN, FOUND, BROKEN, UNPROVED = 0, 1, 2, 3

_WHOLE_AUDIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Audit:
    """What pip-audit said. `advisories` are of any package, `unknown` the packages that it could not look at."""

    advisories: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    failure: str = ""
    package_count: int = 0


def audited(*requirements: Path, osv_url: str, ignored: Sequence[str] = ()) -> Audit:
    """What is known of each package of some requirements files; nothing is installed, and no package index is asked."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps"]
        command += [part for one in requirements for part in ("--requirement", str(one))]
        command += ["--vulnerability-service", "osv", "--osv-url", osv_url, "--format", "json", "--progress-spinner", "off"]
        command += ["--desc", "off", "--cache-dir", cache, *(part for one in ignored for part in ("--ignore-vuln", one))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WHOLE_AUDIT_S)
        except subprocess.TimeoutExpired:
            return Audit(failure="no answer in time")
    try:
        # The exit code does not tell "something is known" from a broken connection: both are 1.
        packages = json.loads(done.stdout)["dependencies"]
        return Audit(
            advisories=tuple(
                f"{one['name']} {one['version']}: {known['id']}"
                + (f" ({', '.join(known['aliases'])})" if known["aliases"] else "")
                + (f", fixed in {', '.join(known['fix_versions'])}" if known["fix_versions"] else ", no fix yet")
                for one in packages
                for known in one.get("vulns", ())
            ),
            unknown=tuple(one["name"] for one in packages if "skip_reason" in one),
            package_count=len(packages),
        )
    except (ValueError, KeyError, TypeError):
        return Audit(failure=_last_line(done.stderr))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "pip-audit said nothing"


def main(arguments: Sequence[str]) -> int:
    """Proves the check on the known-bad package, then audits the locks; the exit code is one of the four above."""
    parser = argparse.ArgumentParser(prog="python -m deploy.advisories", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--osv-url", default=OSV_URL, help="where OSV's query API is, for a mirror")
    parser.add_argument("--must", action="store_true", help="a check that cannot prove itself fails, for releases")
    parser.add_argument("--ignore", action="append", default=[], metavar="ID", help="an advisory that was looked into")
    options = parser.parse_args(arguments)
    control = audited(KNOWN_BAD, osv_url=options.osv_url)
    if not control.advisories:
        reason = control.failure or f"it reports nothing for {KNOWN_BAD.name}, which is known to be bad"
        _tell(
            "!" * 78,
            "SKIPPED. Nothing was checked: the check cannot prove itself here.",
            f"{options.osv_url}: {reason}",
            "run it where OSV or a mirror of it answers (--osv-url); with --must this is a failure.",
            "!" * 78,
        )
        return UNPROVED if options.must else CLEAN
    _tell(f"the check works here: {control.advisories[0]}")
    result = audited(*(lock.path for lock in LOCKS), osv_url=options.osv_url, ignored=options.ignore)
    if result.failure:
        _tell(f"the audit of the locks broke off: {result.failure}")
        return BROKEN
    _tell(*result.advisories, *(f"{name} could not be audited" for name in result.unknown))
    if result.advisories or result.unknown:
        return FOUND if result.advisories else BROKEN
    _tell(f"nothing is known of the {result.package_count} locked packages")
    return CLEAN


def _tell(*lines: str) -> None:
    for line in lines:
        # What a service answers is shown, and not obeyed by a terminal.
        print("advisories: " + "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
