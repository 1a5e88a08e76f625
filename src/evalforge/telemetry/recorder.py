"""The one place that everything counted passes: it holds names and attributes to the table, and keeps what it was told."""

from __future__ import annotations

import bisect
import math
import re
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from evalforge.core.ports.telemetry import Told
from evalforge.telemetry.instruments import INSTRUMENT_OF, STRETCH_OF, Attribute, Instrument, Kind, Stretch

Labels = tuple[str, ...]
"""The values of an instrument's attributes, in the table's order."""

_OWN_ID = re.compile(r"run_[0-9]{8}T[0-9]{6}_[0-9a-f]{8}")


@dataclass(slots=True)
class Distribution:
    """One series of a histogram: how many values fall under each bound of the table (and above the last), and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """All that is known of one instrument, by labels; a histogram's are `Distribution`s."""

    instrument: Instrument
    values: Mapping[Labels, float] = field(default_factory=dict)
    distributions: Mapping[Labels, Distribution] = field(default_factory=dict)


class StretchWay(Protocol):
    """Where a stretch that has begun goes."""

    def end(self, attributes: Mapping[str, str | int | float], failed: str | None) -> None:
        """The stretch is over; `failed` is the code of why it did not come to its end."""
        ...


class Way(Protocol):
    """A way out for what is told while it is told; labels and attributes have been held to the table."""

    def told(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """A counter grew, a gauge changed, the moment of an age was told, or a histogram got a value."""
        ...

    def begun(self, stretch: Stretch) -> StretchWay:
        """A stretch begins within the one around it."""
        ...


class _Stretch:
    """What is noted of a stretch while it lasts."""

    def __init__(self, stretch: Stretch, attributes: Mapping[str, str | int | float]) -> None:
        self._stretch = stretch
        self.attributes: dict[str, str | int | float] = {}
        self.code: str | None = None
        self.note(**attributes)

    def note(self, **attributes: str | int | float) -> None:
        """Keeps what the table names: its values, finite numbers, and ids of ours."""
        for attribute in self._stretch.attributes:
            if attribute.name in attributes:
                self.attributes[attribute.name] = attribute.bounded(attributes[attribute.name])
        for name in self._stretch.counts:
            value = attributes.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                self.attributes[name] = value
        for name in self._stretch.ids:
            value = attributes.get(name)
            if isinstance(value, str) and _OWN_ID.fullmatch(value):
                self.attributes[name] = value

    def failed(self, code: object) -> None:
        """Keeps the code, as far as the table of errors has it."""
        self.code = _CODE.bounded(code)


class Recorder:
    """A `Telemetry` that keeps every series for whoever looks, and passes on what it is told to its ways out.

    There are never more series than the table allows. `clock` gives epoch seconds, for ages.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._ways: tuple[Way, ...] = ()
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[str, dict[Labels, float]] = {}
        self._distributions: dict[str, dict[Labels, Distribution]] = {}

    def add_way(self, way: Way) -> None:
        """Passes on to `way` what is told from now on."""
        self._ways = (*self._ways, way)

    def remove_way(self, way: Way) -> None:
        """Passes nothing more on to `way`."""
        self._ways = tuple(one for one in self._ways if one is not way)

    def add(self, name: str, amount: float = 1, **attributes: str) -> None:
        """Adds to a counter; nothing for what is no number of 0 or more.

        Raises:
            KeyError: the table has no such instrument.
        """
        instrument, labels = _row(name, Kind.COUNTER, attributes)
        if not _is_number(amount) or amount <= 0:
            return
        with self._lock:
            values = self._values.setdefault(name, {})
            values[labels] = values.get(labels, 0) + amount
        self._pass_on(instrument, amount, labels)

    def put(self, name: str, value: float, **attributes: str) -> None:
        """Sets a gauge; an age is counted from the latest moment that was ever told.

        Raises:
            KeyError: the table has no such instrument.
        """
        instrument, labels = _row(name, None, attributes)
        if not _is_number(value):
            return
        with self._lock:
            values = self._values.setdefault(name, {})
            latest = max(value, values.get(labels, value)) if instrument.kind is Kind.AGE else value
            values[labels] = latest
        self._pass_on(instrument, latest, labels)

    def observe(self, name: str, value: float, **attributes: str) -> None:
        """Adds one value to a histogram.

        Raises:
            KeyError: the table has no such instrument.
        """
        instrument, labels = _row(name, Kind.HISTOGRAM, attributes)
        if not _is_number(value):
            return
        with self._lock:
            series = self._distributions.setdefault(name, {})
            kept = series.setdefault(labels, Distribution([0] * (len(instrument.buckets) + 1)))
            kept.counts[bisect.bisect_left(instrument.buckets, value)] += 1
            kept.total += value
        self._pass_on(instrument, value, labels)

    @contextmanager
    def stretch(self, name: str, **attributes: str | int | float) -> Iterator[Told]:
        """A stretch of work; an error that leaves the block is told by its code, and by nothing else of it.

        Raises:
            KeyError: the table has no such stretch.
        """
        row = STRETCH_OF[name]
        told = _Stretch(row, attributes)
        begun = [way.begun(row) for way in self._ways]
        try:
            yield told
        except BaseException as error:
            told.failed("cancelled" if isinstance(error, CancelledError) else getattr(error, "code", "unexpected"))
            raise
        finally:
            for one in reversed(begun):
                one.end(told.attributes, told.code)

    def series(self) -> list[Series]:
        """What is known of each instrument that was told of, in the table's order; ages in seconds, as of now."""
        now = self._clock()
        with self._lock:
            return [
                Series(
                    instrument,
                    {
                        labels: max(0.0, now - value) if instrument.kind is Kind.AGE else value
                        for labels, value in self._values.get(name, {}).items()
                    },
                    {
                        labels: Distribution(list(one.counts), one.total)
                        for labels, one in self._distributions.get(name, {}).items()
                    },
                )
                for name, instrument in INSTRUMENT_OF.items()
                if name in self._values or name in self._distributions
            ]

    def _pass_on(self, instrument: Instrument, value: float, labels: Labels) -> None:
        for way in self._ways:
            way.told(instrument, value, labels)


_CODE: Attribute = INSTRUMENT_OF["evalforge.errors"].attributes[0]


def _row(name: str, kind: Kind | None, attributes: Mapping[str, str]) -> tuple[Instrument, Labels]:
    instrument = INSTRUMENT_OF[name]
    kinds = (kind,) if kind is not None else (Kind.GAUGE, Kind.AGE)
    if instrument.kind not in kinds:
        raise KeyError(f"{name} is a {instrument.kind.value}")
    return instrument, tuple(attribute.bounded(attributes.get(attribute.name)) for attribute in instrument.attributes)


def _is_number(value: float) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
