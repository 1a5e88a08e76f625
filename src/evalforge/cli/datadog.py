"""`evalforge datadog`: captures go back to Datadog, as records of a dataset or as traces to annotate."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from evalforge.cli.options import run_async, selection_of, selection_options
from evalforge.cli.screen import console, counted, print_json, text
from evalforge.config import Settings
from evalforge.errors import RequestError, SourceRefusedError
from evalforge.exports.datadog.pushing import PushReport
from evalforge.exports.datadog.queueing import QueueReport

LONGEST_NAME = 200


@click.group(name="datadog", short_help="Send captures back: records of a dataset, traces to annotate.")
def command() -> None:
    """Send captures back to Datadog: as records of a dataset, or as traces of an annotation queue.

    The application key needs llm_observability_read and llm_observability_write. Doing it again adds nothing twice.
    """


@command.command(name="push-dataset")
@click.option("--project", required=True, metavar="NAME", help="The project that has the dataset; it is made if missing.")
@click.option("--dataset", required=True, metavar="NAME", help="The dataset; it is made if missing.")
@selection_options
@click.option("--limit", metavar="NUMBER", type=click.IntRange(1), help="At most so many captures, the latest failures.")
@click.option("--dry-run", is_flag=True, help="Only look, and say what would be sent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for other programs.")
def push_dataset(project: str, dataset: str, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Append captures to a dataset, one record a trace; what it has already stays as it is.

    The answer that failed goes into the metadata, with links and with assertions that are marked as generated; the expected
    output is a reviewer's or absent. Captures whose input privacy settings closed are counted and not sent.
    """
    from evalforge import bootstrap

    selection, settings = selection_of(**options), Settings.from_environment()
    names = {"project": _name(project, "--project"), "dataset": _name(dataset, "--dataset")}
    report = run_async(bootstrap.push_dataset_once(settings, selection, **names, dry_run=dry_run))
    if as_json:
        print_json(report.document(), indent=True)
    else:
        _show_push(console(), report)
    return SourceRefusedError.exit_code if report.refused or report.left_out else 0


def _show_push(out: Console, report: PushReport) -> None:
    done = "would be created" if report.dry_run else "created"
    out.print(text(f"{counted(report.created, 'record')} {done} in {report.project}/{report.dataset}", "bold"))
    answers = counted(report.with_expected_output, "of them has", "of them have")
    lines = [
        (report.with_expected_output, f"{answers} an expected output from a reviewer"),
        (report.already_there, f"{counted(report.already_there, 'capture')} already there"),
        (
            report.closed,
            f"{counted(report.closed, 'capture')} not sent: privacy settings closed the input. "
            "PII_TEXT_ALLOWLIST=input,output keeps it, scrubbed, when traces are read",
        ),
        (report.without_input, f"{counted(report.without_input, 'capture')} not sent: the span had no input"),
        (
            len(report.refused),
            f"{counted(len(report.refused), 'record')} refused by Datadog: {', '.join(report.refused[:5])}",
        ),
        (report.left_out, f"{counted(report.left_out, 'record')} taken by Datadog, but not kept"),
    ]
    _show_lines(out, lines)


@command.command(name="queue")
@click.option("--queue", required=True, metavar="NAME|ID", help="The annotation queue; make it in Datadog.")
@selection_options
@click.option("--limit", metavar="NUMBER", type=click.IntRange(1), help="At most so many captures, the latest failures.")
@click.option("--dry-run", is_flag=True, help="Only look, and say what would be added.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for other programs.")
def queue_(queue: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Put the traces of captures into an annotation queue, each once.

    Datadog keeps traces for 15 days: older ones are counted as gone, and not added.
    """
    from evalforge import bootstrap

    selection, settings = selection_of(**options), Settings.from_environment()
    wanted = _name(queue, "--queue")
    report = run_async(bootstrap.queue_traces_once(settings, selection, queue=wanted, dry_run=dry_run))
    if as_json:
        print_json(report.document(), indent=True)
    else:
        _show_queue(console(), report)


def _show_queue(out: Console, report: QueueReport) -> None:
    done = "would be added" if report.dry_run else "added"
    out.print(text(f"{counted(report.added, 'trace')} {done} to {report.queue}", "bold"))
    lines = [
        (report.already_there, f"{counted(report.already_there, 'trace')} already there"),
        (report.gone, f"{counted(report.gone, 'trace')} gone: Datadog keeps traces for 15 days"),
        (report.apm_only, f"{counted(report.apm_only, 'trace')} of APM only, which no queue takes"),
        (report.without_id, f"{counted(report.without_id, 'capture')} without a trace id of Datadog's"),
        (report.of_another_site, f"{counted(report.of_another_site, 'trace')} of another site than DATADOG_SITE"),
    ]
    _show_lines(out, lines)


def _show_lines(out: Console, lines: list[tuple[int, str]]) -> None:
    for number, line in lines:
        if number:
            out.print(text(f"  {line}", "dim"))


def _name(given: str, option: str) -> str:
    name = given.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise RequestError(f"{option}: wants a name of 1 to {LONGEST_NAME} printable characters", field=option)
    return name
