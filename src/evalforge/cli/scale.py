"""`evalforge scale`: jobs for Spark."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from evalforge.cli.cards import facts_grid
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json
from evalforge.config import Settings, one_setting
from evalforge.errors import RequestError

if TYPE_CHECKING:
    from evalforge.scale.jobs import JobReport

_OPTIONS = (
    click.option(
        "--master", metavar="URL", help="Where Spark runs, as in local-cluster[2,1,1024]; spark-submit says it itself."
    ),
    click.option(
        "--writers", metavar="N", type=click.IntRange(1, 200), help="How many partitions write at once; one for each core."
    ),
    click.option("--conf", "options", metavar="NAME=VALUE", multiple=True, help="An option of Spark's; never a secret."),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of a table."),
)


def _with_options(function: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group(name="scale", short_help="Judge archives, or stored captures again, with Spark.")
def command() -> None:
    """Judge on a Spark cluster what outgrows one machine. Needs the extra `spark`."""


@command.command(short_help="Judge archives of spans, as `evalforge archive` does.")
@click.argument("places", nargs=-1, required=True, metavar="PLACE...")
@_with_options
def judge(places: tuple[str, ...], master: str | None, writers: int | None, options: tuple[str, ...], as_json: bool) -> int:
    """Judge every trace in files of spans on all workers, with the same result as `evalforge archive`.

    Every worker reads the same PLACEs, the same settings from its own environment, and the keys by itself. Run it again
    after whatever ended it: what is stored is recognized.
    """
    return _ran(
        lambda settings, spark, holder: _jobs().judge_job(settings, spark, places, holder=holder, writers=writers),
        master,
        options,
        as_json=as_json,
    )


@command.command(short_help="Judge stored captures again by new rules or a new sanitizer.")
@_with_options
def rejudge(master: str | None, writers: int | None, options: tuple[str, ...], as_json: bool) -> int:
    """Judge every stored capture again by the present thresholds and sanitizer, in place, on all workers.

    What reviewers decided is not touched. Signals may be added and never go. Run it again after whatever ended it.
    """
    return _ran(
        lambda settings, spark, holder: _jobs().rejudge_job(settings, spark, holder=holder, writers=writers),
        master,
        options,
        as_json=as_json,
    )


def _jobs() -> Any:
    from evalforge.scale import jobs

    return jobs


def _ran(
    job: Callable[[Settings, Any, str], Awaitable[JobReport]], master: str | None, options: tuple[str, ...], *, as_json: bool
) -> int:
    from evalforge.events import configure_logging
    from evalforge.runs import default_holder

    given = dict(_pair(option) for option in options)
    settings = Settings.from_environment()
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if is_terminal() and not as_json else "INFO")

    async def work() -> JobReport:
        return await job(settings, spark, default_holder("scale"))

    with _jobs().session(master, given) as spark:
        report = run_async(work())
    if as_json:
        print_json(report.document(), indent=True, sort_keys=False)
    else:
        console().print(facts_grid(report_rows(report.document())))
    return 0


def _pair(option: str) -> tuple[str, str]:
    name, sign, value = option.partition("=")
    if not sign or not name:
        raise RequestError("--conf: wants NAME=VALUE, as in spark.executor.memory=4g", field="--conf")
    return name, value


def report_rows(report: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The report in a few lines."""
    rows: list[tuple[str, str | None]] = [
        (
            "work",
            f"{counted(report['parts'], 'part')}, {counted(report['writers'], 'writer')}, {report['duration_s']:,.0f} s",
        )
    ]
    if report["job"] == "rejudge":
        return [*rows, ("captures", ", ".join(f"{number:,} {name}" for name, number in report["documents"].items()))]
    items = report["items"]
    odd = ", ".join(f"{number:,} {code}" for code, number in report["errors_by_code"].items())
    spans = f"{items['fetched']:,} = {items['healthy']:,} healthy + {items['failing']:,} failing + {items['rejected']:,}"
    captures = ", ".join(f"{report['captures'][name]:,} {name}" for name in ("created", "updated", "unchanged", "refused"))
    return [*rows, ("spans", spans), ("odd", odd or None), ("captures", captures)]
