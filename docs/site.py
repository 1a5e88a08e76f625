"""Builds the documentation site into build/site: `python -m docs.site`.

The pages are those of the repository, where they read as well; here they are put into an order, and links that leave them
(to deploy/) lead to copies. What does not hold, a page that nobody placed or a link that leads nowhere, ends the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "deploy" / "site"
BUILD = ROOT / "build"

PLACES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Home", ("docs/README.md",)),
    ("Tutorial", ("docs/quick-start.md",)),
    (
        "How-to",
        (
            "docs/how-to.md",
            "docs/operations.md",
            "docs/observability*.md",
            "docs/image*.md",
            "deploy/*/README.md",
            "docs/versions*.md",
            "docs/scale*.md",
            "docs/review.md",
            "docs/exports.md",
            "docs/sandbox.md",
            "docs/runbooks/*.md",
        ),
    ),
    (
        "Reference",
        (
            "docs/configuration.md",
            "docs/reference.md",
            "docs/api.md",
            "docs/events.md",
            "docs/errors.md",
            "CHANGELOG.md",
        ),
    ),
    (
        "Explanation",
        (
            "docs/signals.md",
            "docs/data-model.md",
            "docs/privacy.md",
            "docs/security.md",
            "docs/reliability.md",
            "docs/performance.md",
        ),
    ),
    ("Benchmarks", ("docs/benchmarks.md",)),
    ("Decisions", ("docs/decisions/README.md", "docs/decisions/*.md")),
)
"""The sections of the site and their pages in order, by their paths in the repository; a pattern takes what is there."""

POLICY = "default-src 'self' file: data: blob: 'unsafe-inline'"
"""What a browser may load for a page: the site's own files, also from a disk. The theme's script could fetch more."""

NOT_ON_THE_SITE = frozenset({"README.md"})
"""Pages that are for the repository only: its front page says in short what the site says at length."""

_FENCED = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^ *\2`* *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\]\()([^)\s]+)(\))")


class SiteError(Exception):
    """The site cannot be built as the pages are; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its path in the repository, and on the site, where it ends in `.md` too."""

    source: str
    target: str


def pages() -> list[tuple[str, list[Page]]]:
    """The sections of the site with their pages; each page once, at the first place that names it.

    Raises:
        SiteError: a place names a page that is not there, or a page has no place.
    """
    placed: set[str] = set()
    sections = []
    for title, patterns in PLACES:
        found: list[Page] = []
        for pattern in patterns:
            names = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
            if not names and "*" not in pattern:
                raise SiteError(f"{pattern}: is in PLACES of docs/site.py, and is not there")
            found += [Page(name, _target(name)) for name in names if name not in placed]
            placed.update(names)
        if found:
            sections.append((title, found))
    lost = sorted(name for name in written() if name not in placed and name not in NOT_ON_THE_SITE)
    if lost:
        raise SiteError(f"{', '.join(lost)}: has no place on the site; add a line to PLACES of docs/site.py")
    return sections


def written() -> Iterator[str]:
    """Every page that people are to read, by its path in the repository."""
    yield from (path.name for path in ROOT.glob("*.md"))
    for folder in ("docs", "deploy"):
        yield from (path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.md"))


def _target(source: str) -> str:
    """`docs/exports.md` is `exports.md`; of other folders the folder's name counts: `deploy/x/README.md` is `x.md`."""
    path = PurePosixPath(source)
    if path.parts[0] == "docs":
        path = path.relative_to("docs")
        return (path.with_name("index.md") if path.name == "README.md" else path).as_posix()
    return f"{path.parent.name}.md" if path.name == "README.md" else path.name.lower()


def linked(text: str, change: Callable[[str], str]) -> str:
    """`text` with the target of every link and image replaced by what `change` gives; code stays as it is."""
    parts, end = [], 0
    for block in _FENCED.finditer(text):
        parts += [_relinked(text[end : block.start()], change), block[0]]
        end = block.end()
    return "".join([*parts, _relinked(text[end:], change)])


