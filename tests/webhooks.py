"""A real receiver of webhooks on loopback, over TLS or not, that answers as it is told and keeps what it hears."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OK = b"HTTP/1.1 204 No Content\r\n\r\n"

Answer = bytes | Callable[[socket.socket], None] | None
"""Raw bytes; or what talks to the client itself; or None, which hangs up."""


def answer(status: int, *headers: str) -> bytes:
    """A raw answer without a body."""
    return "\r\n".join([f"HTTP/1.1 {status} Told", *headers, "Content-Length: 0", "", ""]).encode()


@dataclass(frozen=True, slots=True)
class Heard:
    """One request: its first line, its headers by lower-case name, its body, and the name that TLS was asked for."""

    line: str
    headers: dict[str, str]
    body: bytes
    sni: str | None


@dataclass(slots=True)
class Certificate:
    """A certificate that has signed itself, for these names, as a file to serve with and a context that trusts it."""

    path: Path
    trusting: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.trusting = ssl.create_default_context(cafile=str(self.path))


def certificate(folder: Path, *names: str) -> Certificate:
    """A fresh certificate for host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook test")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    alternatives = [x509.IPAddress(ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in names]
    made = made.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signed = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    text = signed.public_bytes(serialization.Encoding.PEM)
    text += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "webhook.pem"
    path.write_bytes(text)
    return Certificate(path)


class Receiver:
    """Listens at `address`, and gives the answers in turn, the last of them for ever."""

    def __init__(
        self,
        *answers: Answer,
        served: Certificate | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.answers: list[Answer] = list(answers or (OK,))
        self.heard: list[Heard] = []
        self.connection_count = 0
        self._sni: str | None = None
        self._context = self._serving(served) if served is not None else None
        self._scheme = "http" if served is None else "https"
        self.ended = threading.Event()
        self._listening = socket.create_server((address, port))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def url(self, host: str = "127.0.0.1", path: str = "/hook/hush?token=hush") -> str:
        """The URL of this receiver under a host name."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    def close(self) -> None:
        """Stops listening."""
        self.ended.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serving(self, served: Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(served.path)

        def asked_for(_socket: object, name: str | None, _context: object) -> None:
            self._sni = name

        context.sni_callback = asked_for
        return context

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.connection_count += 1
            with plain:
                plain.settimeout(10)
                try:
                    connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
                    with connection:
                        self._answer(connection)
                except (OSError, ValueError):
                    continue  # a client that hangs up

    def _answer(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        line, *rows = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
        while len(body) < int(headers.get("content-length", "0")):
            body += self._more(connection)
        self.heard.append(Heard(line, headers, body, self._sni))
        told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(told):
            told(connection)
        elif told is not None:
            connection.sendall(told)

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        received = connection.recv(65536)
        if not received:
            raise OSError("the client has gone")
        return received
