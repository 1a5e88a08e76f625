"""Receivers: whom a run tells of groups."""

from __future__ import annotations

from typing import Protocol


class Receiver(Protocol):
    """Somebody outside who is told of something: takes one message at a time."""

    async def post(self, body: bytes, *, content_type: str, message_id: str) -> None:
        """Returns when the message is accepted; `message_id` stays the same however often it is sent.

        Raises:
            DestinationRefusedError: this message, or any, is not taken.
            DestinationUnavailableError: it may be later.
        """
        ...
