"""The OpenAPI document against the real process: requests of any shape, good and bad ones, with credentials and without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from evalforge.core.callers import Role, key_row_text
from evalforge.sandbox.server import BackgroundServer
from evalforge.service.app import create_app
from tests.examples import is_full
from tests.integration.test_service_process import Service, environment_for

KEY = "evf_" + "S" * 43
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
DOCUMENT = schemathesis.openapi.from_dict(create_app({}).openapi())
# It makes hundreds of requests for each route, and makes them up while tests are collected.
DOCUMENT.config.phases.coverage.enabled = is_full()
tried = hypothesis.settings(
    max_examples=40 if is_full() else 8, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "out").mkdir()
    with BackgroundServer() as sandbox:
        environment = environment_for(sandbox, folder) | {
            "HOST": "0.0.0.0",
            "SERVICE_API_KEYS": key_row_text("all", list(Role), KEY),
            "EXPORT_DESTINATIONS": f"evals={folder / 'out'}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        with Service(folder / "service.log", environment) as running:
            yield running


def sent(service: Service, case: schemathesis.Case[Any], *, with_key: bool) -> None:
    headers = {"Authorization": f"Bearer {KEY}"} if with_key else {}
    answer = case.call(base_url=f"http://127.0.0.1:{service.port}", headers=headers, timeout=60)
    case.validate_response(answer, checks=CHECKS)
    assert answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    if not with_key and case.path not in ("/livez", "/health"):
        # What is too long, or names another host, is refused before anybody is asked who they are.
        assert answer.status_code in (401, 414, 421, 431)
    assert not service.events("request.failed")


@pytest.mark.parametrize("with_key", [True, False], ids=["with a key", "without"])
@DOCUMENT.parametrize()
@tried
def test_no_request_of_any_shape_meets_an_unforeseen_error(
    service: Service, case: schemathesis.Case[Any], with_key: bool
) -> None:
    sent(service, case, with_key=with_key)
