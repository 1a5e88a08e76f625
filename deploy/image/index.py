"""Where pip inside a build gets packages from: what pip outside is set to, as files that are mounted and never copied."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

CERTIFICATES_INSIDE = "/run/secrets/ca"

_PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_LEVELS = ("global", "install", ":env:")
"""Of pip's settings, from the weakest to the strongest."""


def settings_in(listing: str) -> dict[str, str]:
    """The settings of an index in what `pip config list` prints; what names a place on this machine is left out.

    `cert` is the one path that stays: the caller mounts what is there.
    """
    found: dict[str, str] = {}
    for level in _LEVELS:
        for line in listing.splitlines():
            name, equals, value = line.partition("=")
            setting = name.removeprefix(f"{level}.")
            if equals and setting != name and setting in (*_PASSED_ON, "cert"):
                found[setting] = str(ast.literal_eval(value))
    for name in ("index-url", "extra-index-url"):
        addresses = [one for one in found.pop(name, "").split() if one.startswith(("http://", "https://"))]
        if addresses:
            found[name] = " ".join(addresses)
    return found


def secrets_for(settings: Mapping[str, str], folder: Path) -> list[str]:
    """Options of a build that mount the settings, and the certificates they name; the files are made in `folder`."""
    passed_on = {name: value for name, value in settings.items() if name in _PASSED_ON}
    certificates = Path(settings.get("cert", ""))
    options: list[str] = []
    if certificates.is_file():
        passed_on["cert"] = CERTIFICATES_INSIDE
        options += ["--secret", f"id=ca,src={certificates}"]
    path = folder / "pip.conf"
    path.touch(mode=0o600)  # an index' address may hold a password
    path.write_text("\n".join(["[global]", *_lines(passed_on.items())]) + "\n")
    return ["--secret", f"id=pip,src={path}", *options]


def _lines(settings: Iterable[tuple[str, str]]) -> list[str]:
    # What follows a line of a setting is indented; pip reads no interpolation.
    return [f"{name} = " + "\n    ".join(value.split()) for name, value in sorted(settings)]


def settings_of_this_machine() -> dict[str, str]:
    """What pip of this environment is set to, by files and by variables.

    Raises:
        subprocess.CalledProcessError: pip cannot read its own settings; it has said why.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    return settings_in(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
