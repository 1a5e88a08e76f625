"""What a tool makes of exported files, written down as JSON; runs in the tool's own environment, not in ours."""

# None of the tools is installed where types are checked.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def deepeval_json(folder: Path) -> Any:
    from deepeval.dataset import EvaluationDataset

    dataset = EvaluationDataset()
    dataset.add_goldens_from_json_file(str(folder / "goldens.json"))
    return [_golden(one) for one in dataset.goldens]


def deepeval_jsonl(folder: Path) -> Any:
    from deepeval.dataset import EvaluationDataset

    dataset = EvaluationDataset()
    dataset.add_goldens_from_jsonl_file(str(folder / "goldens.jsonl"))
    return [_golden(one) for one in dataset.goldens]


def _golden(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("input", "actual_output", "expected_output", "name")}


def inspect(folder: Path) -> Any:
    from inspect_ai.dataset import json_dataset

    return [
        {
            "id": one.id,
            "input": one.input if isinstance(one.input, str) else [[part.role, part.content] for part in one.input],
            "target": one.target,
            "metadata": one.metadata,
        }
        for one in json_dataset(str(folder / "samples.jsonl"))
    ]


def datasets(folder: Path) -> Any:
    from datasets import load_dataset

    from evalforge.exports.formats.table import FORMATS
    from tests.hostile_examples import thousand

    [file] = FORMATS["huggingface"].files
    (folder / file.name).write_bytes(b"".join(file.render(thousand())))
    found = load_dataset("parquet", data_files=str(folder / file.name), split="train", cache_dir=str(folder / "cache"))
    return [dict(one) for one in found]


def mlflow(folder: Path) -> Any:
    import mlflow
    from mlflow.genai.datasets import create_dataset

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    dataset = create_dataset(name="evalforge-failures", experiment_id="0")
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text(encoding="utf-8").split("\n") if line]
    dataset.merge_records(records)
    return [
        {"inputs": one["inputs"], "expectations": one["expectations"], "tags": one["tags"]}
        for one in dataset.to_df().to_dict("records")
    ]


def clients(folder: Path) -> Any:
    from langfuse.api import CreateDatasetItemRequest
    from langsmith.schemas import ExampleCreate

    items, examples = (
        [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").split("\n") if line]
        for name in ("items.jsonl", "examples_langsmith.jsonl")
    )
    return {
        "langfuse": [_plain(CreateDatasetItemRequest(**_snake(one))) for one in items],
        "langsmith": [{"id": str(made.id), "inputs": made.inputs} for made in (ExampleCreate(**one) for one in examples)],
    }


def _snake(item: dict[str, Any]) -> dict[str, Any]:
    """The names that the client's model takes for those of the wire."""
    names = {"datasetName": "dataset_name", "expectedOutput": "expected_output"}
    return {names.get(name, name): value for name, value in item.items()}


def _plain(item: Any) -> dict[str, Any]:
    return {"id": item.id, "input": item.input}


if __name__ == "__main__":
    place = Path(sys.argv[2])
    loaders = {one.__name__: one for one in (deepeval_json, deepeval_jsonl, inspect, datasets, mlflow, clients)}
    made = loaders[sys.argv[1]](place)
    (place / "loaded.json").write_text(json.dumps(made))
