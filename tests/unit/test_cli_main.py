"""The command as a whole: its help, its exit codes, and how it tells errors."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from evalforge import __version__, errors
from evalforge.cli import COMMANDS, EXIT_CODES, cli, main


def test_help_lists_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, row in COMMANDS.items():
        assert name in shown
        assert row.line in shown
    for code, meaning in EXIT_CODES:
        assert f"{code} " in shown
        assert meaning in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_each_line_of_the_help_is_the_commands_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = import_module(f"evalforge.cli.{COMMANDS[name].module}").command
    assert command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name].line
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name} has no help"


def test_exit_codes_are_those_of_the_errors() -> None:
    def below(cls: type[errors.EvalForgeError]) -> set[int]:
        return {cls.exit_code}.union(*(below(child) for child in cls.__subclasses__()))

    assert below(errors.EvalForgeError) <= {code for code, _ in EXIT_CODES}
    assert len({code for code, _ in EXIT_CODES}) == len(EXIT_CODES)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"evalforge {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from evalforge.cli import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.rsplit("\n", 2)[-2]
    for heavy in ("'rich'", "'fastapi'", "'uvicorn'", "'grpc'", "'google.cloud", "'httpx'", "'structlog'"):
        assert heavy not in modules


def test_the_service_and_its_store_on_sqlite_import_nothing_of_googles(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from evalforge import bootstrap\n"
        "from evalforge.config import Settings\n"
        "from evalforge.service.app import create_app\n"
        "create_app()\n"
        "async def read():\n"
        "    async with bootstrap.opened_store(Settings.from_environment()) as store:\n"
        "        await store.recent_runs(limit=1, now=bootstrap.utc_now())\n"
        "asyncio.run(read())\n"
        "print(sorted(sys.modules))"
    )
    settings = {
        "CAPTURE_STORE": f"sqlite:///{tmp_path}/a.sqlite3",
        "DATADOG_API_KEY": "a",
        "DATADOG_APP_KEY": "b",
        "PII_SALT": "a-first-key-of-some-32-bytes-or-more!",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **settings}
    )
    modules = done.stdout.rsplit("\n", 2)[-2]
    assert "'evalforge.stores.sqlite'" in modules
    assert "'google" not in modules
    assert "'grpc" not in modules


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["ingest", "--nothing"], ["captures", "show"], ["export"], ["export", "--out"]]
)
def test_usage_errors_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Error: " in capsys.readouterr().err


ERRORS: list[tuple[BaseException, int, str]] = [
    (
        errors.SettingsError(["A: got 1; wants 2", "B: got 3; wants 4"]),
        2,
        "evalforge: A: got 1; wants 2\nevalforge: B: got 3; wants 4\n",
    ),
    (errors.CredentialsError("no", code="secret_denied"), 3, "evalforge: no\n"),
    (errors.SourceRefusedError("refused"), 4, "evalforge: refused\n"),
    (errors.StoreError("schema"), 5, "evalforge: schema\n"),
    (errors.SourceUnavailableError("down"), 6, "evalforge: down\n"),
    (errors.QuotaExhaustedError("quota", retry_after_s=41.6), 7, "evalforge: quota\nevalforge: try again in 42 s\n"),
    (errors.StoreUnavailableError("away"), 8, "evalforge: away\n"),
    (errors.RunInProgressError("cli x", "2026"), 9, "evalforge: a run is going on: cli x, since 2026\n"),
    (errors.NotFoundError("no such"), 2, "evalforge: no such\n"),
    (
        errors.RunInProgressError("\x1b[2J\x9b31m\u202ex", "\u2028y"),
        9,
        "evalforge: a run is going on: \\x1b[2J\\x9b31m\\u202ex, since \\u2028y\n",
    ),
    (KeyboardInterrupt(), 130, "evalforge: interrupted\n"),
]


def fails_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code when a command raises `error`."""

    @click.command(name="demo")
    def command() -> None:
        raise error

    module = types.ModuleType("evalforge.cli.demo")
    vars(module)["command"] = command
    monkeypatch.setitem(sys.modules, "evalforge.cli.demo", module)
    return main(["demo"])


@pytest.mark.parametrize(("error", "code", "told"), ERRORS, ids=lambda part: type(part).__name__)
def test_an_error_is_its_message_and_its_exit_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(error, monkeypatch) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err.lstrip("\n")) == ("", told)


@pytest.mark.parametrize("arguments", [["\x1b[2J"], ["--\x9b31m"], ["ingest", "--from", "\u202e\x07"], ["captures", "\x1b"]])
def test_a_hostile_argument_drives_no_terminal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out + captured.err).replace("\n", "").isprintable()


def test_a_bug_is_one_line_without_what_it_was_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(ValueError("what the user said"), monkeypatch) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "unexpected ValueError" in told
    assert "report" in told
    assert "what the user said" not in told
    assert "Traceback" not in told


def test_a_wrong_setting_stops_each_command_that_needs_settings() -> None:
    for arguments in (["ingest"], ["captures", "list"], ["captures", "show", "x"], ["export", "--out", "-"]):
        result = CliRunner(env={"PORT": "x"}).invoke(cli, arguments)
        assert isinstance(result.exception, errors.SettingsError), arguments
