"""Whether a reference to an image means one image for ever, or whatever has that name today. Pure.

Source: https://github.com/distribution/reference (grammar), https://github.com/opencontainers/image-spec/blob/main/annotations.md
(the label).
"""

from __future__ import annotations

import re

BASE_LABEL = "org.opencontainers.image.base.name"
"""The label in which an image tells what it was built on, as the builder named it."""

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?/)?"
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_TAG = r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
_PINNED = re.compile(rf"{_HOST}{_PART}(?:/{_PART})*{_TAG}@sha256:[0-9a-f]{{64}}")


def refusal(base: str | None) -> str | None:
    """Why a release may not be built on `base`, in one line; None when it is named by its SHA-256 digest."""
    if not base:
        return "the image does not tell its base: it was not built from deploy/image/Dockerfile"
    if _PINNED.fullmatch(base) is None:
        return f"the base {base[:200]!r} has no digest; wants NAME@sha256:64 hexadecimal digits"
    return None
