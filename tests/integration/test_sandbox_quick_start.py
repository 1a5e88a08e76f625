"""The quick start, executed from its page in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "quick-start.md"
APP = ROOT / "tests" / "data" / "apps" / "support_app.py"


def lines_of_the_page() -> list[str]:
    block = re.search(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    return block[1].splitlines()


def test_it_is_five_lines() -> None:
    lines = lines_of_the_page()
    assert len(lines) == 5
    assert lines[0] == "pip install evalforge-ingestion ddtrace"
    assert all(line.count("8126") == 1 for line in lines[1:4])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_its_lines_show_the_failures_of_an_application(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    shutil.copy(APP, tmp_path / "app.py")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = "\n".join(lines_of_the_page()).replace("evalforge-ingestion", str(ROOT)).replace("8126", str(port))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG", "TMPDIR") or name.lower().endswith("_proxy")
    }
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    environment["PATH"] = f"{tmp_path / 'venv' / 'bin'}:/usr/bin:/bin"
    # The last line of a terminal session: what was started in the background ends with it.
    done = subprocess.run(
        ["bash", "-e", "-c", script + "\nkill %1\n"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    traces: dict[str, str] = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    shown = done.stdout[done.stdout.index("outcome") :]
    assert {scenario for scenario, trace_id in traces.items() if trace_id in shown} == set(traces) - {"healthy"}, told
    assert "maria" not in shown.lower()
