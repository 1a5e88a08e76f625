"""How projects, datasets, records and queues look in answers.

Of records there are two truths. `recorded` is what dd-trace-py's tests have of a live Datadog: JSON:API, everything of a
record below `attributes`. `published` is what the models of Datadog's own client want: records flat, those of a change one
level deeper. The client gives up on the first, and dd-trace on the second; who reads both need not know which is right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from evalforge.sandbox.back.shelf import Dataset, Interaction, Project, Queue, Record
from evalforge.sandbox.spans import Json
from evalforge.sandbox.times import iso_us

RecordShape = Literal["recorded", "published"]


def project_item(project: Project) -> Json:
    """Return a project as an item of JSON:API."""
    attributes = {
        "created_at": iso_us(project.created_at),
        "description": project.description,
        "name": project.name,
        "updated_at": iso_us(project.created_at),
    }
    return {"id": project.id, "type": "projects", "attributes": attributes}


def dataset_item(dataset: Dataset) -> Json:
    """Return a dataset as an item of JSON:API."""
    attributes = {
        "created_at": iso_us(dataset.created_at),
        "current_version": dataset.version,
        "dataset_type": "user",
        "description": dataset.description,
        "metadata": dataset.metadata,
        "name": dataset.name,
        "project_id": dataset.project_id,
        "updated_at": iso_us(dataset.updated_at),
    }
    return {"id": dataset.id, "type": "datasets", "attributes": attributes}


def record_item(dataset: Dataset, record: Record, shape: RecordShape) -> Json:
    """Return one record of a list."""
    fields = {
        "created_at": iso_us(record.created_at),
        "dataset_id": dataset.id,
        "expected_output": record.expected_output,
        "input": record.input,
        "metadata": record.metadata,
        "updated_at": iso_us(record.updated_at),
    }
    if shape == "published":
        return {"id": record.id, **fields}
    told = {name: value for name, value in fields.items() if value is not None}
    attributes = {"canonical_id": record.canonical_id, **told, "tags": record.tags}
    return {"id": record.id, "type": "datasets", "attributes": attributes}


def changed(dataset: Dataset, records: Iterable[Record], shape: RecordShape) -> Json:
    """Return the answer to a change of records."""
    items = [record_item(dataset, record, shape) for record in records]
    if shape == "published":
        return {"data": [{"records": items}]}
    return {"data": [{**item, "attributes": {**item["attributes"], "version": dataset.version}} for item in items]}


def queue_item(queue: Queue) -> Json:
    """Return a queue as an item of JSON:API."""
    at = iso_us(queue.created_at)
    attributes = {
        **queue.attributes,
        "can_manage_access": True,
        "created_at": at,
        "created_by": _SOMEBODY,
        "description": queue.description,
        "modified_at": at,
        "modified_by": _SOMEBODY,
        "name": queue.name,
        "owned_by": _SOMEBODY,
        "project_id": queue.project_id,
        "restrict_to_assignees": False,
        "restrict_to_reviewers": False,
    }
    return {"id": queue.id, "type": "queues", "attributes": attributes}


def interaction_item(interaction: Interaction) -> dict[str, Json]:
    """Return what every answer tells of an interaction."""
    at = iso_us(interaction.created_at)
    block = {} if interaction.display_block is None else {"display_block": interaction.display_block}
    return {
        "id": interaction.id,
        "type": interaction.type,
        "content_id": interaction.content_id,
        "created_at": at,
        "modified_at": at,
        **block,
    }


_SOMEBODY = "00000000-0000-0000-0000-000000000001"
