"""The Terraform configuration before what would really read it: the provider's schema, and Terraform itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from evalforge.config import Settings
from evalforge.core.ports import COLLECTIONS
from evalforge.service.hosts import is_own_host
from evalforge.stores.firestore_indexes import deployment
from tests.provider_schema import META, Schema, fetched
from tests.terraform import FOLDER, HOW_TO_INSTALL, Block, blocks, configuration, locals_of, ran_terraform

pytestmark = pytest.mark.long

# -- the provider's schema


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    try:
        return fetched(tmp_path_factory.mktemp("provider"))
    except subprocess.CalledProcessError as error:
        told = (
            f"THE PROVIDER'S SCHEMA WAS NOT LOOKED AT. It comes from a package index (49 MB), and pip says: {error.stderr}"
        )
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)


def test_everything_fits_the_providers_schema(schema: Schema) -> None:
    assert schema.problems(configuration()) == []
    assert len([block for block in configuration() if block.kind == "resource"]) > 20


WRONG = """
resource "google_cloud_run_v2_service" "a" {
  name   = "x"
  colour = "red"
  template {
    containers {
      env {
        value = "3"
      }
      resources = { limits = {} }
    }
    timeout {}
  }
  template {}
}
resource "google_nothing" "b" {}
output "c" {
  value = "${google_cloud_run_v2_service.a.url} ${google_cloud_run_v2_service.z.uri} ${google_cloud_run_v2_service.a.uri}"
}
"""


def test_what_does_not_fit_is_seen(schema: Schema) -> None:
    place = "resource.google_cloud_run_v2_service.a"
    assert sorted(schema.problems(blocks(WRONG))) == sorted(
        [
            f"{place}: there is no colour",
            f"{place}: location is missing",
            f"{place}: there is one template at most",
            f"{place}.template: timeout is an attribute and no block",
            f"{place}.template.containers: image is missing",
            f"{place}.template.containers: resources is a block and no attribute",
            f"{place}.template.containers.env: name is missing",
            f"{place} has no attribute url",
            "resource.google_nothing.b: the provider has no google_nothing",
            "resource.google_cloud_run_v2_service.z is not declared",
        ]
    )


def test_an_attribute_misspelled_or_left_out_in_any_resource_of_ours_is_seen(schema: Schema) -> None:
    """Each resource once with its first attribute under another name: unknown, and missing where it is required."""
    for number, block in enumerate(configuration()):
        if block.kind != "resource":
            continue
        [name, *_] = [one for one in block.body if one not in META]
        body = {(f"{one}x" if one == name else one): value for one, value in block.body.items()}
        changed = [*configuration()]
        changed[number] = Block(block.kind, block.labels, body)
        assert f"resource.{'.'.join(block.labels)}: there is no {name}x" in schema.problems(changed)[:2]


# -- its form


def test_the_files_are_formatted_as_terraform_has_it(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tf"
    bad.write_text("locals {\na = 1\n}\n")
    if shutil.which("terraform"):
        checked = ran_terraform(tmp_path, "fmt", "-check", "-diff", str(FOLDER))
        assert (checked.returncode, checked.stdout) == (0, "")
        assert ran_terraform(tmp_path, "fmt", "-check", str(bad)).returncode != 0
        return
    files = sorted(FOLDER.glob("*.tf"))
    assert _unformatted(tmp_path, [*files, bad]) == [str(bad)]


FORMATTER = "@cdktf/hcl-tools@0.21.0"
_SCRIPT = """
const { format } = require("@cdktf/hcl-tools");
const { readFileSync } = require("fs");
(async () => {
  for (const path of process.argv.slice(2)) {
    const text = readFileSync(path, "utf8");
    if ((await format(text)) !== text) console.log(path);
  }
  process.exit(0);
})();
"""


def _unformatted(folder: Path, files: list[Path]) -> list[str]:
    """Without Terraform: the formatter that it is built on, as HashiCorp published it on npm (2 MB)."""
    told = f"{HOW_TO_INSTALL}. Node and npm would do for this test"
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), FORMATTER]
    subprocess.run(install, check=True, capture_output=True)
    script = folder / "unformatted.cjs"
    script.write_text(_SCRIPT)
    done = subprocess.run(["node", str(script), *map(str, files)], check=True, capture_output=True, text=True)
    return done.stdout.split()


# -- Terraform itself, without a provider: variables' conditions, and what locals come to

GOOD: dict[str, Any] = {
    "project": "my-project",
    "region": "europe-west1",
    "firestore_location": "eur3",
    "datadog_site": "datadoghq.eu",
    "image": "europe-west1-docker.pkg.dev/my-project/evalforge/ingestion@sha256:" + "0a" * 32,
    "alert_emails": ["oncall@example.com"],
    "billing_account": "012345-6789AB-CDEF01",
}

REFUSED: list[tuple[str, Any]] = [
    ("project", "123456789012"),
    ("region", "europe"),
    ("firestore_location", "Europe"),
    ("image", "europe-west1-docker.pkg.dev/my-project/evalforge/ingestion:latest"),
    ("image", "ingestion@sha256:" + "0a" * 32),
    ("image", "europe-west1-docker.pkg.dev/p/i:1@sha256:" + "0a" * 32),
    ("image", "europe-west1-docker.pkg.dev/p/i@sha256:" + "0a" * 31),
    ("name", "a-name-that-is-far-too-long"),
    ("database", "(default)"),
    ("collection_prefix", "_x"),
    ("datadog_site", "datadog.example.com"),
    ("settings", {"DATADOG_API_KEY": "x"}),
    ("settings", {"SERVICE_API_KEYS": "x"}),
    ("settings", {"PORT": "80"}),
    ("settings", {"HOST": "::"}),
    ("settings", {"SERVICE_OIDC_AUDIENCE": "x"}),
    ("settings", {"lower": "x"}),
    ("more_secrets", ["PII_SALT"]),
    ("ingress", "all"),
    ("invokers", ["allUsers"]),
    ("invokers", ["allAuthenticatedUsers"]),
    ("alert_emails", []),
    ("alert_emails", ["nobody"]),
    ("lag_alert_hours", 0),
    ("lag_alert_hours", 1.5),
    ("dead_letters_alert", -1),
    ("failed_runs_alert", -1),
    ("billing_account", "my account"),
    ("monthly_budget", 0.5),
]

TAKEN: list[tuple[str, Any]] = [
    ("settings", {"PII_EXPLANATIONS": "closed", "DATADOG_ML_APPS": "a,b"}),
    ("more_secrets", ["REVIEW_WEBHOOK_URL", "REVIEW_WEBHOOK_SECRET"]),
    ("invokers", ["group:reviewers@example.com", "serviceAccount:x@p.iam.gserviceaccount.com"]),
    ("billing_account", None),
    ("audit_schedule", None),
    ("firestore_location", "us-central1"),
]


def written(value: Any) -> str:
    """A value as Terraform writes it; JSON is nearly that."""
    return json.dumps(value)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variables, and those locals that need no provider, as a configuration of its own beside the declared indexes."""
    root = tmp_path_factory.mktemp("deploy")
    shutil.copytree(FOLDER.parent / "firestore", root / "firestore")
    folder = root / "terraform"
    folder.mkdir()
    shutil.copy(FOLDER / "variables.tf", folder)
    (folder / "firestore.tf").write_text(locals_of("firestore.tf"))
    (folder / "secrets.tf").write_text(locals_of("secrets.tf"))
    run = locals_of("run.tf").replace("data.google_project.this.number", '"42"')
    made = '{ for name, one in local.secrets : name => { secret_id = "${var.name}-${one}" } }'
    (folder / "run.tf").write_text(run.replace("google_secret_manager_secret.settings", made))
    outputs = ("composites", "fields", "environment", "url")
    (folder / "outputs.tf").write_text("".join(f'output "{name}" {{\n  value = local.{name}\n}}\n' for name in outputs))
    return folder


