"""How the sandbox's queries stand to those of Datadog's own parser.

Datadog publishes a parser of LLM Observability queries in its test agent (github.com/DataDog/dd-apm-test-agent). It was read
for its behaviour; the rows below are ours. That parser forgives much that Datadog's documentation does not promise, so here
the stricter of the two wins: what works in the sandbox works there.
"""

from __future__ import annotations

from typing import Any

import pytest

from evalforge.sandbox.fields import LlmObsFields
from evalforge.sandbox.matching import compile_query
from evalforge.sandbox.query import QueryError
from evalforge.sandbox.spans import Span


def span(**attributes: Any) -> Span:
    return Span({"attributes": attributes}, (0, 0))


SPANS = {
    "draft": span(
        name="draft-reply",
        status="ok",
        span_kind="llm",
        model_name="mistral-7b",
        duration=250_000_000,
        parent_id="11",
        metrics={"total_tokens": 40},
        metadata={"tier": "gold", "limit": "30"},
        tags=["env:prod", "team:support", "host:a-1"],
        input={"value": "Where is my parcel?"},
    ),
    "refund": span(
        name="refund",
        status="error",
        span_kind="tool",
        duration=2_000_000_000,
        parent_id="undefined",
        metadata={"tier": "Gold"},
        tags=["env:staging", "team:billing", "host:a-12"],
        output={"value": "NOT allowed"},
    ),
    "search": span(
        name="search",
        status="ok",
        span_kind="retrieval",
        model_name="mistral-large",
        duration=90_000_000_000,
        parent_id="11",
        metrics={"total_tokens": 4000},
        tags=["env:prod", "team:billing"],
    ),
}

SAME = [
    # grouping: parentheses, then negation, then AND, then OR
    ("", "draft refund search"),
    ("   ", "draft refund search"),
    ("env:prod", "draft search"),
    ("env:prod team:billing", "search"),
    ("env:prod AND team:billing", "search"),
    ("env:prod OR team:billing", "draft refund search"),
    ("env:staging OR env:prod team:support", "draft refund"),
    ("env:prod team:support OR env:staging", "draft refund"),
    ("(env:staging OR env:prod) team:billing", "refund search"),
    ("((env:staging) OR (env:prod AND (team:support)))", "draft refund"),
    ("-env:prod", "refund"),
    ("NOT env:prod", "refund"),
    ("-env:prod OR team:support", "draft refund"),
    ("-(env:prod team:support)", "refund search"),
    ("NOT (env:staging OR team:support)", "search"),
    ("env:prod -team:billing", "draft"),
    ("env:prod env:staging", ""),
    # a dash is a negation only where a word begins
    ("@name:draft-reply", "draft"),
    ("@meta.model_name:mistral-7b", "draft"),
    # attributes and their case
    ("@status:error", "refund"),
    ("@meta.span.kind:tool", "refund"),
    ("@meta.model_name:Mistral-7b", ""),
    ("@meta.metadata.tier:Gold", "refund"),
    ("@parent_id:undefined", "refund"),
    ("@no.such.attribute:x", ""),
    # wildcards: any number of characters, or exactly one
    ("@meta.model_name:mistral*", "draft search"),
    ("@meta.model_name:*large", "search"),
    ("@meta.model_name:*tral*", "draft search"),
    ("@meta.model_name:m*l*e", "search"),
    ("@meta.model_name:mistral-??", "draft"),
    ("@meta.model_name:mistral-?", ""),
    ("host:a-?", "draft"),
    ("host:a-*", "draft refund"),
    # numbers: ranges have both their ends, and a span without the value is in none
    ("@metrics.total_tokens:>40", "search"),
    ("@metrics.total_tokens:>=40", "draft search"),
    ("@metrics.total_tokens:<4000", "draft"),
    ("@metrics.total_tokens:<=4000", "draft search"),
    ("@metrics.total_tokens:[40 TO 4000]", "draft search"),
    ("@metrics.total_tokens:[41 TO 3999]", ""),
    ("-@metrics.total_tokens:>0", "refund"),
    # durations: nanoseconds, or a number with its unit
    ("@duration:>2000000000", "search"),
    ("@duration:>=2s", "refund search"),
    ("@duration:<0.3s", "draft"),
    ("@duration:[200ms TO 1m]", "draft refund"),
    ("@duration:>250000us", "refund search"),
    ("@duration:>250000μs", "refund search"),
    ("@duration:>1.5m", ""),
    ("@duration:>=0.025h", "search"),
    # existence
    ("@meta.model_name:*", "draft search"),
    ("-@meta.model_name:*", "refund"),
    ("_exists_:@meta.model_name", "draft search"),
    ("_exists_:meta.model_name", "draft search"),
    ("_exists_:host", "draft refund"),
    ("_missing_:@meta.model_name", "refund"),
    ("_missing_:host", "search"),
    ("-_exists_:host", "search"),
    ("env:prod _missing_:host", "search"),
    # one of several
    ("@status IN [error, warning]", "refund"),
    ("@meta.span.kind IN [tool, retrieval] AND env:prod", "search"),
    ("team IN [\"support\", 'billing']", "draft refund search"),
    ("-@status IN [ok]", "refund"),
    ("@status IN []", ""),
    # free text, without case
    ("parcel", "draft"),
    ("PARCEL", "draft"),
    ('"is my parcel"', "draft"),
    ("nothing-like-it", ""),
    ("env:prod parcel", "draft"),
    ("@meta.input.value:*parcel*", "draft"),
]


