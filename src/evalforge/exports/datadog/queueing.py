"""The traces of captures go into an annotation queue, each once, as long as Datadog still has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.links import LINK_LIFETIME_DAYS
from evalforge.core.ports import Selection, Store
from evalforge.core.span import Json
from evalforge.core.window import datetime_of_ms
from evalforge.errors import NotFoundError, RequestError
from evalforge.exports.datadog.api import DatadogApi
from evalforge.exports.datadog.reading import Named, interactions_in, named, pages, path_of

MOST_TRACES = 100
"""How many traces go in one request; Datadog publishes no number."""

TRACE = "trace"
"""The type of interaction that refers to a trace. Source: `LLMObsTraceInteractionType` of datadog-api-client 2.62."""


@dataclass(slots=True)
class QueueReport:
    """What came of it, in numbers of captures.

    `added` are the traces that are new in the queue (or would be, in a dry run), `already_there` those that it had, `gone`
    those that Datadog keeps no longer, `apm_only` those of APM, which no queue takes, `without_id` those whose trace id
    is no id of Datadog's, `of_another_site` those that were read from another site than the one that is written to.
    """

    queue: str
    queue_id: str
    dry_run: bool = False
    added: int = 0
    already_there: int = 0
    gone: int = 0
    apm_only: int = 0
    without_id: int = 0
    of_another_site: int = 0

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)


async def queue_traces(
    store: Store, api: DatadogApi, selection: Selection, *, queue: str, site: str, now: datetime, dry_run: bool = False
) -> QueueReport:
    """Puts the traces of the selected captures into the annotation queue of this id or name, which has to be there.

    A `dry_run` only reads, on both sides.

    Raises:
        NotFoundError: no queue has this id or name.
        RequestError: several have this name.
        SourceRefusedError, SourceUnavailableError, QuotaExhaustedError: what was added stays; ask again.
        StoreError, StoreUnavailableError
    """
    found = await find_queue(api, queue)
    report = QueueReport(found.name, found.id, dry_run)
    there = await _there(api, found.id)
    batch: list[str] = []
    async for stored in store.select(selection, now=now):
        capture = stored.capture
        if capture.trace_id in there:
            report.already_there += 1
        elif (why_not := _why_not(capture, site, now)) is not None:
            setattr(report, why_not, getattr(report, why_not) + 1)
        else:
            there.add(capture.trace_id)
            batch.append(capture.trace_id)
            if len(batch) == MOST_TRACES:
                await _add(api, report, batch)
                batch = []
    if batch:
        await _add(api, report, batch)
    return report


async def find_queue(api: DatadogApi, wanted: str) -> Named:
    """The annotation queue of this id, or else of this name.

    Raises:
        NotFoundError, RequestError: none, or several.
        SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
    """
    queues = [
        found
        async for item in pages(api, path_of("annotation-queues"), "the list of annotation queues")
        if (found := named(item)) is not None
    ]
    fitting = [queue for queue in queues if queue.id == wanted] or [queue for queue in queues if queue.name == wanted]
    if not fitting:
        raise NotFoundError(
            f"Datadog has no annotation queue {wanted[:80]!a} ({len(queues)} others): make it there, since its labels are "
            "yours to choose"
        )
    if len(fitting) > 1:
        ids = ", ".join(queue.id[:80] for queue in fitting[:5])
        raise RequestError(f"{len(fitting)} annotation queues are called {wanted[:80]!a}: name one by its id ({ids!a})")
    return fitting[0]


def _why_not(capture: FailureCapture, site: str, now: datetime) -> str | None:
    """The field of the report that counts a capture whose trace cannot be queued."""
    if not capture.has_plain_trace_id:
        return "without_id"
    if capture.trace_id_kind == "apm":
        return "apm_only"
    if capture.datadog_site != site:
        return "of_another_site"
    started_at = datetime_of_ms(capture.started_ns // 1_000_000)
    return "gone" if started_at + timedelta(days=LINK_LIFETIME_DAYS) <= now else None


async def _there(api: DatadogApi, queue_id: str) -> set[str]:
    path = path_of("annotation-queues", queue_id, "annotated-interactions")
    answer = await api.get(path, "the traces of the annotation queue")
    return {one for item in interactions_in(answer, "annotated_interactions") for one in _trace_ids(item)}


def _trace_ids(item: Mapping[str, Json]) -> Sequence[str]:
    content_id = item.get("content_id")
    return [content_id] if item.get("type") == TRACE and isinstance(content_id, str) else []


async def _add(api: DatadogApi, report: QueueReport, trace_ids: list[str]) -> None:
    if report.dry_run:
        report.added += len(trace_ids)
        return
    was_lost = False

    def body(ids: Sequence[str]) -> Json:
        items = [{"type": TRACE, "content_id": trace_id} for trace_id in ids]
        return {"data": {"type": "interactions", "attributes": {"interactions": items}}}

    async def again() -> Json:
        nonlocal was_lost
        was_lost = True
        there = await _there(api, report.queue_id)
        missing = [trace_id for trace_id in trace_ids if trace_id not in there]
        return body(missing) if missing else None

    path = path_of("annotation-queues", report.queue_id, "interactions")
    answer = await api.post(path, "what is added to the annotation queue", body(trace_ids), again)
    # Somebody else may have added some meanwhile. After a lost answer, those that are there may as well be ours.
    told = interactions_in(answer, "interactions") if not was_lost else ()
    existed = sum(item.get("already_existed") is True for item in told)
    report.added += len(trace_ids) - existed
    report.already_there += existed
