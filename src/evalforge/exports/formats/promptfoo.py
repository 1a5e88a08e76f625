"""promptfoo: a configuration that runs at once, and its tests.

promptfoo renders every variable and every value of an assertion as a Nunjucks template, replaces values that begin with
`file://` by that file, and makes several tests of a list. Captured text could so read the machine that runs the eval. Here
every such text stands in a raw block, from which it cannot break out, and is never a list.
Source: https://www.promptfoo.dev/docs/configuration/test-cases, https://mozilla.github.io/nunjucks/templating.html (raw)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from evalforge.core.inert import inert_text
from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, lines
from evalforge.exports.formats.csv_cells import table
from evalforge.exports.jsonl import json_bytes

_OPEN, _CLOSE = "{% raw %}", "{% endraw %}"

CONFIGURATION = """\
# Failures of your LLM applications, captured by EvalForge, as tests of promptfoo.
#   npx promptfoo@latest eval -c promptfooconfig.yaml
# The provider `echo` gives the input back and costs nothing: put the one that you want to test in its place.
# yaml-language-server: $schema=https://promptfoo.dev/config-schema.json
description: captured failures
providers:
  - echo
prompts:
  - "{{input}}"
  # The whole conversation, for chat models: take this one instead.
  # - "{{messages}}"
tests: file://tests.yaml
# The same tests with a rubric each, made up from how the answer failed. They need a provider that grades:
# tests: file://graded.yaml
"""


_BEGINS = re.compile(r"\{[{%#]|\{\Z")


def inert(text: str) -> str:
    """A text that promptfoo gives back as it is.

    In a raw block nothing but the tags of raw blocks means anything to the template engine. promptfoo itself looks further:
    before it renders, it puts variables in place of `{{name}}` wherever that stands. So each beginning of a tag, of whatever
    kind, stands outside, as a string.
    """
    return _OPEN + _BEGINS.sub(lambda found: f'{_CLOSE}{{{{ "{found[0]}" }}}}{_OPEN}', text) + _CLOSE


def test_of(example: Example, *, is_graded: bool) -> dict[str, Any]:
    """The test of an example; with the rubric, or only with what needs nobody to grade it."""
    variables = {"input": inert(example.input)}
    if example.messages:
        variables["messages"] = inert(json_bytes(list(example.messages)).decode())
    asserted = [{"type": "not-contains", "value": inert(text), "metric": "generated"} for text in example.forbidden]
    if is_graded and example.rubric:
        asserted.append({"type": "llm-rubric", "value": inert(example.rubric), "metric": "generated"})
    if example.expected_output is not None:
        variables["expected_output"] = inert(example.expected_output)
        if is_graded:
            asserted.append({"type": "factuality", "value": inert(example.expected_output), "metric": "reviewed"})
    metadata: dict[str, Any] = {
        "id": example.id,
        **{_RENAMED.get(name, name): _shown(value) for name, value in example.metadata.items()},
    }
    if example.actual_output is not None:
        metadata["failed_output"] = _shown(example.actual_output)
    if example.split is not None:
        metadata["split"] = example.split
    return {"description": description(example), "vars": variables, "assert": asserted, "metadata": metadata}


def description(example: Example) -> str:
    """What a test is about, in one line."""
    parts = (example.metadata.get(name) for name in ("failure_type", "ml_app", "span_name"))
    return str(_shown(" · ".join(inert_text(str(part)) for part in parts if part)))


_RENAMED = {"signature": "group"}
"""promptfoo takes what is called a signature for a secret, and shows nothing of it."""


def _shown(value: str | int | float | bool) -> str | int | float | bool:
    """What is only shown, not rendered (promptfoo 0.121): as it is, unless it would mean something if it were."""
    return inert(value) if isinstance(value, str) and ("{" in value or "file:" in value.lower()) else value


def _listed(examples: Iterable[Example], *, is_graded: bool) -> Iterator[bytes]:
    # A block list of JSON objects: JSON is YAML that has neither tags nor anchors, once the two characters are escaped that
    # only YAML refuses.
    is_empty = True
    for example in examples:
        is_empty = False
        text = json_bytes(test_of(example, is_graded=is_graded)).decode()
        yield f"- {text}\n".replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff").encode()
    if is_empty:
        yield b"[]\n"


def _row(example: Example) -> dict[str, str]:
    row = {
        "input": inert(example.input),
        "messages": inert(json_bytes(list(example.messages)).decode()) if example.messages else "",
        "__description": description(example),
        "__metadata:trace_id": str(example.metadata.get("trace_id", "")),
        "__metadata:span_url": str(example.metadata.get("span_url", "")),
        "__metadata:split": example.split or "",
    }
    if example.forbidden:
        row["__expected1"] = "not-contains: " + inert(example.forbidden[0])
    return row


_COLUMNS = (
    "input", "messages", "__expected1", "__description", "__metadata:trace_id", "__metadata:span_url", "__metadata:split",
)  # fmt: skip

FORMAT = Format(
    name="promptfoo",
    tool="promptfoo 0.123",
    checked="loaded and run by promptfoo itself, with the provider `echo`",
    files=(
        FormatFile("promptfooconfig.yaml", lambda examples: iter((CONFIGURATION.encode(),))),
        FormatFile("tests.yaml", lambda examples: _listed(examples, is_graded=False)),
        FormatFile("graded.yaml", lambda examples: _listed(examples, is_graded=True)),
        FormatFile("tests.jsonl", lines(lambda example: test_of(example, is_graded=False))),
        FormatFile("tests.csv", table(_row, _COLUMNS)),
    ),
)
