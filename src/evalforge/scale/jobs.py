"""Spark's side: which part goes to which worker, and what comes back. pyspark is imported here and nowhere else.

Raw spans meet Spark in one shuffle only, which its own workers write to their disks: so local disks are encrypted with keys
that die with the job, and the sort is the engine's own (Python's would spill in clear). Speculation is off: it would run
parts twice on purpose. As many partitions write at once as there are writers, whatever the cluster does, so that together
they keep to the pace of one.
Source: https://spark.apache.org/docs/latest/security.html#local-storage-encryption
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evalforge.archives import tally_document
from evalforge.bootstrap import judge_of, opened_store, utc_now
from evalforge.bootstrap.archives import buckets_of
from evalforge.config import SETTINGS, Settings
from evalforge.credentials import resolve_key_ring
from evalforge.errors import ClusterFailedError, SettingsError
from evalforge.events import emit
from evalforge.ingest import Tally
from evalforge.rejudging import Rejudged
from evalforge.runs import ARCHIVE_LEASE_NAME, check_keys, held_lease, iso_of, new_run_id
from evalforge.scale import partitions
from evalforge.scale.partitions import Order
from evalforge.sources.archive import Part, parts_of

SPLIT_BYTES = 128 << 20
"""Into parts of this length plain files are cut; a packed file is one part, and one worker's."""
MAX_WRITERS = 200
DEFAULT_WRITERS_PER_CORE = 1

CONFIGURATION: Mapping[str, str] = {
    "spark.io.encryption.enabled": "true",
    "spark.speculation": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.ui.enabled": "false",
}
"""What a session of ours has, whatever else it is given."""

_OWN_MACHINE = re.compile(r"local(\[.*\]|-cluster\[.*\])?|spark://(127\.0\.0\.1|localhost):[0-9]+")
_TOLD = re.compile(r"\[evalforge ([a-z_]+)\] ([^\n\r]{1,500})")


@dataclass(slots=True)
class JobReport:
    """What a job did. In `judge` items balance as in every run; a part that ran twice is counted once, by its last time.

    `parts` is how many pieces of work there were, `writers` how many of them wrote at once.
    """

    job: str
    run_id: str
    started_at: datetime
    parts: int = 0
    writers: int = 0
    failing_traces: int = 0
    tally: Tally = field(default_factory=Tally)
    rejudged: Rejudged = field(default_factory=Rejudged)
    duration_s: float = 0.0

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        told = {"job": self.job, "run_id": self.run_id, "started_at": iso_of(self.started_at)}
        told |= {"duration_s": round(self.duration_s, 3), "parts": self.parts, "writers": self.writers}  # type: ignore[dict-item]
        if self.job == "judge":
            return {**told, "failing_traces": self.failing_traces, **tally_document(self.tally)}
        return {**told, "documents": self.rejudged.document()}


