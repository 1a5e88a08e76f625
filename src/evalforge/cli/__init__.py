"""The command `evalforge`: parse, call, print, exit code. Each command is imported when it is called."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from io import StringIO

import click

from evalforge import __version__, errors
from evalforge.core.inert import inert_text
from evalforge.garbage import collect_seldom


@dataclass(frozen=True, slots=True)
class Row:
    """One command of the table: its module, the section of the help that lists it, and its line there."""

    module: str
    section: str
    line: str


COMMANDS: dict[str, Row] = {
    "demo": Row("demo", "Try", "Watch the whole flow on a local Datadog; needs no account."),
    "sandbox": Row("sandbox", "Try", "Serve a local Datadog with sample failures."),
    "check": Row("check", "Run", "Check settings, keys, permissions and the store."),
    "ingest": Row("ingest", "Run", "Pull the failing traces of a window into the store, once."),
    "keys": Row("keys", "Run", "Make an API key for a caller of the service."),
    "backfill": Row("backfill", "Run", "Pull a long window in slices; run it again and it goes on."),
    "archive": Row("archive", "Run", "Judge spans from files that you have, local or gs://."),
    "scale": Row("scale", "Run", "Judge archives, or stored captures again, with Spark."),
    "serve": Row("serve", "Run", "Serve the HTTP API: run-once, health, exports."),
    "firestore": Row("firestore", "Run", "Print the indexes that Firestore needs, to deploy them."),
    "runs": Row("runs", "Look", "List the runs of the last 30 days, or show one in full."),
    "captures": Row("captures", "Look", "List captures, or show one in full."),
    "groups": Row("groups", "Look", "List failures by cause, show one, or review it."),
    "stats": Row("stats", "Look", "Show failures over time, by type, application and model."),
    "dead-letters": Row("dead_letters", "Look", "List, replay or delete what could not become a capture."),
    "privacy": Row("privacy", "Look", "Show what sanitizing does to a span, field by field."),
    "export": Row("export", "Look", "Write captures to files that eval tools load."),
    "exports": Row("exports", "Look", "List packages, show one, or deliver one again."),
    "datadog": Row("datadog", "Look", "Send captures to Datadog's datasets and annotation queues."),
    "audit": Row("audit", "Privacy", "Look for stored personal data, or for missed failures."),
    "erase": Row("erase", "Privacy", "Erase what is held of one person, or of one trace, for good."),
    "purge": Row("purge", "Privacy", "Delete everything under a prefix, for good."),
}
"""Every command, in the order of the help."""

LEAKS_FOUND = 10
QUERY_MISSED = 11

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "done"),
    (1, "something that nobody foresaw"),
    (errors.SettingsError.exit_code, "a setting, an option or an argument is wrong"),
    (errors.CredentialsError.exit_code, "a secret could not be read"),
    (errors.SourceRefusedError.exit_code, "Datadog refused the keys or the request"),
    (errors.StoreError.exit_code, "the store refused"),
    (errors.SourceUnavailableError.exit_code, "Datadog is down or unreachable; try again"),
    (errors.QuotaExhaustedError.exit_code, "Datadog's rate limit is used up; try again later"),
    (errors.StoreUnavailableError.exit_code, "the store did not answer, or changed meanwhile; try again"),
    (errors.RunInProgressError.exit_code, "another run is going on"),
    (LEAKS_FOUND, "an audit found personal data that still stands"),
    (QUERY_MISSED, "an audit found failures that the query misses; they are captured now"),
    (errors.DestinationRefusedError.exit_code, "a webhook or bucket refused what was sent, or may not be called"),
    (errors.DestinationUnavailableError.exit_code, "a webhook or bucket did not answer; try again"),
    (errors.ClusterFailedError.exit_code, "Spark gave up; what was stored stays, run it again"),
    (130, "interrupted"),
)
"""Every exit code, as `evalforge --help` and docs/reference.md tell it."""

INTERRUPTED = 130


class _Formatter(click.HelpFormatter):
    """Help with headings that stand out on a terminal."""

    def write_heading(self, heading: str) -> None:
        """One heading, bold where that shows."""
        self.write(f"{'':>{self.current_indent}}{click.style(heading, bold=True)}\n")


class Context(click.Context):
    """A context whose help is wide enough to read and no wider."""

    formatter_class = _Formatter


class Commands(click.Group):
    """The top group: sections, and commands that are imported only when they are called."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        command: click.Command = import_module(f"evalforge.cli.{row.module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section, from the table alone."""
        width = max(map(len, COMMANDS))
        for section in dict.fromkeys(row.section for row in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name.ljust(width), row.line) for name, row in COMMANDS.items() if row.section == section]
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Where settings come from, and what the exit codes mean."""
        with formatter.section("Settings"):
            formatter.write_text(
                "come from the environment: DATADOG_API_KEY, DATADOG_APP_KEY, CAPTURE_STORE, PII_SALT and others. "
                "`evalforge check` shows every one; docs/configuration.md explains them."
            )
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="evalforge", message="%(prog)s %(version)s")
def cli() -> None:
    """Pull the failures of LLM applications out of Datadog, without personal data.

    Each failing trace becomes one capture in your own store: why it failed, where, a sanitized payload, and a link back.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code. An error is one clear message on standard error, never a traceback."""
    collect_seldom()
    try:
        result = cli.main(args=arguments, prog_name="evalforge", standalone_mode=False)
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        click.echo(_inert_lines(shown.getvalue().expandtabs(2)), nl=False, err=True)  # it quotes arguments
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("evalforge: interrupted", err=True)
        return INTERRUPTED
    except errors.EvalForgeError as error:
        click.echo(_told(error), err=True)
        return error.exit_code
    except SystemExit:
        # How click and rich leave when the reader of our output has gone, as `| head` does, and nothing else: no failure.
        return 0
    except Exception as error:  # noqa: BLE001 - the last place there is; the text of the error may quote data, its place does not
        click.echo(_place_of(error), err=True)
        return 1
    return result if isinstance(result, int) else 0


def _told(error: errors.EvalForgeError) -> str:
    # What another process wrote into the store may be quoted: who holds the lease, where a package went.
    lines = [f"evalforge: {line}" for line in _inert_lines(error.message).split("\n")]
    if isinstance(error, errors.RetriableError) and error.retry_after_s:
        lines.append(f"evalforge: try again in {error.retry_after_s:.0f} s")
    return "\n".join(lines)


def _inert_lines(message: str) -> str:
    return "\n".join(map(inert_text, message.split("\n")))


def _place_of(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "evalforge" in frame.filename]
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return (
        f"evalforge: unexpected {type(error).__name__}{place}. This is a bug in evalforge {__version__}: please report it "
        "with this line; it holds none of your data"
    )
