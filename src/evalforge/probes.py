"""Probes: one cheap question to each part that a run needs. `/health` and `evalforge check` share them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from evalforge.errors import EvalForgeError

PROBE_TIMEOUT_S = 10.0
"""How long one part may take to answer before it counts as down."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question. `ask` returns what to say of a part that is well, and raises an EvalForgeError when it is not."""

    part: str
    ask: Callable[[], Awaitable[str]]
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One answer. `message` never holds a secret; `code` is the error's stable name; `hint` is advice, needed or not.

    `exit_code` is the error's, 0 when all is well.
    """

    part: str
    ok: bool
    message: str
    code: str | None = None
    hint: str | None = None
    exit_code: int = 0


async def probe(question: Probe, *, timeout_s: float = PROBE_TIMEOUT_S) -> ProbeResult:
    """The answer of one part, within `timeout_s` seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            message = await question.ask()
    except EvalForgeError as error:
        return ProbeResult(question.part, False, error.message, error.code, question.hint, error.exit_code)
    except TimeoutError:
        return ProbeResult(question.part, False, f"did not answer within {timeout_s:g} s", "timeout", question.hint, 1)
    except Exception as error:  # noqa: BLE001 - a probe reports, whatever happens; the type says enough, the text may not
        return ProbeResult(question.part, False, f"met an unexpected {type(error).__name__}", "unexpected", question.hint, 1)
    return ProbeResult(question.part, True, message, None, question.hint)


async def probe_all(questions: Sequence[Probe], *, timeout_s: float = PROBE_TIMEOUT_S) -> list[ProbeResult]:
    """The answers of all parts, asked at once, in the order of the questions."""
    return list(await asyncio.gather(*(probe(question, timeout_s=timeout_s) for question in questions)))
