"""Every format over the same hostile examples: equal bytes, all that was given, nothing that a tool would run."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from evalforge.errors import SettingsError
from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, huggingface, promptfoo
from evalforge.exports.formats.csv_cells import cell
from evalforge.exports.formats.table import FORMATS
from tests.hostile_examples import HOSTILE, HUGE, hostile_example, hostile_examples, thousand

try:
    import pyarrow  # noqa: F401

    HAS_PARQUET = True
except ImportError:
    HAS_PARQUET = False

FILES = [
    pytest.param(one, file, id=f"{one.name}/{file.name}")
    for one in FORMATS.values()
    if HAS_PARQUET or one.needs is None
    for file in one.files
]
JSON_LINES = [
    pytest.param(one, file, id=f"{one.name}/{file.name}")
    for one in FORMATS.values()
    for file in one.files
    if file.name.endswith(".jsonl")
]
TABLES = [(FORMATS["promptfoo"].files[-1], "input"), (FORMATS["datadog"].files[-1], "input")]
EXAMPLES = hostile_examples()


def rendered(file: FormatFile, examples: list[Example]) -> bytes:
    return b"".join(file.render(iter(examples)))


def documents(file: FormatFile, examples: list[Example]) -> list[Any]:
    return [json.loads(line) for line in rendered(file, examples).split(b"\n") if line]


def test_the_table_names_every_format_of_the_specification() -> None:
    assert list(FORMATS) == [
        "promptfoo", "deepeval", "inspect", "huggingface", "mlflow", "datadog", "langfuse", "langsmith", "openai-evals",
    ]  # fmt: skip
    for name, one in FORMATS.items():
        assert one.name == name
        assert one.checked
        assert one.tool
        assert len({file.name for file in one.files}) == len(one.files)
        assert not {"examples.jsonl", "manifest.json", "captures.jsonl"} & {file.name for file in one.files}


@pytest.mark.parametrize(("form", "file"), FILES)
def test_equal_examples_give_equal_bytes(form: Format, file: FormatFile) -> None:
    assert rendered(file, EXAMPLES) == rendered(file, hostile_examples())


@pytest.mark.parametrize(("form", "file"), FILES)
def test_no_examples_give_a_file_that_can_be_read(form: Format, file: FormatFile) -> None:
    empty = rendered(file, [])
    if file.name.endswith(".json"):
        assert json.loads(empty) == []
    elif file.name in ("tests.yaml", "graded.yaml"):
        assert yaml.safe_load(empty) == []
    elif file.name.endswith(".csv"):
        assert len(list(csv.reader(io.StringIO(empty.decode())))) == 1
    elif file.name.endswith(".jsonl"):
        assert empty == b""


@pytest.mark.parametrize(("form", "file"), FILES)
def test_no_byte_drives_a_terminal(form: Format, file: FormatFile) -> None:
    if file.name.endswith(".parquet"):
        return
    text = rendered(file, EXAMPLES).decode()  # UTF-8, whatever was captured
    assert not re.search(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text
    )


@pytest.mark.parametrize(("form", "file"), JSON_LINES)
def test_every_line_is_an_object_that_gives_the_example_back(form: Format, file: FormatFile) -> None:
    found = documents(file, EXAMPLES)
    assert len(found) == len(EXAMPLES)
    for document, example in zip(found, EXAMPLES, strict=True):
        texts = set(every_text(document))
        assert example.id in texts
        for wanted in (example.input, example.actual_output, example.expected_output, example.metadata.get("span_url")):
            if wanted is not None:
                assert {str(wanted), promptfoo.inert(str(wanted))} & texts, (form.name, str(wanted)[:80])


def every_text(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from every_text(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every_text(inner)


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "promptfoo": lambda one: one["vars"].get("expected_output"),
    "deepeval": lambda one: one.get("expected_output"),
    "inspect": lambda one: one["target"] or None,
    "mlflow": lambda one: one["expectations"].get("expected_response"),
    "datadog": lambda one: one.get("expected_output"),
    "langfuse": lambda one: one.get("expectedOutput"),
    "langsmith": lambda one: one.get("outputs"),
    "openai-evals": lambda one: one["item"]["expected_output"] or None,
}


@pytest.mark.parametrize(("form", "file"), JSON_LINES)
def test_the_right_answer_is_a_reviewers_or_none(form: Format, file: FormatFile) -> None:
    bad = hostile_example(1, "bad answer", expected_output=None)
    reviewed = hostile_example(1, "bad answer", expected_output="the right one")
    without, told = documents(file, [bad, reviewed])
    assert ANSWERS[form.name](without) is None
    assert "the right one" in json.dumps(ANSWERS[form.name](told))
    assert "bad answer said the model" not in json.dumps(ANSWERS[form.name](told))


@pytest.mark.parametrize(("form", "file"), JSON_LINES)
def test_what_was_made_up_is_marked_as_generated(form: Format, file: FormatFile) -> None:
    [document] = documents(file, [hostile_example(1, "a bad answer", expected_output=None)])
    text = json.dumps(document)
    assert "generated" in text
    if form.name == "promptfoo":
        assert {one["metric"] for one in document["assert"]} == {"generated"}
    else:
        assert "not_contains" in text


@pytest.mark.parametrize(("form", "file"), FILES)
def test_examples_are_read_once_and_none_is_kept(form: Format, file: FormatFile) -> None:
    """Memory stays flat: eighty big examples weigh no more than a few."""
    if file.name.endswith((".parquet", "promptfooconfig.yaml")):
        return
    text = "x" * 20_000
    tracemalloc.start()
    try:
        weight = sum(len(part) for part in file.render(hostile_example(number, text) for number in range(80)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert weight > 3 * peak


# -- promptfoo: what its template engine would evaluate --------------------------------------------------------------------

TAG = re.compile(r"\{%\s*(raw|endraw)\s*%\}|\{\{ \"(\{[{%#]?)\" \}\}")


def read_as_nunjucks(text: str) -> str:
    """What the engine makes of a text of raw blocks and of strings that hold the beginning of a tag, or fails."""
    out, is_raw, at = "", False, 0
    while at < len(text):
        if is_raw:
            end = re.compile(r"\{%-?\s*(raw|endraw)\s*-?%\}").search(text, at)
            assert end is not None
            assert end[1] == "endraw", f"raw blocks are not nested: {text!r}"
            out, is_raw, at = out + text[at : end.start()], False, end.end()
        else:
            tag = TAG.match(text, at)
            assert tag is not None, f"something stands outside: {text[at : at + 40]!r}"
            assert tag[1] != "endraw", f"something stands outside: {text[at : at + 40]!r}"
            out, is_raw, at = out + (tag[2] or ""), tag[1] == "raw", tag.end()
    assert not is_raw
    return out


@pytest.mark.parametrize("text", [*HOSTILE, HUGE, ""])
def test_promptfoo_evaluates_nothing(text: str) -> None:
    assert read_as_nunjucks(promptfoo.inert(text)) == text
    # promptfoo puts variables in place of this before the engine sees it
    assert not re.search(r"\{\{\s*\w+\s*\}\}", promptfoo.inert(text))
    assert not re.search(r"\{\{(?:[^}]|\}(?!\}))*env", promptfoo.inert(text))


@given(st.text(st.sampled_from("{}%#-\" \nrawend7\\'x"), max_size=60))
def test_no_text_breaks_out_of_its_raw_block(text: str) -> None:
    assert read_as_nunjucks(promptfoo.inert(text)) == text


@given(st.lists(st.sampled_from(["{", "{{", "{%", "%}", "}}", "raw", "endraw", " ", "-", '"', "input", "{#", "#}"])))
def test_no_sequence_of_tags_breaks_out_either(parts: list[str]) -> None:
    text = "".join(parts)
    assert read_as_nunjucks(promptfoo.inert(text)) == text
    assert not re.search(r"\{\{\s*\w+\s*\}\}", promptfoo.inert(text))


def test_no_value_that_promptfoo_renders_is_bare() -> None:
    for is_graded in (False, True):
        for example in EXAMPLES:
            test = promptfoo.test_of(example, is_graded=is_graded)
            rendered_values = [*test["vars"].values(), *(one["value"] for one in test["assert"])]
            assert all(isinstance(one, str) and one.startswith("{% raw %}") for one in rendered_values)
            for shown in every_text([test["metadata"], test["description"]]):
                assert "{" not in shown or shown.startswith("{% raw %}")
                assert not shown.lower().startswith("file:")


@pytest.mark.parametrize("name", ["tests.yaml", "graded.yaml"])
def test_promptfoo_yaml_is_json_on_lines_and_has_no_tags(name: str) -> None:
    [file] = [one for one in FORMATS["promptfoo"].files if one.name == name]
    body = rendered(file, EXAMPLES)
    lines = body.decode().split("\n")[:-1]
    plain = [json.loads(line.removeprefix("- ")) for line in lines]
    assert [one["metadata"]["id"] for one in plain] == [one.id for one in EXAMPLES]
    few = [one for one in EXAMPLES if len(one.input) < 1_000 and not any(0xD800 <= ord(c) < 0xE000 for c in one.input)]
    assert yaml.safe_load(rendered(file, few)) == [
        one for one, example in zip(plain, EXAMPLES, strict=True) if example in few
    ]


def test_promptfoo_tests_alone_need_nobody_to_grade_them() -> None:
    plain, graded = (promptfoo.test_of(hostile_example(5, "a bad answer"), is_graded=one) for one in (False, True))
    assert [one["type"] for one in plain["assert"]] == ["not-contains"]
    assert [one["type"] for one in graded["assert"]] == ["not-contains", "llm-rubric", "factuality"]


def test_promptfoo_configuration_is_yaml_with_the_provider_that_costs_nothing() -> None:
    config = yaml.safe_load(promptfoo.CONFIGURATION)
    assert config["providers"] == ["echo"]
    assert config["tests"] == "file://tests.yaml"
    assert config["prompts"] == ["{{input}}"]


# -- CSV ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "column"), TABLES)
def test_csv_reads_back_and_no_cell_is_a_formula(file: FormatFile, column: str) -> None:
    csv.field_size_limit(10_000_000)
    rows = list(csv.DictReader(io.StringIO(rendered(file, EXAMPLES).decode(), newline="")))
    assert len(rows) == len(EXAMPLES)
    for row, example in zip(rows, EXAMPLES, strict=True):
        assert None not in row
        for value in row.values():
            assert value.lstrip(" \t\n")[:1] not in set("=+-@|%") or value == ""
        wanted = promptfoo.inert(example.input) if file is TABLES[0][0] else example.input
        assert row[column] == cell(wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain, \"quoted\"", "plain, \"quoted\""),
        ("=1+1", "'=1+1"),
        (" \u00a0=1+1", "' \u00a0=1+1"),
        ("\uff0b1", "'\uff0b1"),
        ("\tx", "'\tx"),
        ("a\tb\r\nc", "a\tb\nc"),
        ("a\rb", "a\\rb"),
        ("a\x00\x1bb", "a\\x00\\x1bb"),
        ("\u202ea", "\\u202ea"),
        ("\ud800", "\\ud800"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("2-1", "2-1"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_cell(text: str, wanted: str) -> None:
    assert cell(text) == wanted


@given(st.text())
def test_every_text_is_a_cell_that_utf8_can_hold(text: str) -> None:
    made = cell(text)
    made.encode()
    assert made.lstrip(" \t\n\u00a0")[:1] not in set("=+-@")


# -- Parquet --------------------------------------------------------------------------------------------------------------


def test_every_row_has_every_column_and_is_text_that_parquet_can_hold() -> None:
    columns = None
    for example in EXAMPLES:
        row = huggingface.row(example)
        assert columns in (None, list(row))
        columns = list(row)
        for value in row.values():
            if value is not None:
                value.encode()
        assert json.loads(row["messages"] or "") == list(example.messages)
        assert row["expected_output"] == huggingface._unicode(example.expected_output)


@pytest.mark.skipif(not HAS_PARQUET, reason="pyarrow is not installed: pip install -e '.[parquet]'; the long tests read it")
def test_parquet_reads_back_and_each_group_has_a_bounded_count_of_rows() -> None:
    from pyarrow import BufferReader, parquet

    examples = list(thousand())
    file = parquet.ParquetFile(BufferReader(rendered(FORMATS["huggingface"].files[0], examples)))
    assert file.metadata.num_row_groups == 2
    assert file.metadata.row_group(0).column(1).compression == "ZSTD"
    assert file.read().to_pylist() == [huggingface.row(one) for one in examples]


@pytest.mark.skipif(HAS_PARQUET, reason="pyarrow is installed")
def test_without_pyarrow_the_error_says_what_to_install() -> None:
    with pytest.raises(SettingsError, match=r"evalforge-ingestion\[parquet\]"):
        rendered(FORMATS["huggingface"].files[0], EXAMPLES)


# -- ids ------------------------------------------------------------------------------------------------------------------


def test_ids_are_the_same_for_the_same_trace_and_apart_for_others() -> None:
    examples = list(thousand())
    assert len(examples) == 1_000
    assert len({one.input for one in examples}) == 1_000
    for name in ("inspect", "datadog", "langfuse", "langsmith"):
        found = [one["id"] for one in documents(FORMATS[name].files[0], examples)]
        assert len(set(found)) == 1_000
        assert found == [one["id"] for one in documents(FORMATS[name].files[0], examples)]
