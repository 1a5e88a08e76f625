"""`evalforge privacy explain` as a process: files of every form, hostile ones too, and nothing raw where it is unwanted."""

from __future__ import annotations

import json
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from evalforge.sandbox import samples
from evalforge.sandbox.state import Sandbox
from tests.integration.commands import PLAIN, ran

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
RAW = "maria.lopez@example.com"


def span(number: int = 1, **attributes: Any) -> dict[str, Any]:
    about = {
        "trace_id": f"6b03dc7800000000{number:016x}",
        "span_id": str(1000 + number),
        "parent_id": "undefined",
        "name": "answer",
        "span_kind": "llm",
        "status": "error",
        "start_ns": 1795415160838728626,
        "duration": 5951845,
        "metadata": {"user_id": "u-8841", "user": {"email": RAW}, "temperature": 0.2},
        "input": {"value": f"please write to {RAW}"},
        "tags": ["env:prod", "session_id:s-1"],
    }
    return {"id": str(number), "type": "span", "attributes": about | attributes}


def explain(
    *arguments: str, content: bytes | str | None = None, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    raw = content.encode() if isinstance(content, str) else content
    settings = PLAIN | {"PII_SALT": SALT, "COLUMNS": "100"} | environment
    return ran("privacy", "explain", *arguments, environment=settings, input=raw or b"", cwd=folder)


def fields(line: bytes | str) -> dict[str, dict[str, Any]]:
    return {field["path"]: field for field in json.loads(line)["fields"]}


FORMS: list[tuple[str, str, int]] = [
    ("an item", json.dumps(span()), 1),
    ("an item over many lines", json.dumps(span(), indent=2), 1),
    ("attributes alone", json.dumps(span()["attributes"]), 1),
    ("a page", json.dumps({"data": [span(1), span(2)], "meta": {"page": None}}), 2),
    ("a page over many lines", json.dumps({"data": [span(1), span(2)]}, indent=1), 2),
    ("one item as data", json.dumps({"data": span()}), 1),
    ("a list", json.dumps([span(1), span(2), span(3)]), 3),
    ("NDJSON", "\n".join(json.dumps(span(n)) for n in range(3)) + "\n\n", 3),
    ("a byte order mark", "\ufeff" + json.dumps(span()), 1),
]


@pytest.mark.parametrize(("form", "content", "count"), FORMS, ids=[form for form, _, _ in FORMS])
def test_every_form_of_file_is_read(form: str, content: str, count: int) -> None:
    done = explain("-", "--json", content=content)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == count
    found = fields(lines[0])
    assert found["metadata.user.email"]["outcome"] == "dropped"
    assert found["metadata.user.email"]["before"] == RAW
    assert found["metadata.user_id"]["outcome"] == "hashed"
    assert found["tags.session_id"]["rule"] == "key `session_id` is SESSION: dropped"
    assert found["input.value"]["after"].startswith("[redacted:text")


def test_the_page_on_a_terminal_shows_before_after_rule_totals_and_signals(tmp_path: Path) -> None:
    (tmp_path / "span.json").write_text(json.dumps(span()))
    for columns in ("80", "140"):
        shown = explain("span.json", folder=tmp_path, COLUMNS=columns).stdout.decode()
        assert RAW in shown
        assert "execution_error" in shown
        assert "dropped" in shown
        assert "[redacted:text" in shown
        assert "the user's id" in shown
        assert max(map(len, shown.splitlines())) <= int(columns)
        assert "hashed" in shown.splitlines()[-3] + shown.splitlines()[-4]


def test_why_a_span_fails_stands_in_columns_and_a_hash_is_not_called_nothing() -> None:
    verdict = {"eval_metric_type": "categorical", "value": "a_long_label_of_the_judge", "assessment": "fail", "status": "OK"}
    shown = explain(
        "-", content=json.dumps(span(evaluation={"house_style_of_answers": verdict})), COLUMNS="80"
    ).stdout.decode()
    reasons = shown.partition("The span ──")[0].splitlines()[2:]
    starts = {line.index(part) for line in reasons for part in ("the span ended", "evaluation.") if part in line}
    assert len(starts) == 1
    wrapped = [line for line in reasons if line.strip() and "●" not in line]
    assert wrapped
    assert all(not line[: min(starts)].strip() for line in wrapped)
    told = shown.splitlines()
    [at] = [number for number, line in enumerate(told) if "hashed" in line and "user_id" in line]
    assert "→ a keyed hash" in told[at + 2]


def test_it_says_that_raw_data_follows_and_after_only_leaves_it_out() -> None:
    loud = explain("-", content=json.dumps(span()))
    assert b"personal data included" in loud.stderr
    for options in (["--after-only"], ["--after-only", "--json"], ["--after-only", "--full"]):
        quiet = explain("-", *options, content=json.dumps(span(metadata={RAW: RAW, "user": {RAW: 1, "id": "u-8841"}})))
        assert quiet.returncode == 0
        assert b"maria" not in (quiet.stdout + quiet.stderr).lower()
        assert b"u-8841" not in quiet.stdout + quiet.stderr


def test_apm_spans_are_told_by_their_attributes() -> None:
    store = Sandbox().store
    samples.load(store)
    items = [one.item for one in store.between("apm", 0, 2**62, None, False)][:3]
    done = explain("-", "--json", content="\n".join(map(json.dumps, items)))
    for item, line in zip(items, done.stdout.splitlines(), strict=True):
        assert json.loads(line)["span_id"] == item["attributes"]["span_id"]
        assert any(path.startswith("attributes.") for path in fields(line))


def test_the_settings_of_the_environment_hold() -> None:
    open_input = explain("-", "--json", content=json.dumps(span(input={"value": "hello there"})), PII_TEXT_ALLOWLIST="input")
    assert fields(open_input.stdout)["input.value"]["after"] == "hello there"
    without_key = explain("-", "--json", content=json.dumps(span()), PII_SALT="")
    assert fields(without_key.stdout)["metadata.user_id"]["outcome"] == "dropped"


def test_one_span_may_be_picked_and_the_rest_is_limited() -> None:
    content = "\n".join(json.dumps(span(n)) for n in range(30))
    assert len(explain("-", "--json", "--limit", "4", content=content).stdout.splitlines()) == 4
    picked = explain("-", "--json", "--span", "1007", content=content).stdout.splitlines()
    assert [json.loads(line)["span_id"] for line in picked] == ["1007"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", b"holds no span"),
        (b"   \n\n", b"holds no span"),
        (b"maria.lopez@example.com", b"no JSON"),
        (b"\x00\xff\xfe", b"no JSON"),
        (b'{"data": [', b"no JSON"),
        (b'{"a": 1}\nmaria.lopez@example.com\n', b"line 2 is no JSON"),
        (b'{"data": [{"attributes": {"name": "maria.lopez@example.com"}}]}', b"missing_trace_id"),
        (b"[1, 2]", b"not_an_object"),
        (b"[]", b"holds no span"),
    ],
)
def test_what_is_no_span_is_a_clear_error_without_quoting_it(content: bytes, said: bytes) -> None:
    done = explain("-", content=content)
    assert done.returncode == 2
    assert said in done.stderr
    assert b"maria" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_file_that_is_not_there_or_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    for name in ("missing.json", ".", "\x1b[2J"):
        done = explain(name, folder=tmp_path)
        assert done.returncode == 2
        assert b"cannot be read" in done.stderr
        assert b"\x1b" not in done.stderr


