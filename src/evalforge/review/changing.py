"""Changes of a review: what somebody decides is saved, with its history, and never over what somebody else has decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from evalforge.core.ports import Selection, Store
from evalforge.core.privacy.text.own import without_identifiers
from evalforge.core.review import UNSET, Patch, Review, Unset, changed
from evalforge.erasure import forget_answers
from evalforge.errors import NotFoundError, StoreUnavailableError
from evalforge.events import emit

MAX_ROUNDS = 8


async def change_review(store: Store, signature: str, patch: Patch, *, by: str, now: datetime) -> Review:
    """The review of the group as it is after the patch; nothing is written where nothing changes.

    Personal data that is easily told, such as addresses and numbers, is taken out of what reviewers write, as it is of
    everything that is stored.

    Raises:
        NotFoundError: nothing is known of such a group, or the trace of an expected output is none of its.
        RequestError: a field is out of bounds.
        StoreError, StoreUnavailableError
    """
    await _check_known(store, signature, patch.trace_id, now)
    patch = replace(patch, note=_cleaned(patch.note), expected_output=_cleaned(patch.expected_output))
    for _ in range(MAX_ROUNDS):
        review = await store.load_review(signature)
        made = changed(review, patch, by=by, at=now)
        if made is review:
            return review
        if await store.save_review(made):
            whats = sorted({change.what for change in made.history[len(review.history) :]})
            emit("review.changed", signature=signature, state=made.state.value, changed=whats, by=by)
            await _forget_if_erased(store, patch.trace_id, now)
            return await store.load_review(signature)
    raise StoreUnavailableError("others change this review all the time; try again", retry_after_s=1.0)


async def _forget_if_erased(store: Store, trace_id: str | None, now: datetime) -> None:
    """An erasure that looked at the review before it was saved did not see the right answer in it."""
    if trace_id is not None and await store.get(trace_id, now=now) is None:
        await forget_answers(store, [trace_id])


async def _check_known(store: Store, signature: str, trace_id: str | None, now: datetime) -> None:
    if trace_id is not None:
        stored = await store.get(trace_id, now=now)
        if stored is None or stored.capture.signature != signature:
            raise NotFoundError("trace_id: this group has no such trace", field="trace_id")
        return
    is_live = await store.briefs(Selection(signatures=(signature,), limit=1), now=now)
    if not is_live and not (await store.load_review(signature)).version:
        raise NotFoundError(f"no capture has the signature {signature[:80]!a}; the list of groups shows those there are")


def _cleaned(text: str | Unset | None) -> str | Unset | None:
    return text if text is UNSET or text is None else without_identifiers(text)
