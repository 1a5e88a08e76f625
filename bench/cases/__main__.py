"""Runs one case in this process. Each case is imported when it is asked for, so that it pays for its own imports only."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import import_module

from bench.cases.case import Case, measured

MODULES = {
    "floor": "bench.cases.floor",
    "dlt": "bench.cases.dlt_pipeline",
    "datadog-api-client": "bench.cases.official_client",
    "ours": "bench.cases.ours",
    "counted": "bench.cases.counted",
    "sanitizing": "bench.cases.sanitizing",
}
"""The module of each case; its `prepared(case)` gives what is measured, with everything imported."""

if __name__ == "__main__":
    case = Case(**json.loads(sys.argv[1]))
    figures = measured(import_module(MODULES[case.name]).prepared(case))
    print(json.dumps(asdict(figures)))
