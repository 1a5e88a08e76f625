"""Builds the image, and refuses to release one whose base is not named by digest: `python -m deploy.image build|check`.

    python -m deploy.image build --base python:3.13-slim --tag evalforge:try
    python -m deploy.image build --base python:3.13-slim@sha256:... --tag REGISTRY/evalforge:0.1.0 --release
    python -m deploy.image check REGISTRY/evalforge:0.1.0

Options after `--` go to the engine as they are. Exit code: 0 done; 1 refused; 2 not understood, or no engine answers;
otherwise the engine's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.image import engines, index, references
from deploy.lock import ROOT, project

DOCKERFILE = Path(__file__).parent / "Dockerfile"

DONE, REFUSED, NOT_UNDERSTOOD = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    """Does what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=[one.name for one in engines.ENGINES], help="instead of the first that answers")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the image")
    build.add_argument("--base", required=True, metavar="REF", help="an image with Python 3.11 to 3.13 and its venv module")
    build.add_argument("--tag", default="evalforge", help="what the image is called (%(default)s)")
    build.add_argument("--release", action="store_true", help="refuse a base without a digest, and a checkout with changes")
    build.add_argument("options", nargs="*", help="further options of the engine, after --")
    check = commands.add_parser("check", help="refuse an image whose base has no digest")
    check.add_argument("image", metavar="IMAGE")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "build":
            return _build(asked.engine, asked.base, asked.tag, asked.options, release=asked.release)
        return _check(asked.engine, asked.image)
    except engines.NoEngineError as error:
        print(error, file=sys.stderr)
        return NOT_UNDERSTOOD
    except subprocess.CalledProcessError as error:
        return error.returncode


def _build(engine: str | None, base: str, tag: str, options: Sequence[str], *, release: bool) -> int:
    revision, is_changed = _checkout()
    problem = references.refusal(base) or (None if revision and not is_changed else "what is built here is no commit")
    if release and problem:
        print(f"refused: {problem}", file=sys.stderr)
        return REFUSED
    builder = engines.found_engine(engine)
    told = {
        "BASE": base,
        "VERSION": project()["project"]["version"],
        "REVISION": revision + ("-changed" if is_changed else ""),
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "--file",
            str(DOCKERFILE),
            "--tag",
            tag,
            *index.secrets_for(index.settings_of_this_machine(), Path(folder)),
        ]
        command += [part for name, value in told.items() for part in ("--build-arg", f"{name}={value}")]
        builder.build([*command, *options, str(ROOT)])
    print(f"{tag}: built by {builder.name} on {base}")
    return DONE


def _checkout() -> tuple[str, bool]:
    """The commit that is checked out, empty where there is none, as in an sdist; and whether files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "", True
    return commit, bool(status.strip())


def _check(engine: str | None, image: str) -> int:
    try:
        base = engines.found_engine(engine).labels(image).get(references.BASE_LABEL)
    except LookupError as error:
        print(f"refused: {error.args[0]}", file=sys.stderr)
        return REFUSED
    if found := references.refusal(base):
        print(f"refused: {found}", file=sys.stderr)
        return REFUSED
    print(f"{image}: built on {base}")
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
