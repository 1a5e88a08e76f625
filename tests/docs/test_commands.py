"""Every command that a page shows is run, in its order and in one shell, or stands in a short table that says why not."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from evalforge.config import SETTINGS, parsed_value
from evalforge.errors import SettingsError
from evalforge.sandbox.limits import RateLimit
from evalforge.sandbox.samples import DEFAULT_SEED, generate
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from tests.docs.commands import (
    ROOT,
    SHELLS,
    Command,
    assignments,
    blocks_in,
    commands_in,
    complaint,
    inline_commands,
    pages,
    program,
    simple_commands,
)
from tests.docs.plays import ELSEWHERE, EVERYWHERE, NOT_HERE, PLAYS, PROGRAMS, Play
from tests.docs.shell import Done, Shell
from tests.emulator import free_port

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
VENV = Path(sys.prefix)
ALL = {page.relative_to(ROOT).as_posix(): commands_in(page) for page in pages()}
SHOWN = [command for commands in ALL.values() for command in commands]
OTHERS_VARIABLES = re.compile(r"^(DD|OTEL|PYSPARK|SPARK|TF)_[A-Za-z_]+$")
_SETTINGS = frozenset(setting.name for setting in SETTINGS)


def why_not(command: Command) -> str:
    """Why a command is not run here; empty if it is."""
    for key in ELSEWHERE:
        page, _, text = key.partition(": ")
        there = [other for other in ALL.get(page, ()) if text and text in other.text]
        if (page.endswith("/") and command.page.startswith(page)) or (
            command.page == page and (not text or any(other.block == command.block for other in there))
        ):
            return f"another test runs it: {ELSEWHERE[key]}"
    for words in simple_commands(command.text):
        said = " ".join([program(words), *words[1:]])
        for beginning, reason in NOT_HERE.items():
            named = beginning.endswith("://") and any(word.startswith(beginning) for word in words)
            if named or said == beginning or said.startswith(f"{beginning} "):
                return reason
    return ""


def problems_of(command: Command) -> list[str]:
    """What is wrong with a command, as far as it can be told without running it."""
    found = []
    for words in simple_commands(command.text):
        name = program(words)
        if name == "evalforge" and (wrong := complaint(words)):
            found.append(f"{command}: {wrong}")
        for variable, value in assignments(words):
            used = any(re.search(rf"\${{?{variable}\b", other.text) for other in ALL.get(command.page, ()))
            if variable not in _SETTINGS and not OTHERS_VARIABLES.match(variable) and not used:
                found.append(f"{command}: {variable} is no setting")
            elif variable in _SETTINGS and not re.search(r"\$|DIGEST|PROJECT", value):
                try:
                    parsed_value(variable, value)
                except SettingsError as error:
                    found.append(f"{command}: {error.message}")
        if not why_not(command) and name not in PROGRAMS:
            found.append(f"{command}: nothing runs {name!r}; add it to PROGRAMS or NOT_HERE in tests/docs/plays.py")
    return found


def test_every_command_is_one_that_we_have() -> None:
    assert [problem for command in SHOWN for problem in problems_of(command)] == []
    assert len(SHOWN) > 60


def test_commands_of_ours_in_the_prose_are_some_that_we_have() -> None:
    found = {
        f"{page.relative_to(ROOT)}:{line}: {' '.join(words)}": wrong
        for page in pages()
        for line, words in inline_commands(page)
        if (wrong := complaint(words)) and "requires an argument" not in wrong  # prose names an option without its value
    }
    assert found == {}


def test_no_command_hides_in_a_block_of_another_language() -> None:
    hidden = [
        f"{page.relative_to(ROOT)}:{start}: {line}"
        for page in pages()
        for language, start, lines in blocks_in(page.read_text())
        for line in lines
        if language not in SHELLS
        and re.match(r"\s*(\$ )?(evalforge|curl|gcloud|docker|make|export) ", line)
        and not (page.name == "reference.md" and not language)  # the help's own examples, which are generated
    ]
    assert hidden == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evalforge ingets", "no command ingets"),
        ("evalforge runs lits", "no command lits"),
        ("evalforge ingest --looback 24", "--looback"),
        ("X=1 evalforge captures list --severity awful && true", "awful"),
        ("evalforge runs list now", "takes no"),
        ("export DATADOG_API_KEYS=1", "DATADOG_API_KEYS is no setting"),
        ("QUALITY_THRESHOLD=much evalforge check", "QUALITY_THRESHOLD"),
        ("shred -u store", "nothing runs 'shred'"),
    ],
)
def test_a_command_that_is_wrong_is_seen(text: str, said: str) -> None:
    assert said in "\n".join(problems_of(Command("docs/somewhere.md", 1, text, 0)))


def test_commands_are_read_as_a_reader_would_copy_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\n# only a comment\na --b 'c # d' # e\nb \\\n  --c\n\npython -c 'x\ny'\n```\n\n"
        "```console\n$ c | d > e\nprinted # not run\n```\n```text\nf\n```\n"
    )
    monkeypatch.setattr("tests.docs.commands.ROOT", tmp_path)
    found = [(command.line, command.text, command.block) for command in commands_in(page)]
    assert found == [(3, "a --b 'c # d'", 0), (4, "b    --c", 0), (7, "python -c 'x\ny'", 0), (12, "c | d > e", 1)]
    assert simple_commands("A=1 b 'c | d' 2>&1 | e >f && g &") == [["A=1", "b", "c | d"], ["e"], ["g"]]
    assert simple_commands("until a 2>/dev/null; do b 3 >c; done") == [["a"], ["b", "3"]]


def test_what_stands_in_the_tables_is_still_shown_and_still_true() -> None:
    for key, test in ELSEWHERE.items():
        if key.endswith("/") and not (ROOT / key).exists():
            continue
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(), test
        page, _, text = key.partition(": ")
        assert any(
            name.startswith(page) and text in command.text for name, commands in ALL.items() for command in commands
        ), key
    shown = {page: "\n".join(command.text for command in commands) for page, commands in ALL.items()}
    for page, play in PLAYS.items():
        for beginning in (*play.typed, *play.before, *(old for old, _ in play.instead)):
            assert beginning in shown[page], f"{page} no longer shows {beginning!r}"


@dataclass(slots=True)
class Stage:
    """What a page's commands are run on: a local Datadog, a store with its failures, and a reader's own words."""

    folder: Path
    sandbox: BackgroundServer
    names: dict[str, str] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """`text` with the names in braces replaced."""
        return re.sub(r"\{(\w+)\}", lambda found: self.names[found[1]] if found[1] in self.names else found[0], text)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A store that one run has filled, which each page gets a copy of."""
    limits = {source: RateLimit(100_000, 60) for source in ("apm", "llm_obs", "datasets")}
    sandbox = Sandbox(limits=limits)  # type: ignore[arg-type]
    sandbox.permissions = frozenset({"llm_observability_read", "apm_read", "llm_observability_write"})
    folder = tmp_path_factory.mktemp("prepared")
    with BackgroundServer(sandbox, samples=True, traces=60) as server:
        stage = Stage(folder, server)
        make_queue(server.url, "Failed answers")
        with Shell(folder, environment_of(stage)) as shell:
            done = shell.run("evalforge ingest")
            assert done.code == 0, done.stderr
            run = json.loads(shell.run("evalforge runs list --json").stdout.splitlines()[0])
            listed = shell.run("evalforge captures list --json --severity critical").stdout.splitlines()
        capture = json.loads(listed[0])
        now = datetime.now(UTC)
        stage.names |= {
            "root": str(ROOT),
            "venv": str(VENV),
            "trace_id": capture["trace_id"],
            "group": capture["signature"],
            "short_group": capture["signature"][:11],
            "run_id": run["run_id"],
            "today": f"{now:%Y-%m-%d}",
            "yesterday": f"{now - timedelta(days=1):%Y-%m-%d}",
        }
        yield stage


