"""The documentation site: each page has a place, links and anchors hold in both views, nothing comes from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest

from docs import site
from docs.generate import pages

ROOT = Path(__file__).parents[2]
HOW_TO_INSTALL = "THE SITE WAS NOT BUILT. It needs Zensical: pip install -e '.[site]', which `make test` and `make site` do"
LOADS = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
    "embed": "src",
}


def slug(heading: str) -> str:
    """The anchor that a repository view gives a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return "".join(mark for mark in text if mark.isalnum() or mark in " -_").replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page in a repository view."""
    prose = site.linked(page.read_text(), lambda link: link)
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#{1,6} (.+)$", re.sub(r"(?ms)^( *)(`{3,}).*?^ *\2 *$", "", prose)):
        anchor, number = slug(heading), 0
        while anchor in found:
            number += 1
            anchor = f"{slug(heading)}-{number}"
        found.add(anchor)
    return found


def links_of(page: Path) -> list[str]:
    """The targets of a page's links and images; what stands in code is none."""
    found: list[str] = []
    site.linked(page.read_text(), lambda link: found.append(link) or link)  # type: ignore[func-returns-value]
    return found


def wrong_links(page: Path) -> Iterator[str]:
    """The links of a page that lead nowhere in a repository view, and those to other sites that are not https."""
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            if urlsplit(link).scheme != "https" or not urlsplit(link).hostname:
                yield f"{page.name} links to {link}, which is not https"
            continue
        target = page.parent / path if path else page
        if not target.exists():
            yield f"{page.name} links to {link}, which is not there"
        elif anchor and target.suffix == ".md" and anchor not in anchors_of(target):
            yield f"{page.name} links to {link}, which has no such heading"


@pytest.mark.parametrize("page", [*pages(), ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere_in_the_repository(page: Path) -> None:
    assert list(wrong_links(page)) == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One\n\n## `two` of *it*, too\n\n## One\n\n```sh\n# three\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#one) [b](other.md#one-1) [c](other.md#two-of-it-too) `[code](nowhere.md)`\n"
        "[d](other.md#three) [e](gone.md) ![f](gone.png) [g](http://example.com) [h](#here) [i](https://example.com/#x)\n"
    )
    said = [problem.partition("links to ")[2] for problem in wrong_links(page)]
    assert [problem.partition(",")[0] for problem in said] == [
        "other.md#three",
        "gone.md",
        "gone.png",
        "http://example.com",
        "#here",
    ]


def test_every_page_has_a_place() -> None:
    placed = [page.source for _, found in site.pages() for page in found]
    assert len(placed) == len(set(placed))
    assert len({page.target for _, found in site.pages() for page in found}) == len(placed)
    assert {*placed, *site.NOT_ON_THE_SITE} == set(site.written())


def test_a_page_without_a_place_and_a_place_without_a_page_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "PLACES", (("Home", ("docs/a.md",)), ("More", ("docs/more/*.md", "deploy/x/README.md"))))
    for name in ("docs/a.md", "docs/more/2.md", "docs/more/1.md", "deploy/x/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# A\n")
    assert [[page.target for page in found] for _, found in site.pages()] == [["a.md"], ["more/1.md", "more/2.md", "x.md"]]
    (tmp_path / "docs" / "new.md").write_text("# New\n")
    with pytest.raises(site.SiteError, match=r"docs/new.md: has no place"):
        site.pages()
    (tmp_path / "docs" / "new.md").unlink()
    (tmp_path / "docs" / "a.md").unlink()
    with pytest.raises(site.SiteError, match=r"docs/a.md: is in PLACES"):
        site.pages()


def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(site, "PLACES", site.PLACES[1:])
    assert site.main([str(tmp_path)]) == 1
    assert "docs/README.md: has no place on the site; add a line to PLACES of docs/site.py" in capsys.readouterr().err


def test_links_that_leave_the_pages_lead_to_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "PLACES", (("Home", ("docs/README.md",)), ("D", ("docs/e.md", "docs/d/*.md"))))
    for name, text in {
        "docs/README.md": "# A\n[d](d/1.md#x) ![i](i.png) [c](../deploy/c.json) [m](../tests/m.md) [h](../.h) "
        "`[no](../gone)`\n```\n[no](../gone)\n```\n",
        "docs/d/1.md": "# D\n[home](../README.md) [front](../../README.md) [c](../../deploy/c.json)\n",
        "docs/e.md": "# E\n",
        "docs/i.png": "",
        "deploy/c.json": "{}",
        "tests/m.md": "[no](gone.md)",
        ".h": "",
        "README.md": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "docs" / "d" / "2.md").write_text("# E\n")
    settings = site.assembled(tmp_path / "out")
    assert 'nav: [{"Home": "index.md"}, {"D": ["e.md", {"D": ["d/1.md", "d/2.md"]}]}]' in settings.read_text()
    shown = settings.parent / "pages"
    home = (shown / "index.md").read_text()
    links = "[d](d/1.md#x) ![i](i.png) [c](files/deploy/c.json) [m](files/tests/m.md.txt) [h](files/h.txt)"
    assert f"{links} `[no](../gone)`\n```\n[no](../gone)" in home
    assert "[home](../index.md) [front](../index.md) [c](../files/deploy/c.json)" in (shown / "d" / "1.md").read_text()
    assert (shown / "files" / "deploy" / "c.json").read_text() == "{}"
    (tmp_path / "docs" / "README.md").write_text("[x](../../secret)")
    with pytest.raises(site.SiteError, match="which is not there"):
        site.assembled(tmp_path / "out")


class _Built(HTMLParser):
    """What a built page loads, links to, and can be linked to at."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Takes down one tag."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif found.get("rel") not in ("next", "prev", "canonical") and LOADS.get(tag) in found:
            self.loads.append(found[LOADS[tag]])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built as `make site` does."""
    if importlib.util.find_spec("zensical") is None:
        if os.environ.get("CI"):
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    return site.built(tmp_path_factory.mktemp("site"))


@pytest.mark.long
def test_the_built_site_is_whole(built: Path) -> None:
    pages = {page.relative_to(built).as_posix(): _Built(page) for page in built.rglob("*.html")}
    placed = {page.target.replace(".md", ".html") for _, found in site.pages() for page in found}
    assert set(pages) == {*placed, "404.html"}
    index = (built / "search.json").read_text()
    assert [name for name in placed if f'"{name}' not in index] == []
    wrong = []
    for name in placed:
        for link in pages[name].links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                wrong += [] if parts.scheme == "https" or parts.hostname == "127.0.0.1" else [(name, link)]
                continue
            target = os.path.normpath(PurePosixPath(name).parent / unquote(parts.path)) if parts.path else name
            target = "index.html" if target == "." else target
            if not (built / target).is_file() or (parts.fragment and unquote(parts.fragment) not in pages[target].anchors):
                wrong.append((name, link))
    assert wrong == []


@pytest.mark.long
def test_the_built_site_loads_nothing_from_elsewhere(built: Path) -> None:
    for page in built.rglob("*.html"):
        strange = [link for link in _Built(page).loads if urlsplit(link).netloc or urlsplit(link).scheme not in ("", "data")]
        assert strange == [], page
        # The theme's script knows addresses of diagrams and galleries, which no page has; a browser may not ask for them.
        assert f'content="{site.POLICY}"' in page.read_text(), page
    for sheet in built.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)", sheet.read_text()) == [], sheet
    assert "default-src 'self' " in site.POLICY
    assert "//" not in site.POLICY
