"""ID tokens like Google's, signed with a key of our own, and a server that publishes the certificates' public keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt

AUDIENCE = "https://evalforge.example.com"
ACCOUNT = "scheduler@my-project.iam.gserviceaccount.com"


@dataclass
class Signer:
    """A key pair with an id."""

    key_id: str
    private: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def public_pem(self) -> str:
        """The public half, as PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def token(self, now: float, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for `AUDIENCE` that names `ACCOUNT`, good for an hour from `now` on; a claim of None is left out."""
        whole = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "sub": "1234567890",
            "email": ACCOUNT,
            "email_verified": True,
            "iat": int(now),
            "exp": int(now) + 3600,
        } | claims
        pem = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        signer = crypt.RSASigner.from_string(pem, self.key_id)  # type: ignore[no-untyped-call]
        body = {name: value for name, value in whole.items() if value is not None}
        token: bytes = jwt.encode(signer, body, header=header)  # type: ignore[no-untyped-call]
        return token.decode()


@dataclass
class Certificates:
    """What the server answers, and how often it was asked."""

    body: bytes = b"{}"
    status: int = 200
    max_age_s: int = 3600
    url: str = ""
    asked: int = 0

    def publish(self, *signers: Signer) -> None:
        """Has these keys known from now on."""
        self.body = json.dumps({signer.key_id: signer.public_pem for signer in signers}).encode()


@contextmanager
def certificate_server() -> Iterator[Certificates]:
    """Serves certificates on loopback while the block runs."""
    served = Certificates()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            self.send_response(served.status)
            self.send_header("Cache-Control", f"public, max-age={served.max_age_s}")
            self.send_header("Content-Length", str(len(served.body)))
            self.end_headers()
            self.wfile.write(served.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/certs"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
