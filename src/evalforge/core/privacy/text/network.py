"""Addresses of machines and pages: URLs, host names, IP and MAC addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from evalforge.core.privacy.keys import is_plain_chunk
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_known_words, listed

PUBLIC_HOSTS = listed(
    "openai.com anthropic.com claude.ai googleapis.com ai.google.dev mistral.ai cohere.ai cohere.com groq.com "
    "together.xyz together.ai "
    "perplexity.ai deepseek.com x.ai fireworks.ai replicate.com huggingface.co hf.co voyageai.com openrouter.ai ai21.com "
    "stability.ai datadoghq.com datadoghq.eu ddog-gov.com langchain.com python.org pypi.org pydantic.dev "
    "fastapi.tiangolo.com "
    "docs.rs npmjs.com nodejs.org mozilla.org w3.org ietf.org json-schema.org schema.org opentelemetry.io grpc.io "
    "kubernetes.io docker.com aws.amazon.com cloud.google.com learn.microsoft.com docs.microsoft.com aka.ms "
    "errors.pydantic.dev "
    "urllib3.readthedocs.io readthedocs.io readthedocs.org stripe.com sentry.io postgresql.org sqlalche.me "
    "redis.io mongodb.com"
)
_BUCKETS = ("storage.googleapis.com", "firebasestorage.googleapis.com", "hooks.slack.com")
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "[::1]", "::1"})  # noqa: S104 - recognised, not bound to
_KEPT_ADDRESSES = frozenset({"127.0.0.1", "0.0.0.0", "::1", "::", "255.255.255.255", "169.254.169.254"})  # noqa: S104
_CONNECTIVES = frozenset({"en", "us", "v1", "v2", "v3", "v1beta", "v1beta1", "v1alpha", "api", "latest", "stable", "3"})
_ROUTE_WORDS = listed(
    "completions embeddings responses messages moderations transcriptions translations generations predict invoke converse "
    "generatecontent healthz readyz livez metrics graphql oauth token webhook webhooks uploads batches "
    "assistants runs threads vectorstores "
    "rerank tokenize models engines deployments inference rpc status ping info"
)
_URL_END = ".,;:!?)]}>'\"*"
_VERSION_BEFORE = re.compile(r"(?:\bv|version[ :=v]{0,3}|ver\.? ?|==|>=|<=|~=|release |[a-z]/|[a-z]-|@)$")
_GENERAL_TOP = listed(
    "com org net edu gov mil int info biz dev app cloud online site xyz tech email shop local internal lan"
)
_COUNTRY_TOP = listed(
    "io ai co de fr nl eu ch at se dk fi no pl cz it es pt ie jp cn kr ru ua br mx ar ca au us uk nz za in be hu "
    "ro gr tr il sg hk tw"
)
_OBJECTS = listed(
    "self cls this np pd tf os sys re io json math random torch time datetime logging asyncio response request "
    "result client user "
    "item obj data row node ctx config settings app model models module module e err error exc event args kwargs df"
)


def is_public_url(url: str) -> bool:
    """Whether a URL without credentials and query names a vendor's public service and nothing else."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("http", "https", "grpc", "ws", "wss"):
        return False
    authority, slash, path = rest.partition("/")
    if any(mark in rest for mark in "@?#=&;"):
        return False
    host = authority.lower().rsplit(":", 1)[0] if re.search(r":[0-9]{1,5}$", authority) else authority.lower()
    return is_public_host(host) and is_plain_path(slash + path)


def is_public_host(host: str) -> bool:
    """Whether a host is this machine or belongs to a vendor that everybody uses, and no customer's name is part of it."""
    host = host.lower().rstrip(".")
    if host in _LOCAL_HOSTS:
        return True
    if host in _BUCKETS:
        return False
    labels = host.split(".")
    for n in range(len(labels) - 1):
        if ".".join(labels[n:]) in PUBLIC_HOSTS:
            if labels[n] == "googleapis":
                return all(label.isalpha() and is_plain_chunk(label) for label in labels[:n])
            return all(is_plain_chunk(part) and is_known_words(part, 4) for label in labels[:n] for part in label.split("-"))
    return False


def is_plain_path(path: str) -> bool:
    """Whether a path is a route that developers named: known words, versions, at most 3 digits a number."""
    for segment in path.split("/"):
        if not segment or segment in _CONNECTIVES or segment in _ROUTE_WORDS or (segment.isdigit() and len(segment) <= 3):
            continue
        if segment[:1] in ":{" and is_known_words(segment.strip(":{}"), 4):
            continue
        if not is_known_words(segment, 5) or re.search("[0-9]{4}", segment):
            return False
    return True