def applied(folder: Path, **variables: Any) -> dict[str, Any]:
    """What the outputs come to."""
    (folder / "terraform.tfvars.json").write_text(json.dumps(GOOD | variables))
    for command in (["init", "-input=false"], ["apply", "-auto-approve", "-input=false", "-no-color"]):
        done = ran_terraform(folder, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(ran_terraform(folder, "output", "-json").stdout)
    (folder / "terraform.tfvars.json").unlink()
    return {name: one["value"] for name, one in told.items()}


def test_terraform_makes_of_the_declared_indexes_what_is_declared(bare: Path) -> None:
    """For another prefix, so that nothing that begins with ours is overlooked."""
    made, wanted = applied(bare, collection_prefix="team-a_"), deployment("team-a_")
    composites = [
        {"collectionGroup": one["collection"], "queryScope": one["scope"], "fields": one["fields"]}
        for one in made["composites"].values()
    ]
    assert sorted(composites, key=str) == sorted(wanted["indexes"], key=str)
    fields = [
        {"collectionGroup": one["collection"], "fieldPath": one["field"], "ttl": one["expires"], "indexes": one["indexes"]}
        for one in made["fields"].values()
    ]
    assert sorted(fields, key=str) == sorted(wanted["fieldOverrides"], key=str)
    assert sum(one["field"] == "*" for one in made["fields"].values()) == len(COLLECTIONS)


def test_the_service_starts_with_the_environment_that_terraform_makes(bare: Path) -> None:
    secrets = ["REVIEW_WEBHOOK_URL", "REVIEW_WEBHOOK_SECRET"]
    made = applied(bare, settings={"PII_EXPLANATIONS": "closed"}, more_secrets=secrets, public_hosts=["llm.example.com"])
    environment = made["environment"]
    settings = Settings.from_environment(environment)
    assert (settings.google_cloud_project, settings.firestore_database) == ("my-project", "evalforge")
    assert (settings.host, settings.service_callers_checked_by) == ("0.0.0.0", "platform")
    assert settings.pii_explanations == "closed"
    assert made["url"] == "https://evalforge-42.europe-west1.run.app"
    for host in ("evalforge-42.europe-west1.run.app", "llm.example.com"):
        assert is_own_host(host, settings.public_hosts)
    named = {name: value for name, value in environment.items() if value.startswith("projects/")}
    assert named.keys() == {"DATADOG_API_KEY", "DATADOG_APP_KEY", "PII_SALT", *secrets}
    assert named["PII_SALT"] == "projects/my-project/secrets/evalforge-pii-salt/versions/latest"


def test_a_variable_that_is_wrong_is_refused_and_one_that_is_right_is_not(bare: Path) -> None:
    runs = ['run "good" {\n  command = plan\n}\n']
    for number, (name, value) in enumerate([*REFUSED, *TAKEN]):
        failure = f"\n  expect_failures = [var.{name}]" if number < len(REFUSED) else ""
        assignment = f"variables {{\n    {name} = {written(value)}\n  }}"
        runs.append(f'run "{name}_{number}" {{\n  command = plan\n  {assignment}{failure}\n}}\n')
    good = "".join(f"  {name} = {written(value)}\n" for name, value in GOOD.items())
    (bare / "variables.tftest.hcl").write_text(f"variables {{\n{good}}}\n\n" + "\n".join(runs))
    assert ran_terraform(bare, "init", "-input=false").returncode == 0
    done = ran_terraform(bare, "test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"{len(runs)} passed, 0 failed", done.stdout)
