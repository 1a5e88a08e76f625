"""How often Python looks for garbage in cycles, set once where a process begins: `cli.main` and `service.app.serve`."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000
"""After so many new objects Python looks through them. A page decodes to some 20,000 to 100,000, none of them in a cycle:
by its default of 700 to 2,000 Python would look at each page dozens of times, for a quarter of a scan's CPU time."""


def collect_seldom() -> None:
    """Lets the collector of cycles wait for a page's worth of new objects; a process that set its own rhythm keeps it.

    What is in no cycle is freed at once as ever, pages and spans among it.
    """
    if gc.isenabled() and 0 < gc.get_threshold()[0] < YOUNG_OBJECTS:
        gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