def make_queue(url: str, name: str) -> None:
    """A queue in the local Datadog: its labels are a team's own, so nothing of ours makes one."""
    base, keys = "/api/v2/llm-obs/v1", {"DD-API-KEY": "any", "DD-APPLICATION-KEY": "any"}
    with httpx.Client(base_url=url, headers=keys) as http:
        project = {"data": {"type": "projects", "attributes": {"name": "evals"}}}
        project_id = http.post(f"{base}/projects", json=project).json()["data"]["id"]
        queue = {"data": {"type": "queues", "attributes": {"name": name, "project_id": project_id}}}
        assert http.post(f"{base}/annotation-queues", json=queue).is_success


@pytest.fixture
def stage(prepared: Stage, tmp_path: Path) -> Stage:
    """A folder of its own, with what a page takes for granted in it."""
    for file in prepared.folder.glob("captures.sqlite3*"):
        shutil.copy(file, tmp_path)
    shutil.copytree(ROOT / "deploy" / "firestore", tmp_path / "deploy" / "firestore")
    (tmp_path / "evalforge_venv").symlink_to(VENV)
    spans = [json.dumps(span) for span in generate(DEFAULT_SEED, datetime.now(UTC), 3).llm_obs]
    (tmp_path / "span.json").write_text(spans[0])
    (tmp_path / "spans").mkdir()
    (tmp_path / "spans" / "day.ndjson").write_text("\n".join(spans))
    ports = {"service_port": str(free_port()), "sandbox_port": str(free_port())}
    return Stage(tmp_path, prepared.sandbox, prepared.names | ports | {"folder": str(tmp_path)})


