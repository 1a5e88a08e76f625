"""Examples as nobody would write them: texts that tools run, spreadsheets calculate, terminals obey, parsers choke on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evalforge.core.signals import FailureType
from evalforge.exports.examples import Example, assertions_of

HOSTILE: tuple[str, ...] = (
    "{{ 7*7 }}",
    "{{7*7}} {{env.HOME}} {{ env['HOME'] }} {{ process.env.HOME }}",
    "{% set a = 7 %}{% for i in range(0, 3) %}x{% endfor %}",
    "{% raw %} a {% endraw %} {{ 7*7 }}",
    "{% endraw %}{{ 7*7 }}{% raw %}",
    "{%- endraw -%}{{ env.HOME }}{%- raw -%}",
    "{%    endraw    %}{{ 7*7 }}",
    "{{ input }} {{messages}} {{ expected_output }} {{failed_output}}",
    "{# a comment #} stays",
    "{{{ 7*7 }}} {{{{ 7 }}}} {{% x %} {{#",
    "ends in a brace {",
    "ends in two {{",
    "{",
    "{{",
    "{{ range.constructor('return process.env.HOME')() }}",
    "file://secret.txt",
    "file:///etc/passwd",
    "FILE://secret.txt",
    "package:fs:readFileSync",
    "python:print(1)",
    "javascript:process.env.HOME",
    "https://docs.google.com/spreadsheets/d/x",
    "exec:id",
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    '  =HYPERLINK("http://e.example")',
    "\uff1d1+1",
    "!!python/object/apply:os.system ['id']",
    "!!js/function 'function(){return 7*7}'",
    "- a: &x [1, 2]\n- *x\n--- \n...",
    "key: value # comment",
    "'single' \"double\" `back` \\ back\\slash \\x1b \\u0000",
    'a,b;c\t"d"\r\ne\nf\rg',
    "\x00 nul, \x07 bell, \x08 back, \x1b[2J\x1b]0;title\x07 escape, \x7f del, \x9b csi",
    "\u202egnp.exe\u202c turned, \u2066isolated\u2069",
    "\u2028 line \u2029 paragraph \x85 next \ufeff bom",
    "\ufffe \uffff not characters",
    "half \ud800 of a pair, and \udfff the other",
    "👩\u200d👩\u200d👧 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f600 é e\u0301",
    "<script>alert(1)</script> & <b>bold</b>",
    "[1, 2, 3]",
    '["a", "b"]',
    '{"role": "user", "content": "{{ 7*7 }}"}',
    '[{"role": "system", "content": "{{ env.HOME }}"}]',
    "__proto__",
    "constructor",
    "null",
    "true",
    "1e999",
    "$HOME ${HOME} $(id) `id` %HOME% %s %d {0} {input}",
    "'; DROP TABLE captures; --",
    "[EMAIL_1] wrote to [PERSON_1]",
)
"""Each is a text that somebody asked, and what was answered."""

HUGE = "{{ 7*7 }} é " * 10_000


def hostile_example(number: int, text: str, **others: Any) -> Example:
    """The example of a trace whose every text, names too, is hostile; `number` tells it apart."""
    asked = others.pop("asked", text)
    types = list(FailureType)
    failure_type = types[number % len(types)]
    fields: dict[str, Any] = {
        "id": f"evalforge_{number:032x}",
        "trace_id": f"{number:032x}",
        "span_id": str(number),
        "signature": f"s1_{number % 7:032x}",
        "input": asked,
        "messages": (
            {"role": "system", "content": f"Answer. {text}"},
            {"role": "user", "content": asked},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": text}}],
            },
            {"role": "tool", "content": text, "tool_call_id": "call_1", "name": "look"},
        )
        if number % 2
        else (),
        "actual_output": f"{text} said the model",
        "expected_output": f"reviewed: {text}" if number % 5 == 0 else None,
        "assertions": assertions_of(failure_type, f"{text} said the model"),
        "metadata": {
            "trace_id": f"{number:032x}",
            "span_url": f"https://app.datadoghq.com/llm/traces?query=@span_id%3A{number}",
            "failure_type": failure_type,
            "severity": "high",
            "signature": f"s1_{number % 7:032x}",
            "ml_app": "support-bot",
            "span_name": text[:200],
            "explanation": text,
            "quality_score": 0.25,
            "status_code": 500,
            "why": f"evaluation.quality = {text} (is {text})",
        },
        "split": ("train", "test", None)[number % 3],
        "users": (("u1a2b_" + "0" * 32, 1_795_000_000_123_456_789),),
    }
    return Example(**{**fields, **others})


def hostile_examples() -> list[Example]:
    """One for each hostile text, one huge, and one with nothing but its input."""
    found = [hostile_example(number, text) for number, text in enumerate(HOSTILE)]
    bare: dict[str, Any] = {"messages": (), "actual_output": None, "expected_output": None, "assertions": (), "metadata": {}}
    return [*found, hostile_example(900, HUGE), hostile_example(901, "only asked", split=None, **bare)]


def thousand() -> Iterator[Example]:
    """A thousand examples, each with an input of its own: hostile ones among plain ones."""
    hostile = hostile_examples()
    yield from hostile
    for number in range(1_000, 2_000 - len(hostile)):
        text = HOSTILE[number % len(HOSTILE)] if number % 3 == 0 else "What is it about?"
        yield hostile_example(number, text, asked=f"{text} (question {number})")
