"""The open sockets of a server, so that a fault can break one."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.datastructures import Address
from uvicorn.protocols.http.h11_impl import H11Protocol

Peer = tuple[str, int]


class Connections:
    """Breaks the connection of a peer. Without a server behind it, as in an in-process test, it raises instead."""

    def __init__(self) -> None:
        self._transports: dict[Peer, asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """Return the protocol for uvicorn's `http=` setting that reports its connections here."""
        transports = self._transports

        class Reporting(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                self._peer = _peer(transport.get_extra_info("peername"))
                if self._peer is not None:
                    transports[self._peer] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self._peer is not None:
                    transports.pop(self._peer, None)
                super().connection_lost(exc)

        return Reporting

    def reset(self, client: Address | None) -> None:
        """Drop the connection hard: the peer sees a reset, not an end."""
        transport = self._of(client)
        # No lingering: closing then sends RST instead of FIN.
        sock = cast(socket.socket, transport.get_extra_info("socket"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def close(self, client: Address | None) -> None:
        """End the connection after what was already written."""
        self._of(client).close()

    def _of(self, client: Address | None) -> asyncio.Transport:
        transport = self._transports.get((client.host, client.port)) if client is not None else None
        if transport is None:
            raise ConnectionResetError("the sandbox broke the connection on purpose")
        return transport


def _peer(peername: Any) -> Peer | None:
    return (str(peername[0]), int(peername[1])) if isinstance(peername, tuple) else None
