"""The Terraform configuration in deploy/terraform as plain values, and real Terraform where it is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "deploy" / "terraform"
HOW_TO_INSTALL = (
    "TERRAFORM DID NOT RUN. Put `terraform` 1.9 or newer on the PATH, from developer.hashicorp.com/terraform/install "
    "or HashiCorp's apt repository. PyPI, npm and Debian lack it: what is called so there downloads it, or is years old"
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its kind (`resource`, `variable`, or the name of a nested one), its labels, and what stands in it.

    In `body` the value of an attribute is a Python value, an `Expression` where it is not literal; nested blocks are lists
    of `Block`, those of `dynamic` blocks among them with `is_dynamic`.
    """

    kind: str
    labels: tuple[str, ...]
    body: Mapping[str, Any]
    is_dynamic: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    def only(self, *path: str) -> Block:
        """The one nested block at the end of these names."""
        found = self
        for name in path:
            [found] = found[name]
        return found


class Expression(str):
    """The source of a value that only Terraform can tell."""

    __slots__ = ()


def blocks(*texts: str) -> list[Block]:
    """Every top-level block of some files' texts."""
    import hcl2  # takes a while, and most who import this module only collect tests

    return [block for text in texts for block in _nested(hcl2.loads(text))]


@cache
def configuration() -> list[Block]:
    """Every top-level block of deploy/terraform."""
    return blocks(*(path.read_text() for path in sorted(FOLDER.glob("*.tf"))))


def named(kind: str, *labels: str) -> Block:
    """The one block of this kind that has these labels."""
    [found] = [block for block in configuration() if (block.kind, block.labels) == (kind, labels)]
    return found


def local_value(name: str) -> Any:
    """What `local.NAME` is set to."""
    [found] = [block[name] for block in configuration() if block.kind == "locals" and name in block.body]
    return found


def expressions(value: Any) -> Iterator[str]:
    """The source of everything in a value, or in a block, that is not literal."""
    if isinstance(value, Block):
        yield from expressions(value.body)
    elif isinstance(value, Expression):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from expressions(one)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one)


def strings(value: Any) -> Iterator[str]:
    """Every text in a value, or in a block, keys too."""
    if isinstance(value, Block):
        yield from value.labels
        yield from strings(value.body)
    elif isinstance(value, str):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield key
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


# -- what python-hcl2 makes of it: quotes stay in texts, and blocks and comments are known by a mark


def _nested(parsed: Mapping[str, Any]) -> Iterator[Block]:
    for kind, found in parsed.items():
        if not kind.startswith("__"):
            for one in found:
                yield _labelled(kind, (), one)


def _labelled(kind: str, labels: tuple[str, ...], parsed: Mapping[str, Any]) -> Block:
    if "__is_block__" not in parsed:
        [(label, rest)] = parsed.items()
        return _labelled(kind, (*labels, _text(label)), rest)
    return Block(kind, labels, _body(parsed))


def _body(parsed: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, value in parsed.items():
        if name.startswith("__"):
            continue
        if not _is_blocks(value):
            body[name] = _value(value)
            continue
        for one in value:
            block = _labelled(name, (), one)
            if name == "dynamic":
                content = block.only("content")
                block = Block(block.labels[0], (), {**content.body, "for_each": block["for_each"]}, is_dynamic=True)
            body.setdefault(block.kind, []).append(block)
    return body


def _is_blocks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and _holds_block(one) for one in value)


def _holds_block(parsed: Mapping[str, Any]) -> bool:
    if "__is_block__" in parsed:
        return True
    return len(parsed) == 1 and all(isinstance(one, dict) and _holds_block(one) for one in parsed.values())


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value) if _is_literal(value) else Expression(value)
    if isinstance(value, Mapping):
        return {_text(key): _value(one) for key, one in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_value(one) for one in value]
    return value


def _is_literal(value: str) -> bool:
    return "${" not in value and not value.startswith('"<<')


def _text(value: str) -> str:
    return str(json.loads(value)) if value.startswith('"') else value


# -- real Terraform


def terraform() -> str:
    """The program; where it is missing the test is skipped, loudly, and fails in CI."""
    found = shutil.which("terraform")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    return found


def ran_terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command of Terraform's says in a folder; it reads no configuration of the user's and asks nobody for news."""
    configuration_file = folder / "terraform.rc"
    configuration_file.touch()
    surroundings = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TF_CLI_CONFIG_FILE": str(configuration_file),
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
    }
    return subprocess.run(
        [terraform(), *arguments], cwd=folder, env=surroundings, capture_output=True, text=True, check=False
    )


def locals_of(name: str) -> str:
    """The text of a file's first `locals` block."""
    found = re.search(r"^locals \{\n.*?^\}\n", (FOLDER / name).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]
