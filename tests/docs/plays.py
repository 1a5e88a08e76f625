"""What the pages' commands need to be run: words that stand for a reader's own, what is typed, and what cannot run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NOT_HERE: Mapping[str, str] = {
    "make image": "fetches a base image; tests/integration/test_image.py builds one",
    "make test": "it is what runs this",
    "docker": "needs Docker",
    "evalforge scale": "needs Spark and Java",
    "firebase": "needs a Firebase project",
    "gcloud": "needs a Google Cloud project",
    "gs://": "needs a bucket of Cloud Storage",
    "helm": "needs a cluster",
    "kubectl": "needs a cluster",
    "npx": "fetches a tool from npm; tests/integration/importers/test_importers.py runs promptfoo over what is exported",
    "pip": "would change the environment that this runs in",
    "python -m deploy.image": "fetches a base image; tests/integration/test_image.py builds one",
    "python -m pytest": "make test-all runs these tests themselves",
    "read": "waits for somebody who types",
    "terraform": "needs Terraform and a Google Cloud project",
}
"""Commands that nothing here runs, by their first words or a place that they name, and why. Our part of them is checked."""

ELSEWHERE: Mapping[str, str] = {
    "docs/quick-start.md": "integration/test_sandbox_quick_start.py::test_its_lines_show_the_failures_of_an_application",
    "docs/runbooks/": "integration/test_runbooks.py::test_a_page_shows_what_its_commands_print",
    "README.md: python -m src.ingestion.main": "docs/test_specification.py::test_the_lines_work_as_they_stand",
}
"""A page, a folder of pages, or the block of a page that has a command, which another test runs as a whole."""

PROGRAMS = frozenset(
    {"", *". cat cd cp curl echo evalforge export grep head jq kill make mkdir mv".split()}
    | set("printf python python3 rm sh sleep sort tail touch unset wait wc".split())
)
"""What a page may run here. A page that needs another one adds it here, or to NOT_HERE."""


@dataclass(frozen=True, slots=True)
class Play:
    """How the commands of one page are run where they do not run as they stand.

    `instead` has pairs of a text in a command and what takes its place; names in braces are fields of the stage. `typed` is
    what a command reads from standard input, by its beginning. `before` are commands of the test's own before the first
    command that begins so. `variables` are the environment. `prints` names, by its first words, the block that shows what a
    command prints; numbers may differ.
    """

    instead: tuple[tuple[str, str], ...] = ()
    typed: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    prints: Mapping[str, str] = field(default_factory=dict)


EVERYWHERE = Play(
    instead=(
        ("TRACE_ID", "{trace_id}"),
        ("RUN_ID", "{run_id}"),
        ("s1_98f5f9026fddce875b3372fb25583534", "{group}"),
        ("s1_98f5f902", "{short_group}"),
        ("http://localhost:8000", "http://localhost:{service_port}"),
        ("'localhost:8000", "'localhost:{service_port}"),
        ("localhost:8000/", "localhost:{service_port}/"),
        ("https://evalforge.example.com/", "http://localhost:{service_port}/"),
        ("127.0.0.1:8126", "127.0.0.1:{sandbox_port}"),
        ("curl ", "curl --silent --show-error --fail-with-body "),
        # Fifteen days are 720 requests.
        ("backfill --from 15d", "backfill --from 2h"),
    ),
    variables={"LOG_FORMAT": "console", "COLUMNS": "120"},
)
"""What holds for every page."""

PLAYS: Mapping[str, Play] = {
    "README.md": Play(
        instead=(("make demo", "make -f {root}/Makefile -o {venv}/bin/.base VENV={venv} demo"),),
        typed={"evalforge erase": "customer-4711\n"},
        prints={"make demo": "window "},
    ),
    "docs/exports.md": Play(
        instead=(("exports show ID", "exports show {failed_export}"), ("exports retry ID", "exports retry {failed_export}")),
        before={
            # A delivery that fails, and goes well when it is tried again.
            "evalforge exports list": "touch broken; evalforge export --format jsonl --to broken; rm broken",
        },
        variables={"EXPORT_DESTINATIONS": "lake={folder}/lake,broken={folder}/broken"},
    ),
    "docs/image.md": Play(instead=(("http://localhost:8080", "http://localhost:{service_port}"),)),
    "docs/operations.md": Play(
        instead=(
            ("2026-11-20T00:00:00Z", "{yesterday}T00:00:00Z"),
            ("2026-11-21T00:00:00Z", "{yesterday}T06:00:00Z"),
            ("--from 2026-11-20 --to 2026-11-23", "--from {yesterday} --to {today}"),
            ("nightly=run+read:DIGEST,dpo=erase:DIGEST", "{key_row}"),
            ("$KEY", "{key}"),
            # It would change a project's indexes; what is written is read by a shell that runs nothing.
            ("| sh -x", "| sh -n"),
            # Asked for on a terminal.
            ("dead-letters purge --until 7d", "dead-letters purge --until 7d --yes"),
        ),
    ),
    "docs/privacy.md": Play(
        instead=(("6923aaaa…", "{trace_id}"), ("purge --prefix evalforge_", "purge --prefix evalforge_ --yes")),
        typed={"evalforge erase": "customer-4711\n", "curl": '{"user_id": "customer-4712", "actor": "dpo"}'},
    ),
}
"""What holds for one page. A page without a row is run as it stands."""
