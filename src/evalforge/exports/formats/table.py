"""Every format by its name. A new one is a module beside this file and a row here."""

from __future__ import annotations

from collections.abc import Mapping

from evalforge.exports.formats import (
    Format,
    datadog,
    deepeval,
    huggingface,
    inspect_ai,
    langfuse,
    langsmith,
    mlflow,
    openai_evals,
    promptfoo,
)

FORMATS: Mapping[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (promptfoo, deepeval, inspect_ai, huggingface, mlflow, datadog, langfuse, langsmith, openai_evals)
}
"""In the order in which they are documented."""
