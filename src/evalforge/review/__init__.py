"""The reviewer's use-case: which groups of failures there are, what is in them, and what people decide about them.

It asks of a store only what Firestore can do: no grouping, no distinct values but by walking an index, no search in texts.
"""

from evalforge.review.changing import change_review
from evalforge.review.groups import Group, GroupsPage, Wanted, list_groups, one_group
from evalforge.review.listing import CapturesPage, in_state, list_captures
from evalforge.review.stats import Stats, failure_stats

__all__ = [
    "CapturesPage",
    "Group",
    "GroupsPage",
    "Stats",
    "Wanted",
    "change_review",
    "failure_stats",
    "in_state",
    "list_captures",
    "list_groups",
    "one_group",
]
