"""The commands that README.md and docs/ show, as data, and what is known of ours without running them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from evalforge.cli import cli

ROOT = Path(__file__).parents[2]
SHELLS = frozenset({"bash", "sh", "shell", "console", "zsh"})
_FENCE = re.compile(r"^ *(`{3,}|~{3,})\s*([\w+-]*)")
_COMMENT = re.compile(r"""^((?:[^'"#\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|(?<=\S)#)*?)(?:(?:^|(?<=\s))#.*)?$""", re.DOTALL)
_KEYWORDS = frozenset("do done elif else fi for if in then until while ! { }".split())
_ASSIGNED = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=")


@dataclass(frozen=True, slots=True)
class Command:
    """One command as a reader would copy it: the page below the repository, the line there, and its text without a comment.

    `block` counts the fenced blocks of the page from 0.
    """

    page: str
    line: int
    text: str
    block: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages() -> list[Path]:
    """README.md and every page below docs/ and deploy/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]


def blocks_in(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Every fenced block: its language (may be empty), the number of its first line from 1, its lines."""
    fence, language, start = "", "", 0
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, language, start, lines = found[1], found[2].lower(), number + 1, []
        elif fence and line.strip() == fence:
            yield language, start, lines
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"the block that begins before line {start} has no end"


def commands_in(page: Path) -> list[Command]:
    """The commands of a page in their order. A line that ends in the middle of a quote or with a backslash goes on."""
    name = page.relative_to(ROOT).as_posix()
    found = []
    shown = [block for block in blocks_in(page.read_text()) if block[0] in SHELLS]
    for block, (language, start, lines) in enumerate(shown):
        typed = any(line.startswith("$ ") for line in lines)
        assert language != "console" or typed, f"{name}:{start}: a console block shows its commands after `$ `"
        text, first = "", start
        for number, line in enumerate(lines, start):
            if typed and not text:
                if not line.startswith("$ "):
                    continue  # what the command printed
                line = line[2:]
            first = first if text else number
            text = f"{text}{line}"
            if text.endswith("\\"):
                text = text[:-1] + " "
            elif _is_whole(text):
                if without_comment(text):
                    found.append(Command(name, first, without_comment(text), block))
                text = ""
            else:
                text += "\n"
        assert not text, f"{name}:{first}: a command without its end"
    return found


def without_comment(text: str) -> str:
    """A command without the comment behind it, or nothing where it is all comment."""
    found = _COMMENT.match(text)
    return (found[1] if found else text).strip()


def _is_whole(text: str) -> bool:
    try:
        shlex.split(without_comment(text))
    except ValueError:
        return False
    return True


def simple_commands(text: str) -> list[list[str]]:
    """The simple commands of a line, split at `|`, `&&`, `;` and `&`, as words; redirections are left out."""
    lexer = shlex.shlex(re.sub(r"(?<!\S)\d(?=[<>])", "", text), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    parts: list[list[str]] = [[]]
    skips = False
    for word in lexer:
        if skips:
            skips = False
        elif set(word) <= set("<>&") and set(word) & set("<>"):
            skips = True
        elif not parts[-1] and word in _KEYWORDS:
            continue
        elif set(word) <= set("|&;"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def assignments(words: list[str]) -> list[tuple[str, str]]:
    """The variables that a simple command sets, for itself or with `export`."""
    found = []
    for word in words[1:] if words[0] == "export" else words:
        match = _ASSIGNED.match(word)
        if not match:
            break
        found.append((match[1], word[match.end() :]))
    return found


def program(words: list[str]) -> str:
    """What a simple command runs: the name of the program, without its folder; nothing where variables are all."""
    rest = [word for word in words if not _ASSIGNED.match(word)] if words[0] != "export" else words
    return rest[0].rsplit("/", 1)[-1] if rest else ""


def complaint(words: list[str]) -> str:
    """What `evalforge` would not take of its own command line, by its commands, options and choices; empty if nothing."""
    words = words[next(index for index, word in enumerate(words) if word.rsplit("/", 1)[-1] == "evalforge") + 1 :]
    command: click.Command = cli
    path = "evalforge"
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        child = command.get_command(click.Context(command), words[0])
        if child is None:
            return f"{path} has no command {words[0]}"
        command, path, words = child, f"{path} {words[0]}", words[1:]
    context = click.Context(command, info_name=path)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
        for parameter in command.params:
            value = values.get(parameter.name or "")
            if isinstance(parameter.type, click.Choice):
                for one in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(one, str):
                        parameter.type.convert(one, parameter, context)
    except click.UsageError as error:
        return f"{path}: {error.format_message()}"
    return f"{path} takes no {rest}" if rest and not isinstance(command, click.Group) else ""


def inline_commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Commands of ours in the prose of a page, between backticks: the line, and the words of each."""
    text = page.read_text()
    prose = re.sub(
        r"^( *)(`{3,})[^\n]*\n.*?^ *\2 *$", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.M
    )
    for found in re.finditer(r"`(evalforge [a-z][^`]*)`", prose):
        line = prose.count("\n", 0, found.start()) + 1
        said = " ".join(found[1].split()).replace("...", "…")
        yield line, shlex.split(said.partition("…")[0])
