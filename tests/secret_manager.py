"""A local Secret Manager: the real gRPC protocol on loopback, without Google.

Source: google/cloud/secretmanager/v1/service.proto; no servicer is shipped, so a generic handler serves the method.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from types import TracebackType
from typing import Any

import google_crc32c
import grpc
from google.cloud.secretmanager_v1 import AccessSecretVersionRequest, AccessSecretVersionResponse

METHOD = "/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion"

Answer = bytes | Callable[[], bytes] | Any
"""What a name gives: its secret, a grpc.StatusCode (which has no type), or a function that makes the secret when asked."""


class SecretManagerServer(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Serves `answers` by version name while the `with` block runs; other names do not exist.

    `endpoint` is its address, `asked` every name that was asked for. Names in `damaged` arrive with a wrong checksum.
    """

    def __init__(self, answers: Mapping[str, Answer], *, damaged: frozenset[str] = frozenset()) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.endpoint = ""
        self._damaged = damaged
        self._released = threading.Event()

    def __enter__(self) -> SecretManagerServer:
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=(self,))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.stop(grace=None).wait()

    def never(self) -> bytes:
        """An answer that does not come before the server ends."""
        self._released.wait()
        return b""

    def service(self, handler_call_details: Any) -> Any:
        """The handler of the one method that is served."""
        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._access,
            request_deserializer=AccessSecretVersionRequest.deserialize,
            response_serializer=AccessSecretVersionResponse.serialize,
        )

    def _access(self, request: Any, context: Any) -> Any:
        name: str = request.name
        self.asked.append(name)
        answer = self.answers.get(name, grpc.StatusCode.NOT_FOUND)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as the test wants")
        data: bytes = answer if isinstance(answer, bytes) else answer()
        checksum = google_crc32c.value(data) ^ (1 if name in self._damaged else 0)
        return AccessSecretVersionResponse(name=name, payload={"data": data, "data_crc32c": checksum})
