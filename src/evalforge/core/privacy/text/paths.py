"""Paths of files: homes go, and of other paths a plain base name stays."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evalforge.core.privacy.keys import is_plain_chunk
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.text.network import is_plain_path
from evalforge.core.privacy.vocabulary import is_known_words, is_name, listed, pieces

_EXTENSIONS = listed(
    "py pyi pyx pyc ipynb js mjs cjs ts tsx jsx java kt scala go rs rb php c cc cpp h hpp cs swift m r jl lua pl "
    "sh bash zsh sql html css "
    "vue json jsonl ndjson yaml yml toml ini cfg conf xml csv tsv parquet txt md rst log lock so dll exe jar whl "
    "zip gz tar pdf docx xlsx "
    "png jpg jpeg gif svg wav mp3 mp4 onnx pt bin safetensors gguf pkl npy proto graphql tf env dockerfile bat "
    "ps1 ex exs erl clj dart"
)
_PACKAGES = re.compile(r".*[/\\](?:site-packages|dist-packages|node_modules|gems|pkg[/\\]mod)[/\\]")
_END = " \t.,;:!?)]}>'\"`"


def _path(view: View, match: Match) -> Iterable[Finding]:
    """A path with a root: routes of known words stay, files keep a plain base name, the rest goes."""
    start, end = match.span(1)
    end = _trimmed(view.plain, start, end)
    path = view.plain[start:end]
    if re.match("~[0-9]", path):
        return ()  # about so many
    if len(path) < 3 or path.strip("/\\.") == "" or view.plain[max(0, start - 1) : start] == "<":
        return ()
    if "\\" not in path and not _is_home(path) and is_plain_path(path):
        if not _file_name(path) or view.plain[max(0, start - 1) : start] == "]":
            return ()  # behind a placeholder it is the rest of a path that was judged already
    elif "\\" not in path and path.count("/") == 1 and not re.search("[0-9@]|^~[^/]", path):
        return ()  # "and/or", a division, one segment: words for the prose to judge
    return (view.found(start, end, TextKind.PATH, view.text[start:end], instead=_file_name(path)),)


def _is_home(path: str) -> bool:
    return re.match(r"(?i)/(?:home|users|export/home|var/home)/|/root/|~", path) is not None


def _trimmed(plain: str, start: int, end: int) -> int:
    while end > start and plain[end - 1] in _END:
        end -= 1
    return end


def _file_name(path: str) -> str | None:
    """The name of the file at the end of a path, with its package where it lies in one; None where it may tell who."""
    inside = _PACKAGES.match(path)
    kept = (path[inside.end() :] if inside else path).replace("\\", "/").strip("/")
    name = kept.rsplit("/", 1)[-1]
    stem, dot, extension = name.rpartition(".")
    if not dot or extension.lower() not in _EXTENSIONS or not stem:
        return None
    if not _is_plain_stem(stem):
        return None
    if inside and all(_is_plain_stem(part) for part in kept.split("/")[:-1]) and len(kept) < 120:
        return kept
    return name


def _is_plain_stem(stem: str) -> bool:
    plain = stem.strip("_.")
    if not plain or len(plain) > 60 or re.search("[0-9]{5}", plain):
        return False
    return all(is_plain_chunk(chunk) for chunk in re.split(r"[_.\-]+", plain) if chunk) and not any(
        is_name(piece) and not is_known_words(piece, 1) for piece in pieces(plain)
    )


_SEGMENT = rf"[0-9{LETTER}_.@+\-~%$#=,]"

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "windows_path",
        rf"(?:^|[^0-9A-Za-z])((?:[A-Za-z]:|\\\\[0-9A-Za-z._$\-]{{1,80}})(?:\\{{1,2}}|/)(?:[^\\/:*?\"'<>|\r\n\t]+[\\/]{{1,2}})*{_SEGMENT}*)",
        _path,
        gate=r"[A-Za-z]:(?:\\|/[^/])|\\\\[A-Za-z0-9]",
    ),
    Detector(
        "home_with_space",
        r"(?:^|[^0-9A-Za-z])(/(?:Users|home)/[A-Z][0-9A-Za-z.\-]{0,30}(?: "
        r"[A-Z][0-9A-Za-z.\-]{0,30}){1,2}(?:/[0-9A-Za-z_.@+\- ]+)*/[0-9A-Za-z_.@+\-]+)",
        _path,
    ),
    Detector(
        "path",
        rf"(?:^|[^0-9{LETTER}_/.<])((?:~[0-9A-Za-z_.\-]{{0,32}}|\.{{0,2}})/(?:{_SEGMENT}+/)*{_SEGMENT}+/?|~[A-Za-z_][0-9A-Za-z_.\-]{{0,31}}/)",
        _path,
        gate=rf"(?:^|[^0-9{LETTER}_/.<])(?:(?:~[0-9A-Za-z_.\-]{{0,32}}|\.{{0,2}})/[0-9{LETTER}_.@+\-~%$#=,]|~[A-Za-z_][0-9A-Za-z_.\-]{{0,31}}/)",
    ),
    Detector(
        "home_relative",
        r"(?i)(?:^|[^0-9a-z_/])((?:home|users)[/\\][0-9a-z_.\-]{2,40}(?:[/\\][0-9a-z_.@+\-]+)+)",
        _path,
        gate=r"(?i)(?:home|users)[/\\]",
    ),
)
