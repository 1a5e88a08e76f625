"""A text in plain form: what tags, stars and URLs part is one piece again, and everything else keeps its look."""

from __future__ import annotations

import pytest

from evalforge.core.privacy.text.decoding import plain_form
from evalforge.core.privacy.text.scrubber import Scrubber

PLAIN = {
    "10.2<b></b>0.30.40": "10.20.30.40",
    "10.2<b>0.30</b>.40": "10.20.30.40",
    "CE 6<b></b>2 88 41 D": "CE 62 88 41 D",
    'CE 6<span class="x"></span>2 88 41 D': "CE 62 88 41 D",
    "537-<i></i>588-469": "537-588-469",
    "mar<!-- -->ia@gmail.com": "maria@gmail.com",
    "mar<wbr>ia@gmail.com": "maria@gmail.com",
    "mar<b><i></i></b>ia@gmail.com": "maria@gmail.com",
    "JK4**28478A**": "JK428478A",
    "data:text/plain,Bego%C3%B1a%20Montenegro is": "data:text/plain,Bego\u00f1a_Montenegro is",
    "data:text/plain,Bego%25C3%25B1a%2520Mont%2527e is": "data:text/plain,Bego\u00f1a_Mont_e is",
    "data:text/plain,5%3Cb%3E 20%25": "data:text/plain,5_b_ 20%25".replace("%25", "%"),
}

KEPT = (
    "2**10**3 and x**2 + y**2",
    "**bold** and **B2** here",
    "if a<b>c and List<i>x</i>",
    "<b>Note</b>: the answer is <i>short</i>.",
    "the data: text, 20% of it",
)


@pytest.mark.parametrize(("text", "plain"), PLAIN.items())
def test_what_is_parted_is_read_as_one(text: str, plain: str) -> None:
    assert plain_form(text) == plain
    assert plain_form(plain) == plain


@pytest.mark.parametrize("text", KEPT)
def test_ordinary_text_keeps_its_look(text: str) -> None:
    assert plain_form(text) == text


@pytest.mark.parametrize("text", [*PLAIN, "data:text/plain,[ID_1]", "~[PERSON_1]/notes.txt"])
def test_scrubbing_again_changes_nothing(text: str) -> None:
    once = Scrubber().scrub([text])
    assert Scrubber().scrub(once) == once
