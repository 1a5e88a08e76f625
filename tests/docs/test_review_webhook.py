"""What docs/review.md tells receivers to do is true of what is sent: the check in it takes ours and nothing else."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.webhooks import signed_headers, signing_keys
from evalforge.telling import event_body
from tests.captures import NOW
from tests.unit.test_telling import group

PAGE = (Path(__file__).parents[2] / "docs" / "review.md").read_text()
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
BODY = b'{"type":"group.first_seen"}'

Check = Callable[[str, Mapping[str, str], bytes], bool]


@pytest.fixture(scope="module")
def is_genuine() -> Check:
    """The function of the page."""
    [source] = re.findall(r"```python\n(.*?def is_genuine.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(source, "docs/review.md", "exec"), names)
    check: Check = names["is_genuine"]
    return check


def sent(secret: str = SECRET, *, age_s: float = 0.0) -> dict[str, str]:
    return dict(signed_headers(signing_keys(secret), "evt_1", int(time.time() - age_s), BODY))


def test_the_receivers_check_takes_ours_and_nothing_else(is_genuine: Check) -> None:
    assert is_genuine(SECRET, sent(), BODY)
    assert is_genuine(SECRET, sent(age_s=200), BODY)
    for age_s in (400, -400):
        assert not is_genuine(SECRET, sent(age_s=age_s), BODY), "an old one that somebody sends again"
    assert not is_genuine(SECRET, sent(), BODY + b" ")
    assert not is_genuine(OLD, sent(), BODY)
    assert not is_genuine(SECRET, sent(OLD), BODY)


def test_both_secrets_hold_while_they_are_changed(is_genuine: Check) -> None:
    both = sent(f"{SECRET} {OLD}")
    assert is_genuine(SECRET, both, BODY)
    assert is_genuine(OLD, both, BODY)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "0", "²", "-1", "nan", "1e9", "v1,", "v1,é", "9" * 5_000, "9" * 400, "é"])
def test_no_header_of_anybody_elses_passes_or_breaks_the_check(is_genuine: Check, name: str, value: str | None) -> None:
    headers = sent()
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    assert not is_genuine(SECRET, headers, BODY)


def test_the_event_of_the_page_has_the_fields_of_a_real_one() -> None:
    [shown] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) if '"group.' in block]
    real = json.loads(event_body("group.regressed", "evt_1", group(), at=NOW, base_url="https://evalforge.example.com"))
    assert list(shown) == list(real)
    assert list(shown["group"]) == list(real["group"])
    assert {name: type(value) for name, value in shown["group"].items()} == {
        name: type(value) for name, value in real["group"].items()
    }
