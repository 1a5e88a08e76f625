"""The second net on generated documents, and in the stores: it finds what is planted, once, and upserts still converge."""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import itertools
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.capture import FailureCapture, merge
from evalforge.core.privacy.net import leaks_in, second_net
from evalforge.stores.merging import fitted_document, merged_document
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW, capture, failure_captures, json_values, signal
from tests.examples import examples

LOCAL = st.text("abcdefghijklmnoprstuvwy", min_size=4, max_size=9)
emails = st.builds("{}.{}@{}.example.org".format, LOCAL, LOCAL, LOCAL)
phones = st.builds("+44 20 79{} {}".format, st.integers(10, 99), st.integers(1000, 9999))
keys = st.builds("AKIA{}".format, st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=16))
planted_values = st.one_of(emails, phones, keys)
_SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: text.encode().hex(),
    lambda text: f"see {text} there",
    lambda text: json.dumps({"a": [text]}),
]
spellings = st.sampled_from(_SPELLINGS)


@st.composite
def planted_documents(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A document of any shape, with one personal value somewhere in it, and how that is spelled."""
    spelled = draw(spellings)(draw(planted_values))
    node: Any = spelled
    for _ in range(draw(st.integers(0, 5))):
        inner = draw(json_values(leaves=st.sampled_from([None, True, 3, 0.5, "ok", "prod"])))
        shape = draw(st.integers(0, 2))
        if shape == 0:
            node = [inner, node]
        elif shape == 1:
            node = {"region": inner, "label": node}
        else:
            node = {"label": {spelled: inner}, "other": node}
    return spelled, {"metadata": node}


def texts_in(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [*node, *itertools.chain.from_iterable(map(texts_in, node.values()))]
    if isinstance(node, list):
        return list(itertools.chain.from_iterable(map(texts_in, node)))
    return [node] if isinstance(node, str) else []


@examples(200)
@given(planted_documents())
def test_what_is_planted_is_found_once_and_for_all(planted: tuple[str, dict[str, Any]]) -> None:
    spelled, document = planted
    before = copy.deepcopy(document)
    cleaned, hits = second_net(document)
    assert document == before
    assert sum(hits.values()) == len(leaks_in(document)) >= 1
    assert all(spelled not in text for text in texts_in(cleaned))
    assert all(spelled not in leak.path for leak in leaks_in(document))
    assert second_net(cleaned) == (cleaned, {})


@examples(150)
@given(json_values())
def test_any_document_is_looked_through(node: Any) -> None:
    document = {"metadata": node}
    cleaned, hits = second_net(document)
    assert second_net(cleaned) == (cleaned, {})
    assert hits or cleaned is document


# -- in the stores


@st.composite
def leaking_captures(draw: st.DrawFn) -> FailureCapture:
    """Captures of one trace in which a value slipped through, in the payload, a name, a signal or nowhere."""
    found = draw(failure_captures())
    value = draw(st.sampled_from(["jane.doe@shop.example.org", "maria.lopez@mail.example.org"]))
    where = draw(st.sampled_from(["payload", "key", "name", "observed", "redactions", "nowhere"]))
    if where == "payload":
        return dataclasses.replace(found, payload={**found.payload, "metadata": {"label": value}})
    if where == "key":
        return dataclasses.replace(found, payload={**found.payload, "metadata": {value: True}})
    if where == "name":
        occurrences = tuple(dataclasses.replace(one, name=value, ml_app=value) for one in found.occurrences)
        return dataclasses.replace(found, occurrences=occurrences)
    if where == "observed":
        # Two signals that differ only in what is removed from them become one.
        others = tuple(signal(found.greatest.span_id, observed=f"{n}{value}") for n in "ab")
        return merge(same := dataclasses.replace(found, signals=(*found.signals, *others)), same)
    if where == "redactions":
        return dataclasses.replace(found, redactions={**found.redactions, value: 1})
    return found


@examples(150)
@given(leaking_captures())
def test_what_is_written_has_no_leak_and_is_written_once(one: FailureCapture) -> None:
    fitted, document = fitted_document(one)
    assert leaks_in({name: value for name, value in document.items() if name != "apm_trace_id"}) == []
    assert fitted_document(fitted)[1] == document == fitted.to_document()
    assert FailureCapture.from_document(document).to_document() == document
    assert merged_document(fitted, document) is None


@examples(100)
@given(leaking_captures(), leaking_captures())
def test_a_stored_leak_goes_with_the_next_write(stored: FailureCapture, fresh: FailureCapture) -> None:
    """As an older sanitizer could have left it; after one write nothing is left to write."""
    merged = merged_document(fitted_document(fresh)[0], stored.to_document())
    standing = merged if merged is not None else stored.to_document()
    if merged is not None:
        assert leaks_in(merged["trace_payload"]) == []
    assert merged_document(fitted_document(fresh)[0], standing) is None or merged is None


@examples(40)
@given(st.lists(leaking_captures(), min_size=1, max_size=4))
def test_upserts_converge_in_any_order(parts: list[FailureCapture]) -> None:
    async def stored_after(order: list[FailureCapture]) -> str:
        store = SqliteStore(":memory:", prefix="t_")
        try:
            for one in order:
                await store.upsert([one], now=NOW)
            again = [await store.upsert([one], now=NOW + timedelta(hours=1)) for one in order]
            assert not any(result.updated or result.created for result in again)
            found = await store.get(parts[0].trace_id, now=NOW)
            assert found is not None
            assert leaks_in(found.document["trace_payload"]) == []
            return found.capture.fingerprint
        finally:
            await store.close()

    asyncio.run(stored_after(parts))
    asyncio.run(stored_after(parts[::-1]))


def test_redactions_tell_what_the_net_closed() -> None:
    one = capture(payload={"name": "answer", "metadata": {"a": "jane@example.com", "b": "x@y.org"}})
    fitted, document = fitted_document(one)
    assert document["redactions"] == {"second_net": 2, "text": 2}
    assert document["trace_payload"]["metadata"] == {"a": "[redacted:text 16]", "b": "[redacted:text 7]"}
    assert merge(fitted, fitted) == fitted
