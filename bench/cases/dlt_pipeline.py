"""What a good engineer does in an afternoon: dlt's REST source with the failures' query, and a Firestore sink of a few lines.

No privacy, no rules, no merge: each span that the query gives becomes a document as it is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.update({"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"})

import dlt  # noqa: E402 - it reads its settings when it is imported
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # noqa: E402
from google.cloud import firestore  # noqa: E402

from bench.cases.case import Case, search_body, window_ms  # noqa: E402
from bench.cases.floor import PAGE_SPANS  # noqa: E402

_BATCH = 500


def prepared(case: Case) -> Callable[[], dict[str, Any]]:
    """Reads the failing spans into the emulator."""
    os.environ["FIRESTORE_EMULATOR_HOST"] = case.emulator
    written = 0

    def load() -> dict[str, Any]:
        client = firestore.Client(project=case.project)

        @dlt.destination(batch_size=_BATCH, naming_convention="direct", skip_dlt_columns_and_tables=True, max_table_nesting=0)
        def sink(items: Any, table: Any) -> None:
            nonlocal written
            batch = client.batch()
            for item in items:
                batch.set(client.collection("spans").document(item["id"]), item)
            batch.commit()
            written += len(items)

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
