"""Captures become records of a dataset. A second push adds nothing, and neither does one after an answer that was lost."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from evalforge.core.ports import ExportPackage, Selection, Store
from evalforge.core.span import Json
from evalforge.errors import ErasedMeanwhileError, EvalForgeError, SourceRefusedError, SourceUnavailableError
from evalforge.events import emit
from evalforge.exports.datadog.api import DatadogApi
from evalforge.exports.datadog.reading import ids_in_change, ids_of_record, named, named_so, pages, path_of
from evalforge.exports.datadog.records import MOST_BYTES, MOST_RECORDS, Record, change_of, record_of
from evalforge.exports.examples import Example, example_of, usable

FORMAT = "datadog"
MOST_REFUSED = 20
"""After so many records of which none was taken, it is not the records that are refused."""

_ABOUT_THE_RECORDS = (400, 413, 422)


@dataclass(slots=True)
class PushReport:
    """What a push came to, in numbers of captures.

    `created` are the records that are new (or would be, in a dry run), `already_there` those that the dataset had, `closed`
    the captures whose input privacy settings closed, `without_input` those whose span had none, `left_out` what Datadog took
    without saying that it kept it, `refused` the ids of examples that it would not take. `dataset_id` is None while there
    is no such dataset.
    """

    project: str
    dataset: str
    dataset_id: str | None = None
    dry_run: bool = False
    created: int = 0
    already_there: int = 0
    closed: int = 0
    without_input: int = 0
    left_out: int = 0
    with_expected_output: int = 0
    refused: list[str] = field(default_factory=list)
    package_id: str | None = None

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)


async def push_dataset(
    store: Store,
    api: DatadogApi,
    selection: Selection,
    *,
    project: str,
    dataset: str,
    now: datetime,
    dry_run: bool = False,
) -> PushReport:
    """Appends the selected captures to a dataset of this name, the latest failure first; what it lacks is made.

    The store's record of the package is written before the first record leaves, so that an erasure knows where to look.
    A `dry_run` only reads, on both sides.

    Raises:
        SourceRefusedError, NotFoundError, SourceUnavailableError, QuotaExhaustedError: what was sent stays; push again.
        StoreError, StoreUnavailableError
        ErasedMeanwhileError: what was erased meanwhile may have been sent.
    """
    epoch = await store.erasure_epoch()
    report = PushReport(project, dataset, dry_run=dry_run)
    push = _Push(store, api, report, selection, now)
    try:
        await push.run(examples_of(store, selection, now=now))
    except EvalForgeError as error:
        await push.record(reason=error.code)
        raise
    await push.record()
    if push.has_sent and await store.erasure_epoch() != epoch:
        raise ErasedMeanwhileError(
            f"something was erased while dataset {dataset!a} was written: look there for what it was, and delete it"
        )
    return report


async def examples_of(store: Store, selection: Selection, *, now: datetime) -> AsyncIterator[Example]:
    """The examples of the selected captures, with the right answers that reviewers gave.

    Raises:
        StoreError, StoreUnavailableError
    """
    answers: dict[str, dict[str, str]] = {}
    async for stored in store.select(selection, now=now):
        signature = stored.capture.signature
        if signature not in answers:
            answers[signature] = dict((await store.load_review(signature)).expected_outputs)
        yield example_of(stored, expected_output=answers[signature].get(stored.capture.trace_id))


class _Push:
    def __init__(self, store: Store, api: DatadogApi, report: PushReport, selection: Selection, now: datetime) -> None:
        self._store = store
        self._api = api
        self._report = report
        self._known: set[str] = set()
        self._project_id: str | None = None
        self._has_version = False
        self._digest = hashlib.sha256()
        self._package = ExportPackage(
            id=f"export_{now:%Y%m%dT%H%M%SZ}_{secrets.token_hex(4)}",
            created_at=now,
            format=FORMAT,
            destination=f"datadog:{report.project}/{report.dataset}",
            selection=selection.document(),
            count=0,
            sha256=self._digest.hexdigest(),
            size_bytes=0,
            state="failed",
        )
        self.has_sent = False

    async def run(self, examples: AsyncIterator[Example]) -> None:
        report = self._report
        await self._look()
        batch: list[Record] = []
        size = 0
        async for example in examples:
            if example.id in self._known:
                report.already_there += 1
            elif example.texts == "closed":
                report.closed += 1
            elif not usable(example):
                report.without_input += 1
            else:
                self._known.add(example.id)
                report.with_expected_output += example.expected_output is not None
                if report.dry_run:
                    report.created += 1
                    continue
                record = record_of(example)
                if batch and (len(batch) == MOST_RECORDS or size + record.size_bytes > MOST_BYTES):
                    await self._insert(batch)
                    batch, size = [], 0
                batch.append(record)
                size += record.size_bytes
        if batch:
            await self._insert(batch)

    async def record(self, reason: str | None = None) -> None:
        """Writes what was delivered into the store's record of the package, if anything was sent."""
        if not self.has_sent:
            return
        package = replace(self._package, count=self._report.created, sha256=self._digest.hexdigest(), reason=reason)
        await self._store.save_package(package)
        self._report.package_id = package.id
        emit(
            "export.written",
            package_id=package.id,
            format=FORMAT,
            destination="datadog",
            count=package.count,
            sha256=package.sha256,
        )

    # -- project and dataset

    async def _look(self) -> None:
        """Finds what is there already."""
        project = await named_so(self._api, path_of("projects"), self._report.project, "the list of projects")
        if project is None:
            return
        self._project_id = project.id
        path = path_of(project.id, "datasets")
        dataset = await named_so(self._api, path, self._report.dataset, "the list of datasets")
        if dataset is not None:
            self._report.dataset_id = dataset.id
            self._known = await self._ids_there()

    async def _made(self) -> str:
        """The id of the dataset, which is made if it is missing, with its project."""
        if self._project_id is None:
            self._project_id = await self._make("projects", path_of("projects"), self._report.project, "the new project")
        if self._report.dataset_id is None:
            path = path_of(self._project_id, "datasets")
            self._report.dataset_id = await self._make("datasets", path, self._report.dataset, "the new dataset")
        return self._report.dataset_id

    async def _make(self, kind: str, path: str, name: str, what: str) -> str:
        # Whoever made one of this name meanwhile is welcome: it is given back, or found after a conflict.
        body = {"data": {"type": kind, "attributes": {"name": name, "description": "Failures captured by EvalForge"}}}
        try:
            answer: Json = await self._api.post(path, what, body)
            found = named(answer.get("data")) if isinstance(answer, dict) else None
        except SourceRefusedError as refused:
            if refused.status != 409:
                raise
            found = await named_so(self._api, path, name, what)
        if found is None:
            raise SourceUnavailableError(f"{self._api.host} answered without the id of {what}")
        return found.id

    async def _ids_there(self) -> set[str]:
        assert self._project_id is not None
        assert self._report.dataset_id is not None
        path = path_of(self._project_id, "datasets", self._report.dataset_id, "records")
        return {one async for item in pages(self._api, path, "the records of the dataset") for one in ids_of_record(item)}

    # -- records

    async def _insert(self, batch: list[Record]) -> None:
        dataset_id = await self._made()
        assert self._project_id is not None
        if not self.has_sent:
            # Before anything leaves: who is erased from now on can be looked for in Datadog.
            self._package = replace(self._package, state="delivered", count=len(batch))
            await self._store.save_package(self._package)
            self.has_sent = True
        path = path_of(self._project_id, "datasets", dataset_id, "batch_update")
        missing, was_lost = batch, False

        async def again() -> Json:
            nonlocal missing, was_lost
            was_lost = True
            there = await self._ids_there()
            missing = _without(batch, there)
            return self._change(dataset_id, missing) if missing else None

        try:
            answer = await self._api.post(path, "the change of the dataset", self._change(dataset_id, batch), again)
        except SourceRefusedError as refused:
            if refused.status not in _ABOUT_THE_RECORDS:
                raise
            self._taken(_without(batch, {record.id for record in missing}))
            await self._insert_less(missing, refused)
            return
        self._has_version = True
        told = ids_in_change(answer)
        # Where an answer was lost, the last one tells of a part only.
        left_out = [] if was_lost or not told else _without(batch, told)
        self._report.left_out += len(left_out)
        self._taken(_without(batch, {record.id for record in left_out}))

    async def _insert_less(self, batch: list[Record], refused: SourceRefusedError) -> None:
        """Sends what was refused in halves, until it is known which records Datadog does not take."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._insert(batch[:middle])
            await self._insert(batch[middle:])
            return
        self._report.refused += [record.id for record in batch]
        if len(self._report.refused) >= MOST_REFUSED and not self._report.created:
            raise refused

    def _change(self, dataset_id: str, records: list[Record]) -> Json:
        return change_of(dataset_id, records, new_version=not self._has_version)

    def _taken(self, records: list[Record]) -> None:
        self._report.created += len(records)
        size = self._package.size_bytes + sum(record.size_bytes for record in records)
        self._package = replace(self._package, size_bytes=size)
        for record in records:
            self._digest.update(record.id.encode() + b"\n")


def _without(records: list[Record], ids: set[str]) -> list[Record]:
    return [record for record in records if record.id not in ids]