def _relinked(prose: str, change: Callable[[str], str]) -> str:
    pieces = re.split(r"(`+[^`]*`+)", prose)
    if not any(piece.startswith("`") and "](" in piece for piece in pieces):
        return _LINK.sub(lambda found: found[1] + change(found[2]) + found[3], prose)
    return "".join(
        piece if piece.startswith("`") else _LINK.sub(lambda found: found[1] + change(found[2]) + found[3], piece)
        for piece in pieces
    )


def assembled(folder: Path) -> Path:
    """Writes the pages, what they show and link to, and the settings below `folder`; gives the settings' file.

    Raises:
        SiteError: a page without a place, a place without a page, or a link to something that is not there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shown = folder / "pages"
    (shown / "assets").mkdir(parents=True)
    for name in ("site.css", "favicon.svg"):
        shutil.copy(SETTINGS / name, shown / "assets" / name)
    sections = pages()
    targets = {page.source: page.target for _, found in sections for page in found}
    targets |= dict.fromkeys(NOT_ON_THE_SITE, "index.md")
    for _, found in sections:
        for page in found:
            _write(page, shown, targets)
    navigation = [{title: _entries(found)} for title, found in sections]
    settings = folder / "mkdocs.yml"
    own = {"docs_dir": "pages", "site_dir": "site", "nav": navigation}
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in own.items())
    settings.write_text((SETTINGS / "mkdocs.yml").read_text() + lines)
    return settings


def _entries(found: Sequence[Page]) -> object:
    """A section of the navigation; pages of a folder beside others are a group, under the folder's name."""
    if len(found) == 1:
        return found[0].target
    entries: list[object] = []
    groups = [(folder, list(group)) for folder, group in groupby(found, lambda page: PurePosixPath(page.target).parent.name)]
    for folder, group in groups:
        names = [page.target for page in group]
        entries += [{folder.capitalize(): names}] if folder and len(groups) > 1 else names
    return entries


def _write(page: Page, shown: Path, targets: dict[str, str]) -> None:
    here = PurePosixPath(page.target).parent

    def change(link: str) -> str:
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"[a-z][a-z0-9+.-]*:", path):
            return link
        source = os.path.normpath(PurePosixPath(page.source).parent / path)
        if not (ROOT / source).exists() or source.startswith(".."):
            raise SiteError(f"{page.source}: links to {link}, which is not there")
        return os.path.relpath(targets.get(source) or _copied(source, shown), here) + mark + anchor

    target = shown / page.target
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(linked((ROOT / page.source).read_text(), change))


def _copied(source: str, shown: Path) -> str:
    """Where a file that is no page stands on the site, which has no hidden files; Markdown is shown as it is written."""
    target = source.removeprefix("docs/") if source.startswith("docs/") else f"files/{source}"
    target = re.sub(r"(^|/)\.([^/]+)$", r"\1\2.txt", target)
    target += ".txt" if target.endswith(".md") else ""
    place = shown / target
    if (ROOT / source).is_dir():
        raise SiteError(f"{source}: is linked to and is a folder; link to a file of it")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / source, place)
    return target


def built(folder: Path = BUILD) -> Path:
    """Builds the site, and gives its folder.

    Raises:
        SiteError: it cannot be assembled, or the builder finds fault with it; its own words are in the message.
    """
    settings = assembled(folder / "site-source")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"})  # noqa: S603 - our own words
    if done.returncode:
        raise SiteError(re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).split("Traceback")[0].strip())
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(settings.parent / "site", site)
    for page in site.rglob("*.html"):
        head = f'<head>\n    <meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        page.write_text(page.read_text().replace("<head>", head, 1))
    return site


def main(arguments: Sequence[str]) -> int:
    """Builds it and says where it is; the exit code says whether it could be built."""
    try:
        site = built(Path(arguments[0]) if arguments else BUILD)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{site}: {sum(1 for _ in site.rglob('*.html'))} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