def environment_of(stage: Stage, play: Play = EVERYWHERE) -> dict[str, str]:
    """What a reader would have set already."""
    plain = {name: value for name, value in os.environ.items() if name in ("LANG", "TMPDIR", "PYTHONPATH")}
    set_already = {
        "CAPTURE_STORE": f"sqlite:///{stage.folder / 'captures.sqlite3'}",
        "DATADOG_API_KEY": "any",
        "DATADOG_API_URL": stage.sandbox.url,
        "DATADOG_APP_KEY": "any",
        "DATADOG_RESOLVE_USERS": "true",
        "HOME": str(stage.folder),
        "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
        "PII_SALT": SALT,
        "PII_TEXT_ALLOWLIST": "input,output",
    }
    own = {name: stage.filled(value) for name, value in (EVERYWHERE.variables | play.variables).items()}  # type: ignore[operator]
    return plain | set_already | own


def skeleton(text: str) -> str:
    """What of a printed text is the same each time: its words, without numbers, ids and line ends."""
    return " ".join(re.sub(r"[0-9a-f]{20,}|\d[\d,.]*", "#", text).split())


class Reader:
    """Somebody who copies a page's commands into a shell, one after the other."""

    def __init__(self, stage: Stage, shell: Shell, play: Play) -> None:
        self._stage, self._shell, self._play = stage, shell, play
        self._before = dict(play.before)
        self._serves = ""

    def copies(self, command: Command) -> None:
        """Runs one command, and sees that it ends well; one that serves is left to go on."""
        for beginning in [known for known in self._before if command.text.startswith(known)]:
            self._shell.run(self._before.pop(beginning))
        text = command.text
        for old, new in (*self._play.instead, *EVERYWHERE.instead):
            text = text.replace(old, self._stage.filled(new))
        if re.match(r"evalforge sandbox\b(?!.*&)", text):
            self._serve(f"{text} --port {self._stage.names['sandbox_port']}", r"(?m)^http://127\.0\.0\.1")
            return
        serves = re.fullmatch(r"(\w+=\S+\s+)*evalforge serve", text)
        if serves or (text.startswith("curl ") and not self._serves):
            own = f"PORT={self._stage.names['service_port']} LOG_FORMAT=json"
            self._serve(f"{own} {text if serves else 'evalforge serve'}", "service.started")
            if serves:
                return
        typed = next((typed for known, typed in self._play.typed.items() if command.text.startswith(known)), "")
        done = self._shell.run(text, typed)
        said = f"{command}\n{text}\nended with {done.code}\n{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}"
        assert done.code == 0, said
        assert "Traceback" not in done.stderr, said
        for beginning, first in self._play.prints.items():
            if command.text.startswith(beginning):
                shown = [lines for language, _, lines in blocks_in((ROOT / command.page).read_text()) if not language]
                [block] = [lines for lines in shown if lines[0].startswith(first)]
                for line in block:
                    assert skeleton(line) in skeleton(done.stdout), line
        self._remembers(command.text, done)

    def ends_block(self) -> None:
        """Stops what the block has started."""
        if self._serves:
            self._shell.stop()
        self._serves = ""

    def _serve(self, text: str, ready: str) -> None:
        self.ends_block()
        self._shell.serve(text, ready)
        self._serves = text

    def _remembers(self, text: str, done: Done) -> None:
        """What later commands of the page name."""
        if text.startswith("evalforge keys new"):
            self._stage.names["key"], self._stage.names["key_row"] = done.stdout.split()
        if text.startswith("evalforge exports list"):
            packages = map(json.loads, self._shell.run("evalforge exports list --json").stdout.splitlines())
            self._stage.names["failed_export"] = next(one["id"] for one in packages if one["state"] == "failed")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page, commands in ALL.items() if any(not why_not(one) for one in commands)])
def test_the_commands_of_a_page_do_what_they_say(page: str, stage: Stage) -> None:
    play = PLAYS.get(page, Play())
    with Shell(stage.folder, environment_of(stage, play)) as shell:
        reader, block = Reader(stage, shell, play), 0
        for command in ALL[page]:
            if command.block != block:
                reader.ends_block()
                block = command.block
            if not why_not(command):
                reader.copies(command)
        reader.ends_block()
