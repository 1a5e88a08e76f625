"""E-mail addresses in every spelling, and handles."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_known_words, is_word, listed

TOP_DOMAINS = listed(
    "com org net edu gov mil int info biz name dev app io ai co me tv cc eu us uk de fr es it nl be ch at se no "
    "dk fi pl cz sk hu "
    "ro bg gr pt ie ru ua by tr il ae sa ir in pk bd lk cn jp kr tw hk sg my th vn ph id au nz za ng ke gh eg ma "
    "br mx ar cl pe "
    "ca xyz online site tech cloud shop store email mail example test local lan internal invalid lt lv ee is lu "
    "mt cy hr si rs"
)
_LOCAL = rf"[0-9{LETTER}][0-9{LETTER}._%+\-'#$&*^~!?]{{0,80}}"
_LABEL = rf"[0-9{LETTER}_](?:[0-9{LETTER}_\-]{{0,61}}[0-9{LETTER}])?"
_AT = r"(?: ?[\[({<] ?(?:@|[aA][tT]|arroba) ?[\])}>] ?| {1,2}(?:[aA][tT]|arroba) {1,2}|[_\-][aA][tT][_\-]| {0,2}@ {0,2}|AT)"
_DOT = (
    r"(?: ?[\[({<] ?(?:\.|[dD][oO][tT]|punkt|punto|point) ?[\])}>] ?| {1,2}(?:[dD][oO][tT]|punkt|punto) "
    r"{1,2}|[_\-][dD][oO][tT][_\-]| ?\. ?|DOT|,)"
)
_AT_WORD = re.compile(r"(?i)[ \[({<]*(?:@|at|arroba)[ \])}>]*")
_NO_HOSTS = re.compile(r"(?i)(?:latest|default|stable|main|master|head|next|beta|canary|dev|v?[0-9][0-9.a-z\-]*|sha256)")
_IP_HOST = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_COMMON_WORDS = listed(
    "the a an this that my your our his her their it is are was look looking error errors request available"
)
_HANDLE_WORDS = listed(
    "property staticmethod classmethod dataclass override overload deprecated abstractmethod lru_cache cache "
    "cached_property app "
    "router pytest fixture decorator wraps functools contextmanager asynccontextmanager tool task flow retry bp "
    "api media import "
    "keyframes font-face charset supports include mixin extend use layer apply tailwind param params return "
    "returns throws type "
    "types typedef author see since version link example todo autowired bean component service controller test before after "
    "beforeeach aftereach injectable input output module nullable notnull entity table column id value here "
    "channel everyone all "
    "validator field_validator model_validator root_validator computed_field click command group option argument celery "
    "traceable observe workflow agent llm retrieval embedding torch jit no_grad tf function nn np jax partial "
    "singledispatch "
    "typechecked final runtime_checkable total_ordering given settings mock patch parametrize skip slow "
    "staticmethod async main"
)

EMAIL_GATE = r"@"


def _strict(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span()
    address = view.plain[start:end]
    at = address.rfind("@")
    host = address[at + 1 :].strip(".-")
    if "." in host:
        if host[0].isdigit() and _NO_HOSTS.fullmatch(host) and not _IP_HOST.fullmatch(host):
            return ()  # a package and its version
    elif not host or _NO_HOSTS.fullmatch(host) or (host.isdigit() and len(host) < 12):
        return ()
    while start and view.plain[start - 1] in "!#$&*^~?" and start > 1 and view.plain[start - 2].isalnum():
        start -= 1
    return (view.found(start, end, TextKind.EMAIL, view.text[start:end].casefold()),)


def _loose(view: View, match: Match) -> Iterable[Finding]:
    """`john (at) example [dot] com`, `john at example dot com`, `john @ example . com`, `johnATexampleDOTcom`."""
    local = match.span(1)
    at = view.plain[match.start(2) : match.end(2)]
    domain = view.plain[match.start(3) : match.end(3)]
    top = domain[match.start(4) - match.start(3) :].lower()
    if top not in TOP_DOMAINS and not any(mark in at for mark in "[({<"):
        return ()
    if at.strip().isalpha() or at.strip("_-") != at:
        is_spelled = any(dot.strip(" []{}()<>_-").isalpha() for dot in _DOTS.findall(domain))
        name = view.plain[slice(*local)].lower()
        first = domain.split(" ")[0].lower()
        if first in _COMMON_WORDS or name in _COMMON_WORDS or (not is_spelled and (is_word(name) or at == "AT")):
            return ()
        if at == "AT" and not is_spelled:
            return ()
    canonical = _AT_WORD.sub("@", at, count=1).strip("_-")
    host = _SAID_DOT.sub(".", domain)
    identity = view.text[slice(*local)] + canonical[:1] + host
    return (view.found(local[0], match.end(), TextKind.EMAIL, identity.casefold()),)


_DOTS = re.compile(r"(?i)[ \[({<_\-]*(?:\.|dot|punkt|punto|point|,)[ \])}>_\-]*")
_SAID_DOT = re.compile(r"(?i)[ \[({<_\-]*(?:\bdot\b|_dot_|-dot-|\.|DOT|\bpunkt\b|\bpunto\b|\bpoint\b|,)[ \])}>_\-]*")


def _spaced(view: View, match: Match) -> Iterable[Finding]:
    """`j o h n @ e x a m p l e . c o m`."""
    start, end = match.span()
    if view.plain[end : end + 1].isalnum():
        end -= 2  # the first letter of the next word
    joined = view.text[start:end].replace(" ", "").casefold()
    return (view.found(start, end, TextKind.EMAIL, joined),) if "@" in joined else ()


def _handle(view: View, match: Match) -> Iterable[Finding]:
    start, end = match.span(1)
    name = view.plain[start + 1 : end].rstrip(".-")
    end = start + 1 + len(name)
    rest = view.plain[end : end + 1]
    first = name.split(".", maxsplit=1)[0].lower()
    if first in _HANDLE_WORDS or not name:
        return ()
    if rest == "/" and is_known_words(name, 4):
        return ()  # a package's scope
    if rest == "(" and is_known_words(name.replace(".", "_"), 6):
        return ()  # a decorator
    return (view.found(start, end, TextKind.USER, name.casefold()),)


_NUMBERED = listed(
    "issue issues pr prs mr bug ticket case order invoice number no item build job run page section step chapter room apt "
    "unit suite line row test task question answer sample example case patch pull merge commit story epic card table "
    "figure appendix note rule version release port code error request trace span chunk doc document id"
)
"""What has a number of its own: `issue#1234` is nobody."""


def _tagged(view: View, match: Match) -> Iterable[Finding]:
    """`gill#0740`, as a chat calls its users."""
    start, end = match.span(1)
    name = view.plain[start:end].lower()
    head = re.split(r"[#_.\-]", name)[-2]
    if head in _NUMBERED or head.isdigit():
        return ()
    return (view.found(start, end, TextKind.USER, name),)


DETECTORS: tuple[Detector, ...] = (
    Detector(
        "email",
        rf'(?:"[^"\r\n@]{{1,64}}"|{_LOCAL})@(?:\[[0-9A-Fa-f:.IPv]{{3,60}}\]|{_LABEL}(?:\.{_LABEL}){{0,8}})',
        _strict,
        gate=EMAIL_GATE,
        needs="@",
    ),
    Detector(
        "email_loose",
        rf"({_LOCAL})({_AT})((?:{_LABEL}{_DOT}){{1,4}}([{LETTER}]{{2,12}}))\b",
        _loose,
        gate=(
            r"(?i)[0-9a-z\xaa-\xff](?: ?[\[({<] ?(?:@|at|arroba) ?[\])}>]| {1,2}(?:@|at|arroba) {0,2}[^ "
            r"].{1,80}(?:dot|punkt|punto|\.)|[_\-]at[_\-]|at.{1,40}dot[a-z]{2}| ?@ ?[0-9a-z])"
        ),
    ),
    Detector(
        "email_spaced",
        rf"(?:[0-9{LETTER}._\-] ){{2,60}}@(?: [0-9{LETTER}_\-])+(?: ?\.(?: [0-9{LETTER}\-])+)+",
        _spaced,
        gate=r" @ [0-9A-Za-z] ",
    ),
    Detector(
        "handle",
        rf"(?:^|[^0-9{LETTER}_@./+\-])(@[A-Za-z_\xaa-\xff][0-9{LETTER}_.\-]{{1,40}})",
        _handle,
        gate=rf"(?:^|[^0-9{LETTER}_@./+\-])@[A-Za-z_\xaa-\xff]",
        needs="@",
    ),
    Detector(
        "handle_with_number",
        rf"(?:^|[^0-9{LETTER}_/.#\-])([0-9{LETTER}_.]{{2,32}}#[0-9]{{4}})(?:$|[^0-9{LETTER}_#])",
        _tagged,
        gate=r"#[0-9]{4}",
    ),
)
