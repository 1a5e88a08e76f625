"""Hugging Face datasets: Parquet of flat columns; what varies is JSON in a text, so that there is one schema for all.

Source: https://huggingface.co/docs/datasets/loading
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from evalforge.core.inert import inert_text
from evalforge.errors import SettingsError
from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, generated
from evalforge.exports.jsonl import json_bytes

ROWS_PER_GROUP = 500

_TEXTS = (
    "id", "input", "actual_output", "expected_output", "failure_type", "severity", "signature", "ml_app", "model_name",
    "trace_id", "span_url", "rubric", "split", "messages", "metadata",
)  # fmt: skip


def row(example: Example) -> dict[str, str | None]:
    """The row of an example."""
    told = {name: str(example.metadata[name]) for name in _TEXTS if name in example.metadata}
    own: dict[str, str | None] = {
        "id": example.id,
        "input": example.input,
        "actual_output": example.actual_output,
        "expected_output": example.expected_output,
        "rubric": example.rubric or None,
        "split": example.split,
        "messages": json_bytes(list(example.messages)).decode(),
        "metadata": json_bytes({**example.metadata, "generated_assertions": generated(example)}).decode(),
    }
    values: dict[str, str | None] = {**told, **own}
    return {name: _unicode(values.get(name)) for name in _TEXTS}


def _unicode(text: str | None) -> str | None:
    """A text that Parquet can hold: lone surrogates are spelled out."""
    if text is None or text.isascii():
        return text
    return "".join(inert_text(one) if 0xD800 <= ord(one) < 0xE000 else one for one in text)


def render(examples: Iterable[Example]) -> Iterator[bytes]:
    """The file, row group by row group.

    Raises:
        SettingsError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise SettingsError(
            "--format huggingface: pyarrow is not installed; wants pip install 'evalforge-ingestion[parquet]'"
        ) from None
    schema = pyarrow.schema([(name, pyarrow.string()) for name in _TEXTS])
    sink = _Sink()
    rows = map(row, examples)
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        while batch := list(islice(rows, ROWS_PER_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
            yield sink.taken()
    yield sink.taken()


class _Sink:
    """Takes what is written and gives it out in pieces: only as much as pyarrow asks of a file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self.closed = False

    def write(self, piece: Any) -> int:
        part = bytes(piece)
        self._parts.append(part)
        self._length += len(part)
        return len(part)

    def taken(self) -> bytes:
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole

    def tell(self) -> int:
        return self._length

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


FORMAT = Format(
    name="huggingface",
    tool="Hugging Face datasets 5",
    checked="loaded by datasets itself: `load_dataset('parquet')`",
    files=(FormatFile("examples.parquet", render),),
    needs="parquet",
)