@contextmanager
def session(master: str | None, options: Mapping[str, str]) -> Iterator[Any]:
    """A Spark session, ended with the block: the one of spark-submit, or one of its own at `master`.

    Raises:
        SettingsError: pyspark is not installed, or a secret would stand in Spark's configuration.
        ClusterFailedError: the cluster does not come up.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise SettingsError("pyspark is not installed; wants pip install 'evalforge-ingestion[spark]'") from None
    refuse_secrets(options)
    builder = SparkSession.builder.appName("evalforge")
    for name, value in {**options, **CONFIGURATION}.items():
        builder = builder.config(name, value)
    if master is not None:
        builder = builder.master(master)
    with _translated():
        spark = builder.getOrCreate()
    try:
        given = dict(spark.sparkContext.getConf().getAll())
        refuse_secrets(given)
        for name, value in CONFIGURATION.items():
            if name != "spark.ui.enabled" and given.get(name) != value:
                raise SettingsError(f"{name}: wants {value} when the application begins (--conf, or --properties)")
        spark.sparkContext.setLogLevel("WARN")
        yield spark
    finally:
        spark.stop()


def refuse_secrets(options: Mapping[str, str]) -> None:
    """Makes sure that no secret stands in Spark's configuration, which its UI, event log and history show.

    Raises:
        SettingsError: names the options, without their values.
    """
    secret_names = {setting.name for setting in SETTINGS if setting.secret}
    reference = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/[^/]+(,projects/[^/]+/secrets/[^/]+/versions/[^/]+)*")
    shown = sorted(
        name for name, value in options.items() if name.rpartition(".")[2] in secret_names and not reference.fullmatch(value)
    )
    if shown:
        raise SettingsError(
            f"{', '.join(shown)}: a secret here would be shown in Spark's UI and event log; wants a Secret Manager version "
            "name (projects/P/secrets/S/versions/V), or the environment of the workers themselves"
        )


async def judge_job(
    settings: Settings,
    spark: Any,
    places: Sequence[str],
    *,
    holder: str,
    writers: int | None = None,
    parts: int | None = None,
) -> JobReport:
    """Judges every trace of the archives that these places name, on all workers of the session.

    `writers` is how many partitions write at once, by default as many as the cluster has cores.

    Raises:
        RequestError, SettingsError, CredentialsError, SourceRefusedError, SourceUnavailableError
        RunInProgressError: another process judges archives.
        ClusterFailedError: the job failed more often than Spark tries; what was stored stays. Run it again.
        StoreError, StoreUnavailableError
    """
    found_parts = parts_of(places, buckets_of(settings), split_bytes=SPLIT_BYTES)

    def work(order: Order, report: JobReport) -> None:
        report.parts = len(found_parts)
        files = spark.sparkContext.parallelize(found_parts, len(found_parts))
        found = files.mapPartitions(_Finding(order)).collect()
        failing = partitions.joined_places(one.failing for one in found)
        report.failing_traces = len(failing) // 8
        told = spark.sparkContext.broadcast(failing)
        rows = files.mapPartitions(_Wanting(told))
        frame = spark.createDataFrame(rows, _schema(), verifySchema=False)
        grouped = frame.repartition(order.writers, "place").sortWithinPartitions("place").rdd
        tallies = grouped.mapPartitions(_Judging(order)).collect()
        total = Tally.total([*(one.tally for one in found), *tallies])
        # Spans of traces in which nothing failed were only looked at.
        healthy_count = sum(one.span_count for one in found) - sum(one.fetched for one in tallies)
        total.fetched += healthy_count
        total.healthy += healthy_count
        report.tally = total

    return await _job("judge", settings, spark, holder, writers, work)


async def rejudge_job(settings: Settings, spark: Any, *, holder: str, writers: int | None = None) -> JobReport:
    """Judges every stored capture again by the present thresholds and sanitizer, in `writers` ranges of keys at once.

    Raises:
        as `judge_job`
    """

    def work(order: Order, report: JobReport) -> None:
        ranges = partitions.key_ranges(order.writers)
        report.parts = len(ranges)
        for one in spark.sparkContext.parallelize(ranges, len(ranges)).mapPartitions(_Rejudging(order)).collect():
            report.rejudged.add(one)

    return await _job("rejudge", settings, spark, holder, writers, work)


async def _job(
    job: str,
    settings: Settings,
    spark: Any,
    holder: str,
    writers: int | None,
    work: Callable[[Order, JobReport], None],
) -> JobReport:
    import asyncio

    context = spark.sparkContext
    if settings.sqlite_path is not None and not _OWN_MACHINE.fullmatch(context.master):
        raise SettingsError("CAPTURE_STORE: workers on other machines cannot write into a file; wants firestore")
    ring = await resolve_key_ring(settings)
    judge = judge_of(settings, ring)
    count = min(max(writers or context.defaultParallelism * DEFAULT_WRITERS_PER_CORE, 1), MAX_WRITERS)
    began_at = utc_now()
    order = Order(began_at, count, partitions.settings_digest(settings, judge))
    report = JobReport(job, new_run_id(order.clock), began_at, writers=count)
    began = time.monotonic()
    async with (
        opened_store(settings) as store,
        held_lease(store, holder, report.run_id, utc_now, name=ARCHIVE_LEASE_NAME),
    ):
        await check_keys(store, ring)
        # In a thread: the lease is renewed meanwhile.
        await asyncio.to_thread(_run, work, order, report)
    report.duration_s = time.monotonic() - began
    emit("job.finished", run_id=report.run_id, job=job, duration_s=round(report.duration_s, 3), parts=report.parts)
    return report


def _run(work: Callable[[Order, JobReport], None], order: Order, report: JobReport) -> None:
    with _translated():
        work(order, report)


@contextmanager
def _translated() -> Iterator[None]:
    """The one place where Spark's errors become ours: of a worker's, what it has told safely, and of others the kind."""
    from py4j.protocol import Py4JError, Py4JJavaError

    try:
        yield
    except Py4JJavaError as error:
        told = _TOLD.search(str(error.java_exception.toString()))
        said = f"a worker said: {told[2]} ({told[1]})" if told else type(error).__name__
        raise ClusterFailedError(f"Spark gave up; {said}. What was stored stays: run it again", retry_after_s=None) from None
    except (Py4JError, ConnectionError, RuntimeError) as error:
        raise ClusterFailedError(f"Spark failed ({type(error).__name__})", retry_after_s=None) from None


def _schema() -> Any:
    from pyspark.sql.types import BinaryType, LongType, StringType, StructField, StructType

    columns = (("place", LongType()), ("source", StringType()), ("packed", BinaryType()))
    return StructType([StructField(name, kind, nullable=False) for name, kind in columns])


# What is sent to workers: objects of this module, which they import, instead of functions that carry their surroundings.


@dataclass(frozen=True, slots=True)
class _Finding:
    order: Order

    def __call__(self, parts: Iterable[Part]) -> list[partitions.Found]:
        return partitions.found_in(parts, self.order)


@dataclass(frozen=True, slots=True)
class _Wanting:
    failing: Any

    def __call__(self, parts: Iterable[Part]) -> Iterator[partitions.Row]:
        return partitions.wanted_in(parts, self.failing.value)


@dataclass(frozen=True, slots=True)
class _Judging:
    order: Order

    def __call__(self, rows: Iterable[Any]) -> list[Tally]:
        return [partitions.judged(map(tuple, rows), self.order)]


@dataclass(frozen=True, slots=True)
class _Rejudging:
    order: Order

    def __call__(self, ranges: Iterable[tuple[str | None, str | None]]) -> list[Rejudged]:
        return partitions.rejudged(ranges, self.order)
