"""The Google provider's schema, as a package publishes it, and what of a configuration does not fit it.

Terraform itself would have to download the provider. HashiCorp published its schema for other languages too: a package on
PyPI holds every resource with its attributes, nested blocks and what is required. Nothing of the package is run.
Source: https://pypi.org/project/cdktf-cdktf-provider-google/ (archived by HashiCorp)
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.terraform import Block, expressions

PACKAGE, VERSION, PROVIDER_VERSION = "cdktf-cdktf-provider-google", "16.12.1", "6.50.0"
SHA256 = "88d021c89e1cf2abf2c935716d6548d26fe3da4bed30713d4fa36df1ef137436"

META = frozenset({"count", "for_each", "depends_on", "provider", "lifecycle"})
_ROOT = "@cdktf/provider-google."
_TYPE = re.compile(rf'"({re.escape(_ROOT)}\w+\.\w+)": {{')
_TERRAFORM_NAME = re.compile(r"/docs/[^ ]*#(\w+) ")
_REFERENCE = re.compile(r"(?<![\w.\"])(data\.)?(google_\w+)\.(\w+)(?:\[[^\]]*\])?(?:\.(\w+))?")


class Schema:
    """The provider's types by name; only those that are asked for are decoded, since all of them are 100 MB."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._places = {match[1]: match.end() - 1 for match in _TYPE.finditer(text)}
        self._decoder = json.JSONDecoder()
        self._decoded = cache(self._decoded_type)

    def problems(self, configuration: Sequence[Block]) -> list[str]:
        """What a configuration says that the provider does not take, what it leaves out, and what refers to nothing."""
        declared = {(block.kind, *block.labels[:2]) for block in configuration if block.kind in ("resource", "data")}
        found = [problem for block in configuration for problem in self._of_top(block)]
        for block in configuration:
            for kind, name, labels, attribute in _references(block):
                place = f"{kind}.{name}.{labels}"
                if (kind, name, labels) not in declared:
                    found.append(f"{place} is not declared")
                elif attribute and attribute not in self._attributes(kind, name):
                    found.append(f"{place} has no attribute {attribute}")
        return found

    def _of_top(self, block: Block) -> Iterator[str]:
        if block.kind == "provider":
            yield from self._of(block, f"{_ROOT}provider.GoogleProviderConfig", "provider")
        elif block.kind in ("resource", "data"):
            place = f"{block.kind}.{'.'.join(block.labels)}"
            config = f"{_class(block.kind, block.labels[0])}Config"
            if self._properties(config) is None:
                yield f"{place}: the provider has no {block.labels[0]}"
            else:
                yield from self._of(block, config, place, META)

    def _of(self, block: Block, type_name: str, place: str, besides: frozenset[str] = frozenset()) -> Iterator[str]:
        known = self._properties(type_name) or {}
        besides = besides | ({"for_each"} if block.is_dynamic else set())
        for name, value in block.body.items():
            if name in besides:
                continue
            if name not in known:
                yield f"{place}: there is no {name}"
                continue
            nested = _nested_type(known[name])
            given = value if isinstance(value, list) and value and isinstance(value[0], Block) else []
            if given and nested is None:
                yield f"{place}: {name} is an attribute and no block"
            elif nested is not None and not given:
                yield f"{place}: {name} is a block and no attribute"
            elif len(given) > 1 and "collection" not in json.dumps(known[name]["type"]):
                yield f"{place}: there is one {name} at most"
            for one in given:
                yield from self._of(one, nested or "", f"{place}.{name}")
        for name, wanted in known.items():
            if not wanted.get("optional") and name not in block.body:
                yield f"{place}: {name} is missing"

    def _attributes(self, kind: str, name: str) -> frozenset[str]:
        found = self._decoded(_class(kind, name)) or {}
        return frozenset(_snake(one["name"]) for one in found.get("properties", ()))

    def _properties(self, type_name: str) -> Mapping[str, Any] | None:
        found = self._decoded(type_name)
        if found is None:
            return None
        return {_name_of(one): one for one in found.get("properties", ())}

    def _decoded_type(self, type_name: str) -> dict[str, Any] | None:
        place = self._places.get(type_name)
        if place is None:
            return None
        found: dict[str, Any] = self._decoder.raw_decode(self._text, place)[0]
        return found


def fetched(folder: Path) -> Schema:
    """The schema, from the package as pip gets it: the one file with this hash, or none.

    Raises:
        subprocess.CalledProcessError: pip cannot get it; what it said is in `stderr`.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
    ]
    subprocess.run(
        [*pip, "--require-hashes", "-r", str(wanted), "-d", str(folder)], check=True, capture_output=True, text=True
    )
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [one for one in archive.namelist() if one.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(archive.read(name))) as package:
            member = package.extractfile("package/.jsii")
            assert member is not None
            return Schema(member.read().decode())


def _references(block: Block) -> Iterator[tuple[str, str, str, str | None]]:
    for expression in expressions(block):
        for data, name, label, attribute in _REFERENCE.findall(expression):
            yield "data" if data else "resource", name, label, attribute or None


def _class(kind: str, name: str) -> str:
    camel = "".join(part.capitalize() for part in name.removeprefix("google_").split("_"))
    camel = f"DataGoogle{camel}" if kind == "data" else camel
    return f"{_ROOT}{camel[0].lower()}{camel[1:]}.{camel}"


def _name_of(wanted: Mapping[str, Any]) -> str:
    told = _TERRAFORM_NAME.search(json.dumps(wanted.get("docs", {})))
    return told[1] if told else _snake(wanted["name"])


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _nested_type(wanted: Mapping[str, Any]) -> str | None:
    found = re.search(rf'"fqn": "({re.escape(_ROOT)}[^"]+)"', json.dumps(wanted["type"]))
    return found[1] if found else None
