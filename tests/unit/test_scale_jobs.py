"""Spark's side without Spark: no secret in its configuration, errors in our words, reports in a few lines."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime

import pytest

from evalforge.cli import main
from evalforge.cli.scale import report_rows
from evalforge.errors import SettingsError
from evalforge.ingest import Tally
from evalforge.rejudging import Rejudged
from evalforge.scale.jobs import JobReport, refuse_secrets

REFERENCE = "projects/p/secrets/salt/versions/3"


@pytest.mark.parametrize("name", ["PII_SALT", "DATADOG_API_KEY", "DATADOG_APP_KEY", "REVIEW_WEBHOOK_SECRET"])
@pytest.mark.parametrize("prefix", ["spark.executorEnv.", "spark.dataproc.driverEnv.", "spark.kubernetes.driverEnv."])
def test_a_secret_in_sparks_configuration_is_refused_without_showing_it(prefix: str, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        refuse_secrets({prefix + name: "a-literal-salt", "spark.app.name": "evalforge"})
    assert name in caught.value.message
    assert "a-literal-salt" not in caught.value.message


def test_references_and_plain_settings_are_taken() -> None:
    refuse_secrets({"spark.executorEnv.PII_SALT": REFERENCE, "spark.executorEnv.CAPTURE_STORE": "firestore"})
    refuse_secrets({"spark.executorEnv.PII_SALT": f"{REFERENCE},{REFERENCE}"})


def test_without_pyspark_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    assert main(["scale", "rejudge"]) == 2
    assert "evalforge-ingestion[spark]" in capsys.readouterr().err


def test_an_option_without_a_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "rejudge", "--conf", "spark.cores"]) == 2
    assert re.search("--conf: wants NAME=VALUE", capsys.readouterr().err)


def test_reports_in_a_few_lines() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    judged = JobReport("judge", "run_1", now, parts=3, writers=2, tally=Tally(fetched=5, healthy=4, failing=1, created=1))
    rows = dict(report_rows(judged.document()))
    assert rows["work"] == "3 parts, 2 writers, 0 s"
    assert rows["spans"] == "5 = 4 healthy + 1 failing + 0"
    rejudged = JobReport("rejudge", "run_1", now, parts=2, writers=2, rejudged=Rejudged(seen=2, unchanged=2))
    assert "2 unchanged" in str(dict(report_rows(rejudged.document()))["captures"])