def _url(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span()
    while end > start and view.plain[end - 1] in _URL_END:
        end -= 1
    url = view.plain[start:end]
    _, separator, rest = url.partition("://")
    if separator and (not rest or is_public_url(url)):
        return ()
    return (view.found(start, end, TextKind.URL, view.text[start:end]),)


def _host(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    name = view.plain[start:end].lower().rstrip(".")
    end = start + len(name)
    labels = name.split(".")
    top = labels[-1]
    if top not in _GENERAL_TOP and not (top in _COUNTRY_TOP and (len(labels) > 2 or labels[0] == "www")):
        return ()
    if labels[0] in _OBJECTS or not any(label.isalpha() for label in labels):
        return ()
    if view.plain[end : end + 1] in ("(", "_"):
        return ()
    path = re.compile(r"[^\s\"'<>()\[\]{}|]{0,500}").match(view.plain, end)
    stop = path.end() if path and view.plain[end : end + 1] in ("/", ":", "?") else end
    while stop > end and view.plain[stop - 1] in _URL_END:
        stop -= 1
    if is_public_host(name) and is_plain_path(view.plain[end:stop]):
        return ()
    return (view.found(start, stop, TextKind.URL, view.text[start:stop].casefold()),)


def _ipv4(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    octets = re.findall("[0-9]+", view.plain[start:end])
    if len(octets) < 4 and view.plain[end - 1] not in "xX*":
        return ()
    if any(_octet(octet) > 255 for octet in octets):
        return ()
    address = ".".join(octets[:4])
    if address in _KEPT_ADDRESSES or _VERSION_BEFORE.search(view.before(start, 12)):
        return ()
    port = re.compile(r":[0-9]{1,5}\b|/[0-9]{1,2}\b").match(view.plain, end)
    return (view.found(start, port.end() if port else end, TextKind.IP, address),)


def _octet(digits: str) -> int:
    """An octet's value; four digits can only be octal ones (`0300`)."""
    if len(digits) <= 3:
        return int(digits)
    return int(digits, 8) if digits[0] == "0" and not set(digits) & {"8", "9"} else 256


def _ipv6(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    body = view.plain[start:end].rstrip(":") if not view.plain[start:end].endswith("::") else view.plain[start:end]
    end = start + len(body)
    try:
        address = ipaddress.IPv6Address(body)
    except ValueError:
        return ()
    groups = [group for group in body.split(":") if group]
    if str(address) in _KEPT_ADDRESSES or (len(groups) < 3 and not any(map(str.isdigit, body))):
        return ()
    if len(groups) < 3 and start and view.plain[start - 1] == ":":
        return ()
    tail = re.compile(r"(?:%[0-9A-Za-z]{1,15})?(?:/[0-9]{1,3}\b)?").match(view.plain, end)
    return (view.found(start, tail.end() if tail else end, TextKind.IP, str(address)),)


def _mac(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    digits = re.sub("[^0-9a-f]", "", view.plain[start:end].lower())
    if digits.isdigit() and len(set(digits)) <= 2 and digits.strip("0f") == "":
        return ()
    return (view.found(start, end, TextKind.MAC, digits),)


_HEX_GROUP = "[0-9A-Fa-f]{1,4}"
_DOTS = r"(?: ?[\[({]?(?:\.|dot)[\])}]? ?| dot )"


def _dashed_ip(view: View, match: Match) -> Iterable[Finding]:
    """`ip-10-0-3-7.ec2.internal`."""
    start, end = match.span()
    return (view.found(start, end, TextKind.IP, view.plain[match.start(1) : match.end(1)].replace("-", ".")),)


DETECTORS: tuple[Detector, ...] = (
    Detector(
        "url",
        rf"(?i)\b(?:[a-z][a-z0-9+.\-]{{1,30}}://|(?:mailto|sip|sips|xmpp|geo|magnet|skype|whatsapp|urn:uuid):)[^\s\"'<>`|\\^{{}}]+"
        rf"|\bwww\.[0-9{LETTER}.\-]{{3,}}(?:/[^\s\"'<>`|\\^{{}}]*)?|\bdata:[a-z]+/[a-z0-9.+\-]+(?:;[a-z0-9=\-]+){{0,3}},[^\s\"'<>]+",
        _url,
        gate=r"(?i)://|www\.|\b(?:mailto|sips?|xmpp|geo|magnet|skype|whatsapp|uuid|data):",
    ),
    Detector(
        "host",
        rf"(?:^|[^0-9{LETTER}_@./\-])((?:[0-9{LETTER}_](?:[0-9{LETTER}_\-]{{0,61}}[0-9{LETTER}])?\.){{1,8}}[A-Za-z]{{2,12}})(?:$|[^0-9{LETTER}_])",
        _host,
        gate=rf"(?i)(?:^|[^0-9{LETTER}_@./\-])[0-9{LETTER}_\-.]*[0-9a-z\xaa-\xff]\.(?:"
        + "|".join(sorted(_GENERAL_TOP | _COUNTRY_TOP))
        + r")(?:$|[^0-9a-z_])",
    ),
    Detector(
        "ipv4",
        rf"(?:^|[^0-9.])([0-9]{{1,4}}(?:{_DOTS}[0-9]{{1,4}}){{3}}|[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{1,2}}\.[xX*])(?:$|[^0-9])",
        _ipv4,
        gate=rf"[0-9]{_DOTS}[0-9]{{1,4}}{_DOTS}(?:[0-9]{{1,4}}{_DOTS}[0-9]|[xX*])|[0-9]\.[0-9]{{1,3}}\.[xX*]",
    ),
    Detector(
        "ip_dashed",
        r"(?i)\bip-([0-9]{1,3}-[0-9]{1,3}-[0-9]{1,3}-[0-9]{1,3})(?:\.[a-z0-9.\-]{1,80})?",
        _dashed_ip,
    ),
    Detector(
        "ipv6",
        rf"(?:^|[^0-9A-Za-z_.])((?:{_HEX_GROUP})?(?::{{1,2}}{_HEX_GROUP}){{2,7}}(?:(?:\.[0-9]{{1,3}}){{3}})?(?:::)?|{_HEX_GROUP}::(?:{_HEX_GROUP})?"
        rf"|::{_HEX_GROUP})(?:$|[^0-9A-Za-z_])",
        _ipv6,
        gate=r"[0-9A-Fa-f]?::?[0-9A-Fa-f]{1,4}::?[0-9A-Fa-f]|[0-9A-Fa-f]::|::[0-9A-Fa-f]",
    ),
    Detector(
        "mac",
        r"(?:^|[^0-9A-Za-z:\-])((?:[0-9A-Fa-f]{2}[:\-]){5}(?:[0-9A-Fa-f]{2}[:\-]){0,2}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})(?:$|[^0-9A-Za-z\-])",
        _mac,
    ),
)
