"""The keys are sent to nobody whose certificate is not good: a real TLS server, and what it heard."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from evalforge.core.ports import SourceStatus
from evalforge.errors import SourceUnavailableError
from evalforge.sources.datadog.client import DatadogClient, SearchRequest

API_KEY, APP_KEY = "hunter2-api-key", "hunter2-app-key"


class Impostor:
    """A server that says it is `localhost` and 127.0.0.1, with a certificate that it has signed itself."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        self.heard = b""
        self._context = context_with_certificate(folder) if tls else None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            with plain:
                plain.settimeout(5)
                try:
                    connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
                    with connection:
                        self.heard += connection.recv(65536)
                        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"data":[]}')
                except OSError:
                    continue  # a client that refuses the certificate hangs up

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


def context_with_certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.datadoghq.com")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.DNSName("api.datadoghq.com"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    signed = made.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    text = signed.public_bytes(serialization.Encoding.PEM)
    text += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "both.pem").write_bytes(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


@pytest.fixture(params=["self-signed", "no TLS at all"])
def impostor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Impostor]:
    server = Impostor(tmp_path, tls=request.param == "self-signed")
    yield server
    server.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_an_impostor_hears_no_key(impostor: Impostor, host: str) -> None:
    url = f"https://{host}:{impostor.port}"
    async with DatadogClient(url, API_KEY, APP_KEY, retry_budget_s=0) as client:
        with pytest.raises(SourceUnavailableError):
            await client.search(SearchRequest("llm_obs", "", "now-15m", "now", limit=1), SourceStatus("llm_obs"))
        with pytest.raises(SourceUnavailableError):
            await client.validate_keys()
    assert b"hunter2" not in impostor.heard


def test_the_impostor_would_hear_a_key(tmp_path: Path) -> None:
    impostor = Impostor(tmp_path, tls=True)
    url = f"https://localhost:{impostor.port}"
    answer = httpx.get(url, headers={"DD-API-KEY": API_KEY}, verify=False, trust_env=False)
    assert answer.status_code == 200
    assert b"hunter2" in impostor.heard
    impostor.close()