def test_a_huge_file_costs_little(tmp_path: Path) -> None:
    line = json.dumps(span(metadata={"padding": "x" * 1_000_000})).encode() + b"\n"
    with (tmp_path / "many.ndjson").open("wb") as file:
        for _ in range(105):
            file.write(line)
    many = explain("many.ndjson", "--json", "--after-only", "--limit", "2", folder=tmp_path)
    assert (many.returncode, len(many.stdout.splitlines())) == (0, 2)
    with (tmp_path / "one.json").open("wb") as file:
        file.write(b'{"data": ["')
        file.truncate(100 * 1024 * 1024)
    one = explain("one.json", folder=tmp_path)
    assert one.returncode == 2
    assert b"64 MB" in one.stderr


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\u200b\x9b31m[bold]x[/]"


@pytest.mark.parametrize("options", [[], ["--after-only"], ["--full"], ["--json"]])
@pytest.mark.parametrize("columns", ["20", "80", "140"])
def test_no_span_can_drive_the_terminal(options: list[str], columns: str) -> None:
    one = span(
        name=HOSTILE,
        metadata={HOSTILE: HOSTILE, "temperature": HOSTILE, "user": {"id": HOSTILE}},
        tags=[f"{HOSTILE}:{HOSTILE}", f"env:{HOSTILE}"],
        input={"messages": [{"role": HOSTILE, "content": HOSTILE}]},
        evaluation={HOSTILE: {"value": HOSTILE, "assessment": "fail", "reasoning": HOSTILE}},
        trace_id=HOSTILE,
    )
    done = explain("-", *options, content=json.dumps(one), COLUMNS=columns, TERM="xterm-256color")
    assert done.returncode == 0, done.stderr
    for shown in (done.stdout.decode(), done.stderr.decode()):
        # JSON is for programs: what would move or turn text on a screen is spelled out there, what is only invisible is not.
        harmless = {"Zs", "Cf"} if options == ["--json"] else {"Zs"}
        plain = shown.replace("\n", "")
        assert all(one.isprintable() or unicodedata.category(one) in harmless for one in plain)
        assert "\u202e" not in plain