def found(query: str) -> str:
    matches = compile_query(query, LlmObsFields())
    return " ".join(name for name, span in SPANS.items() if matches(span))


@pytest.mark.parametrize(("query", "names"), SAME)
def test_as_datadog_s_parser(query: str, names: str) -> None:
    assert found(query) == names


STRICTER = [
    # query, what that parser finds, what is found here, why
    ("env:prod and team:billing", "search", "", "the documentation's operators are upper case: `and` is a word to look for"),
    ("env:prod or env:staging", "draft refund search", "", "the same"),
    ("not env:prod", "refund", "", "the same: the word is in one text, but that span is not in prod"),
    ("@meta.metadata.limit:>20", "draft", "", "a number in quotes is text to Datadog, and has no range"),
    ("refund", "refund", "", "free text is documented for inputs and outputs, not for names"),
    ("support", "draft", "", "nor for tags"),
    ("parce", "draft", "", "free text looks for words, and takes `parce*` for their beginnings"),
    ("@team:billing", "refund search", "", "a tag is asked for without @"),
]


@pytest.mark.parametrize(("query", "there", "here", "why"), STRICTER)
def test_stricter_than_datadog_s_parser(query: str, there: str, here: str, why: str) -> None:
    assert found(query) == here, why
    assert there != here


REFUSED = [
    ("(env:prod", "that parser forgives a parenthesis that is never closed"),
    ("env:prod)", "and one that was never opened"),
    ("@name:a:b", "and a colon in a value, which the documentation wants in quotes"),
    ("@name:>", "and a comparison with nothing"),
    ("@metrics.total_tokens:>many", "and one with a word, which it finds nothing for"),
    ("OR env:prod", "and an operator without its left side, for which it finds nothing"),
    ('@name:"open', "and a quote that is never closed"),
    ("_exists_:", "and an existence of nothing"),
]


@pytest.mark.parametrize(("query", "why"), REFUSED)
def test_refused_here(query: str, why: str) -> None:
    with pytest.raises(QueryError):
        compile_query(query, LlmObsFields())


@pytest.mark.parametrize(
    ("query", "names"),
    [('@name:"draft-reply"', "draft"), ('team:"support"', "draft"), ('@name:"dr*"', ""), (r"@name:draft\-reply", "draft")],
)
def test_quotes_and_backslashes_are_read_as_documented(query: str, names: str) -> None:
    """That parser keeps quotes as part of a value; the documentation takes them off, and wildcards with them."""
    assert found(query) == names
