"""What builds images and looks into them: Docker, Podman or buildah, whichever answers here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PATIENCE_S = 30.0


class NoEngineError(Exception):
    """No engine answers here."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its program, and its words for asking whether it is there, building, and looking into an image."""

    name: str
    asked: tuple[str, ...]
    building: tuple[str, ...]
    looking: tuple[str, ...]

    def answers(self) -> bool:
        """Whether it is installed and can work: a Docker client without its daemon cannot."""
        if shutil.which(self.name) is None:
            return False
        try:
            return (
                subprocess.run([self.name, *self.asked], capture_output=True, timeout=_PATIENCE_S, check=False).returncode
                == 0
            )
        except subprocess.TimeoutExpired:
            return False

    def build(self, options: Sequence[str]) -> None:
        """Builds an image.

        Raises:
            subprocess.CalledProcessError: it could not; the engine has said why.
        """
        subprocess.run([self.name, *self.building, *options], check=True)

    def labels(self, image: str) -> dict[str, str]:
        """The labels of an image that it holds.

        Raises:
            LookupError: it holds none of that name, or tells nothing of it.
        """
        done = subprocess.run([self.name, *self.looking, "--", image], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LookupError(f"{self.name} has no image {image!r}")
        try:
            return labels_in(json.loads(done.stdout))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise LookupError(f"{self.name} tells nothing of the image {image!r}") from None


def labels_in(document: Any) -> dict[str, str]:
    """The labels in what an engine prints of an image: Docker and Podman a list of one, buildah an object."""
    config = document[0]["Config"] if isinstance(document, list) else document["Docker"]["config"]
    return {str(name): str(value) for name, value in (config.get("Labels") or {}).items()}


# HEALTHCHECK is not in OCI's format, and would be dropped without a word that anybody reads.
_DOCKERS_FORMAT = ("--format", "docker")

ENGINES = (
    Engine("docker", ("version",), ("build",), ("image", "inspect")),
    Engine("podman", ("version",), ("build", *_DOCKERS_FORMAT), ("image", "inspect")),
    Engine("buildah", ("version",), ("bud", *_DOCKERS_FORMAT), ("inspect", "--type", "image")),
)


def found_engine(name: str | None = None) -> Engine:
    """The engine of that name, or the first one that answers.

    Raises:
        NoEngineError: there is none.
    """
    for engine in ENGINES:
        if (name is None or engine.name == name) and engine.answers():
            return engine
    raise NoEngineError(
        f"{name or 'neither docker nor podman nor buildah'} answers here; apt-get install buildah needs no daemon"
    )
