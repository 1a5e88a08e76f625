"""What a good engineer does in an afternoon: dlt's REST source with the failures' query and a Firestore sink of some lines.

No privacy, no rules, no merge: each span that the query gives becomes a document as it is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.update({"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"})

import dlt
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator
from dlt.sources.rest_api import rest_api_source
from google.cloud import firestore

from bench.cases.case import Case, search_body, window_ms
from bench.cases.floor import PAGE_SPANS

_BATCH = 500


def prepared(case: Case) -> Callable[[], dict[str, Any]]:
    """Reads the failing spans into the emulator."""
    os.environ["FIRESTORE_EMULATOR_HOST"] = case.emulator
    written = 0

    def load() -> dict[str, Any]:
        client = firestore.Client(project=case.project)

        def spans(items: Any, table: Any) -> None:
            nonlocal written
            batch = client.batch()
            for item in items:
                batch.set(client.collection("spans").document(item["id"]), item)
            batch.commit()
            written += len(items)

        raw = {"naming_convention": "direct", "skip_dlt_columns_and_tables": True, "max_table_nesting": 0}
        sink = dlt.destination(batch_size=_BATCH, **raw)(spans)
        resource: dict[str, Any] = {
            "name": "spans",
            "endpoint": {
                "path": "api/v2/llm-obs/v1/spans/events/search",
                "method": "POST",
                "json": search_body("@status:error", window_ms(), PAGE_SPANS),
                "data_selector": "data",
                "paginator": JSONResponseCursorPaginator(
                    cursor_path="meta.page.after", cursor_body_path="data.attributes.page.cursor"
                ),
            },
        }
        source = rest_api_source({"client": {"base_url": case.url}, "resources": [resource]})
        with tempfile.TemporaryDirectory() as folder:
            dlt.pipeline("bench", pipelines_dir=folder, destination=sink).run(source)
        return {"created": written}

    return load
