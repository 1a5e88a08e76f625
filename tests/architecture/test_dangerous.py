"""Nothing in the package can turn text into code, start a program, or trust a stranger. A second test proves it can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "evalforge"

BAD_MODULES = {
    "text becomes code": "pickle marshal shelve dill cloudpickle joblib yaml jinja2 ctypes",
    "entities expand": "xml lxml",
    "starts programs": "subprocess pty",
    "in the clear": "telnetlib ftplib smtplib",
}
BAD_CALLS = {
    "text becomes code": "eval exec compile __import__",
    "starts programs": "os.system os.popen os.execv os.spawnv",
    "somebody else may make the file first": "tempfile.mktemp",
    "trusts anybody": "ssl._create_unverified_context",
    "can be collided": "hashlib.md5 hashlib.sha1",
}
KEYWORDS = {
    ("verify", False): "trusts anybody",
    ("check_hostname", False): "trusts anybody",
    ("shell", True): "starts programs",
    ("follow_redirects", True): "a redirect takes the keys along",
}
MODULES, CALLS = (
    {name: why for why, names in table.items() for name in names.split()} for table in (BAD_MODULES, BAD_CALLS)
)


def dangers_in(source: str) -> Iterator[str]:
    """What is dangerous in a module, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            whole = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"{node.lineno}: {MODULES[name.split('.')[0]]}" for name in whole if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            called = name_of(node.func)
            if called in CALLS:
                yield f"{node.lineno}: {CALLS[called]}"
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if isinstance(value, bool) and (keyword.arg, value) in KEYWORDS:
                    yield f"{node.lineno}: {KEYWORDS[str(keyword.arg), value]}"
        elif isinstance(node, ast.Attribute) and (node.attr == "CERT_NONE" or is_switched_off(node)):
            yield f"{node.lineno}: trusts anybody"


def name_of(called: ast.expr) -> str:
    """`a.b.c` as it is written, empty for what is not a name."""
    if isinstance(called, ast.Name):
        return called.id
    owner = name_of(called.value) if isinstance(called, ast.Attribute) else ""
    return f"{owner}.{called.attr}" if owner and isinstance(called, ast.Attribute) else ""


def is_switched_off(node: ast.Attribute) -> bool:
    """Whether something is assigned to the switch that checks the name in a certificate."""
    return node.attr == "check_hostname" and isinstance(node.ctx, ast.Store)


LOOKED_INTO = {"service/oidc.py": 1, "service/web/rendering.py": 1}
"""Dangers by file that are none: a token names the key that its signature is checked with, so it is read once before; pages
are made of templates of the package alone, which escape whatever they show."""


def test_only_files_of_the_package_become_templates() -> None:
    source = (PACKAGE / "service" / "web" / "rendering.py").read_text()
    assert "autoescape=True" in source
    assert 'PackageLoader("evalforge.service.web")' in source
    assert "from_string" not in source
    templates = list((PACKAGE / "service" / "web" / "templates").glob("*.html"))
    assert len(templates) >= 10
    assert not any(word in path.read_text() for path in templates for word in ("safe }}", "|safe", "| safe", "autoescape"))


def test_nothing_dangerous_is_used() -> None:
    found = {str(path.relative_to(PACKAGE)): list(dangers_in(path.read_text())) for path in PACKAGE.rglob("*.py")}
    assert {path: dangers for path, dangers in found.items() if len(dangers) > LOOKED_INTO.get(path, 0)} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import safe_load",
        "def f():\n    import xml.etree.ElementTree as tree",
        "from subprocess import run",
        "eval('1')",
        "import os\nos.system('x')",
        "httpx.AsyncClient(verify=False)",
        "client.get(url, follow_redirects=True)",
        "context.verify_mode = ssl.CERT_NONE",
        "context.check_hostname = False",
        "import ssl\nssl._create_unverified_context()",
        "hashlib.md5(b'')",
    ],
)
def test_a_danger_is_seen(source: str) -> None:
    assert list(dangers_in(source))
