"""What a source says of its reading: writes `SourceStatus`, each thing once, over all windows that are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evalforge.core.ports import FilterMode, SourceStatus
from evalforge.sources.datadog.steps import shown_place

_WEAKEST_FIRST: Sequence[FilterMode] = ("query", "auto", "scan")


class Report:
    """Writes a source's `status`. Lists in it hold each entry once, and only grow, but for a suspicion that was refuted."""

    def __init__(self, status: SourceStatus) -> None:
        self.status = status
        self._used: set[FilterMode] = set()
        self._suspicion: str | None = None

    def used(self, mode: FilterMode) -> None:
        """A window was read to its end in this mode. The weakest counts: a scan does not make an earlier query complete."""
        self._used.add(mode)
        self.status.mode = min(self._used, key=_WEAKEST_FIRST.index)

    def read(self, item_count: int) -> None:
        """A page came. One item refutes the suspicion that there is nothing to be found at all."""
        self.status.page_count += 1
        self.status.item_count += item_count
        if item_count and self._suspicion is not None:
            self.status.warnings.remove(self._suspicion)
            self._suspicion = None

    def partial(self) -> None:
        """Datadog's answers stayed incomplete."""
        self.status.partial = True

    def gaps(self, places: Iterable[str]) -> None:
        """The query misses failures at these places, and still does."""
        _extend(self.status.filter_gaps, places)

    def learned(self, places: Iterable[str]) -> None:
        """The query missed these places and finds them now."""
        _extend(self.status.learned, map(shown_place, places))

    def warn(self, warning: str) -> None:
        """Something a person should know."""
        _extend(self.status.warnings, (warning,))

    def nothing_found(self, name: str, *, is_limited: bool) -> None:
        """A whole window gave no span: says why that may be, unless another window gave some."""
        if self.status.item_count or self._suspicion is not None:
            return
        found = "no APM span matched DATADOG_APM_SCOPE" if name == "apm" else "no LLM Observability span was found"
        limits = " for DATADOG_ML_APPS and DATADOG_ENVS" if is_limited else ""
        self._suspicion = (
            f"{name}: {found}{limits} in the window: is DATADOG_SITE this organisation's site, are the keys this "
            "organisation's, and were spans sent in that time?"
        )
        self.warn(self._suspicion)


def _extend(entries: list[str], more: Iterable[str]) -> None:
    for entry in more:
        if entry not in entries:
            entries.append(entry)
