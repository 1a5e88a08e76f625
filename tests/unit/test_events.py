"""The log: declared events and fields only, one line each, and no word of a library's, a span's or a secret's."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from evalforge.events import EVENTS, configure_logging, emit


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("evalforge")
    handlers, level, own_level = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_that_cloud_logging_understands() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    emit("run.failed", run_id="run_1", code="quota_exhausted", retry_after_s=None)
    (entry,) = lines(stream)
    time = entry.pop("time")
    assert time.endswith("Z")
    assert entry == {"severity": "ERROR", "message": "run.failed", "run_id": "run_1", "code": "quota_exhausted"}


def test_undeclared_fields_are_not_written_and_undeclared_events_are_an_error() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    emit("run.failed", run_id="run_1", prompt="what the user said", exc_info=True)
    assert "what the user said" not in stream.getvalue()
    with pytest.raises(KeyError):
        emit("no.such.event")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
@pytest.mark.parametrize("form", ["json", "console"])
def test_every_event_can_be_written_with_hostile_values(event: Any, form: Any) -> None:
    stream = io.StringIO()
    configure_logging(form, stream=stream, level="DEBUG")
    hostile = [
        "\ud800\x1b[2J",
        "two\nlines\x7f",
        "\x9b31m",
        "\u202egnp.exe",
        "two\u2028lines\x85",
        1 << 80,
        float("nan"),
        {"a\x9b": b"\xff", "\x1b": "\u2029"},
        [["\x9b31m"], "\x1b]52;c;\x07"],
        None,
        object(),
    ]
    for first in range(len(hostile)):
        values = hostile[first:] + hostile[:first]
        emit(event.name, **{field: values[number % len(values)] for number, field in enumerate(event.fields)})
    written = stream.getvalue()
    assert written.count("\n") == len(hostile)
    assert written.replace("\n", "").isprintable()
    if form == "json":
        assert {entry["severity"] for entry in lines(stream)} == {event.level}


def test_the_console_form_shows_and_does_not_obey() -> None:
    stream = Terminal()
    configure_logging("console", stream=stream)
    emit("source.warned", run_id="r", source="llm_obs", warning="\x1b[2Jgone\nrun.finished forged")
    assert "\x1b[2J" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_levels_below_the_chosen_one_are_left_out() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream, level="WARNING")
    emit("run.started", run_id="r")
    emit("run.refused", holder="h", since="s")
    assert [entry["message"] for entry in lines(stream)] == ["run.refused"]


def test_libraries_are_heard_without_their_words() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    library = logging.getLogger("some.package")
    library.info("not heard")
    library.warning("the prompt was %s", "secret text")
    try:
        raise ValueError("secret text")
    except ValueError:
        library.exception("failed on %s", "secret text")
    library.error("does not fit %d %d", "secret text")
    assert "secret" not in stream.getvalue()
    written = lines(stream)
    assert [(entry["message"], entry["logger"]) for entry in written[:2]] == [("library.warned", "some.package")] * 2
    assert written[1]["error"] == "ValueError"


def test_a_record_that_does_not_fit_its_format_is_not_printed_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", stream=io.StringIO())
    logging.getLogger("some.package").error("%d", "secret text")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_program_that_only_imports_the_package_hears_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    emit("run.failed", run_id="r", code="c")
    emit("service.misconfigured", problems=["PORT: got x"])
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_what_stands_in_for_standard_error_gets_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live display does, while it draws: a line beside it would tear it apart."""
    first, instead = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", first)
    configure_logging("json")
    emit("run.failed", run_id="run_1", code="r")
    monkeypatch.setattr("sys.stderr", instead)
    emit("run.failed", run_id="run_2", code="r")
    assert [entry["run_id"] for entry in lines(first)] == ["run_1"]
    assert [entry["run_id"] for entry in lines(instead)] == ["run_2"]
    given = io.StringIO()
    configure_logging("json", stream=given)
    emit("run.failed", run_id="run_3", code="r")
    assert [entry["run_id"] for entry in lines(given)] == ["run_3"]
