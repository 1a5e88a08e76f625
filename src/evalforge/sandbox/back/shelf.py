"""Projects, datasets with versions, and annotation queues in memory. No HTTP: what cannot be is a `ShelfError`."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from evalforge.sandbox.spans import Json


class ShelfError(Exception):
    """What was asked cannot be done; `status` is the HTTP status that says so."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class Project:
    """A project; its name is its own."""

    id: str
    name: str
    description: str | None
    created_at: float
    number: int


@dataclass(slots=True)
class Record:
    """A record of a dataset. `version` is the dataset's when it was last written, `number` the order of creation."""

    id: str
    canonical_id: str
    input: Json
    expected_output: Json
    metadata: Json
    tags: list[str]
    created_at: float
    updated_at: float
    version: int
    number: int


@dataclass(slots=True)
class Dataset:
    """A dataset of a project; its name is its own there."""

    id: str
    project_id: str
    name: str
    description: str | None
    metadata: Json
    created_at: float
    updated_at: float
    number: int
    version: int = 0
    records: dict[str, Record] = field(default_factory=dict)


@dataclass(slots=True)
class Interaction:
    """Something to be annotated: `content_id` is the trace, the session, or the hash of what is displayed."""

    id: str
    type: str
    content_id: str
    display_block: Json
    created_at: float


@dataclass(slots=True)
class Queue:
    """An annotation queue. `interactions` are by type and content, so that each is there once."""

    id: str
    project_id: str
    name: str
    description: str
    attributes: Mapping[str, Json]
    created_at: float
    interactions: dict[tuple[str, str], Interaction] = field(default_factory=dict)


class Shelf:
    """All of it. `now` gives seconds since the Unix epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._numbers = 0
        self.projects: dict[str, Project] = {}
        self.datasets: dict[str, Dataset] = {}
        self.queues: dict[str, Queue] = {}

    def clear(self) -> None:
        """Forget everything."""
        self.projects.clear()
        self.datasets.clear()
        self.queues.clear()

    # -- projects and datasets

    def project(self, project_id: str) -> Project:
        """Return a project.

        Raises: ShelfError 404.
        """
        if project_id not in self.projects:
            raise ShelfError(404, "project not found")
        return self.projects[project_id]

    def make_project(self, name: str, description: str | None) -> tuple[Project, bool]:
        """Return the project of this name, and whether it is new; one that is there stays as it is."""
        found = next((one for one in self.projects.values() if one.name == name), None)
        if found is not None:
            return found, False
        made = Project(_new_id(), name, description, self._now(), self._number())
        self.projects[made.id] = made
        return made, True

    def dataset(self, project_id: str, dataset_id: str) -> Dataset:
        """Return a dataset of a project.

        Raises: ShelfError 404.
        """
        self.project(project_id)
        found = self.datasets.get(dataset_id)
        if found is None or found.project_id != project_id:
            raise ShelfError(404, "dataset not found")
        return found

    def make_dataset(self, project_id: str, name: str, description: str | None, metadata: Json) -> tuple[Dataset, bool]:
        """Return the dataset of this name, and whether it is new; one that is there stays as it is.

        Raises: ShelfError 404 for the project.
        """
        self.project(project_id)
        found = next((one for one in self.datasets.values() if (one.project_id, one.name) == (project_id, name)), None)
        if found is not None:
            return found, False
        now = self._now()
        made = Dataset(_new_id(), project_id, name, description, metadata, now, now, self._number())
        self.datasets[made.id] = made
        return made, True

    # -- records

    def append(self, dataset: Dataset, loaded: Iterable[Mapping[str, Json]], *, deduplicate: bool) -> list[Record]:
        """Append records under ids of Datadog's own; with `deduplicate`, not what is there already."""
        return self.change(
            dataset, insert=[{**one, "id": None} for one in loaded], deduplicate=deduplicate, new_version=True
        )

    def change(
        self,
        dataset: Dataset,
        *,
        insert: Sequence[Mapping[str, Json]] = (),
        update: Sequence[Mapping[str, Json]] = (),
        delete: Sequence[str] = (),
        deduplicate: bool = True,
        new_version: bool = True,
    ) -> list[Record]:
        """Insert, update and delete records at once, and return those that were touched.

        A record that is inserted under an id that is there takes its place, and its creation stays: so it was recorded.
        What is updated keeps the fields that are not given. With `deduplicate`, a record that has the input and the
        expected output of another one is left out.

        Raises: ShelfError 404 for a record to update or delete; nothing is changed then.
        """
        missing = [one for one in (*(str(one["id"]) for one in update), *delete) if one not in dataset.records]
        if missing:
            raise ShelfError(404, f"record not found: {missing[0]}")
        now = self._now()
        version = dataset.version + 1 if new_version or dataset.version == 0 else dataset.version
        seen = {_content(one.input, one.expected_output) for one in dataset.records.values()} if deduplicate else set()
        touched: list[Record] = []
        for loaded in insert:
            record_id = loaded.get("id") or _new_id()
            there = dataset.records.get(record_id)
            content = _content(loaded.get("input"), loaded.get("expected_output"))
            if there is None and deduplicate and content in seen:
                continue
            seen.add(content)
            record = Record(
                record_id,
                there.canonical_id if there else _new_id(),
                loaded.get("input"),
                loaded.get("expected_output"),
                loaded.get("metadata"),
                list(loaded.get("tags") or []),
                there.created_at if there else now,
                now,
                version,
                there.number if there else self._number(),
            )
            dataset.records[record_id] = record
            touched.append(record)
        for loaded in update:
            record = dataset.records[str(loaded["id"])]
            for name in ("input", "expected_output", "metadata"):
                if loaded.get(name) is not None:
                    setattr(record, name, loaded[name])
            record.updated_at, record.version = now, version
            touched.append(record)
        touched += [dataset.records.pop(one) for one in delete]
        if touched:
            dataset.version, dataset.updated_at = version, now
        return touched

    # -- annotation queues

    def queue(self, queue_id: str) -> Queue:
        """Return an annotation queue.

        Raises: ShelfError 404.
        """
        if queue_id not in self.queues:
            raise ShelfError(404, "annotation queue not found")
        return self.queues[queue_id]

    def make_queue(self, project_id: str, name: str, description: str, attributes: Mapping[str, Json]) -> Queue:
        """Return a new annotation queue; several may have one name.

        Raises: ShelfError 400: there is no such project.
        """
        if project_id not in self.projects:
            raise ShelfError(400, "project_id names no project")
        made = Queue(_new_id(), project_id, name, description, attributes, self._now())
        self.queues[made.id] = made
        return made

    def put(self, queue: Queue, loaded: Iterable[Mapping[str, Json]]) -> list[tuple[Interaction, bool]]:
        """Add interactions to a queue, and return each with whether it was there before."""
        done = []
        for one in loaded:
            block = one.get("display_block")
            content_id = one.get("content_id") or hashlib.sha256(_content(block, None).encode()).hexdigest()[:32]
            key = (one["type"], content_id)
            there = queue.interactions.get(key)
            if there is None:
                queue.interactions[key] = Interaction(_new_id(), one["type"], content_id, block, self._now())
            done.append((queue.interactions[key], there is not None))
        return done

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def _new_id() -> str:
    return str(uuid.uuid4())


def _content(given: Json, expected: Json) -> str:
    return json.dumps([given, expected], sort_keys=True)
