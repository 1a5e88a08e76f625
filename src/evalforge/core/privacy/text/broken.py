"""What a line break parts: half a telephone at the end of a line, the other half on the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from evalforge.core.privacy.text.checksums import mod_97
from evalforge.core.privacy.text.contacts import TOP_DOMAINS
from evalforge.core.privacy.text.detector import View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.vocabulary import is_word

_BREAK = re.compile(r"(?<=[0-9A-Za-z@._+\-:/)])[ \t]?\r?\n[ \t]?(?=[0-9A-Za-z@._+\-:/(])")
_WINDOW = 48
_MIN_DIGITS = 5
_LEFT_TOKEN = re.compile(r"[^\s\"'<>,;|]{1,48}$")
_RIGHT_TOKEN = re.compile(r"[^\s\"'<>,;|]{1,48}")
_BEGINS_ANEW = re.compile(r"[0-9]{1,3}[.):](?:\s|$)|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}:[0-9]{2}|[-+] ")
_STANDS_ALONE = re.compile(r"(?:19|20)[0-9]{2}|[0-9]+\.[0-9]{1,3}|[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMERIC = re.compile(r"[0-9 \t.\-/()+]+")
_GROUPS = frozenset({(3, 3, 3), (3, 3, 4), (2, 2, 2, 2, 2), (3, 2, 2, 2), (4, 3, 3), (2, 4, 4), (3, 4, 4), (4, 4, 4, 4)})
"""How many digits stand together in a telephone that is parted by spaces, by itself on two lines."""
_CUE = re.compile(r"(?i)(?:phone|tel|mobile|cell|call|dial|fax|whatsapp|sms|ring|reach)[^0-9\n]{0,24}$")


def joined_at_breaks(view: View) -> Iterator[tuple[View, int, int, int]]:
    """The surroundings of each line break that may part something, without the break: their view, where the break stood in
    it, and where it begins and ends in the text.
    """
    plain = view.plain
    for line_break in _BREAK.finditer(plain):
        at, behind = line_break.span()
        left = plain[max(plain.rfind("\n", max(0, at - _WINDOW), at) + 1, at - _WINDOW, 0) : at]
        stop = plain.find("\n", behind, behind + _WINDOW)
        right = plain[behind : stop if stop >= 0 else behind + _WINDOW]
        last, first = _LEFT_TOKEN.search(left), _RIGHT_TOKEN.match(right)
        if last is None or first is None or _BEGINS_ANEW.match(right):
            continue
        has_digits = any(map(str.isdigit, last[0])) and any(map(str.isdigit, first[0]))
        if "@" not in last[0] and "@" not in first[0]:
            if not has_digits or sum(map(str.isdigit, left + right)) < _MIN_DIGITS:
                continue
            if _stand_alone(last[0].rstrip("."), first[0].rstrip(".")) and not _IP.fullmatch(last[0] + first[0].rstrip(".")):
                continue
            if _is_column(plain, at, behind, left, right):
                continue
        yield View.of(view.text[at - len(left) : at] + view.text[behind : behind + len(right)]), len(left), at, behind


_IP = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


def _stand_alone(last: str, first: str) -> bool:
    """Whether one of them is a year, an amount or a measure."""
    return _STANDS_ALONE.fullmatch(last) is not None or _STANDS_ALONE.fullmatch(first) is not None


def _is_column(plain: str, at: int, behind: int, left: str, right: str) -> bool:
    """Whether one number a line stands here, three lines or more."""
    if not (left.strip().isdigit() and right.strip().isdigit()):
        return False
    before = plain[max(0, at - len(left) - 1 - _WINDOW) : max(0, at - len(left) - 1)].rsplit("\n", 1)[-1].strip()
    after = plain[behind + len(right) + 1 : behind + len(right) + 1 + _WINDOW].split("\n", 1)[0].strip()
    return before.isdigit() or after.isdigit()


def parted(view: View, at: int, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Which findings in a joined view stand on both sides of the break at `at` and cannot be chance."""
    for finding in findings:
        if finding.start < at < finding.end and _is_sure(view, at, finding):
            yield finding


def _is_sure(view: View, at: int, finding: Finding) -> bool:
    left, right = view.plain[finding.start : at], view.plain[at : finding.end]
    match finding.kind:
        case TextKind.EMAIL:
            return _is_parted_address(left, right)
        case TextKind.IP:
            return _IP.fullmatch(left) is None and _IP.fullmatch(right) is None
        case TextKind.CARD | TextKind.MAC:
            return True
        case TextKind.IBAN:
            return mod_97(finding.identity)
        case TextKind.ID:
            return len(finding.identity) >= 8
        case TextKind.PHONE:
            return _is_parted_phone(view, finding, left + right, at)
    return False


def _is_parted_address(left: str, right: str) -> bool:
    if "@" in left and not left.endswith("@"):
        host, rest = left.rsplit("@", 1)[1], left.rsplit("@", 1)[1] + right
        whole = "." in host and _has_top_domain(host) and not right.startswith(".")
        return not whole and "." in rest and _has_top_domain(rest)
    if left.endswith("@") or right.startswith("@"):
        return "." in right and _has_top_domain(right)  # else a decorator
    name = left.strip("._+-")
    return "@" in right and not is_word(name.lower()) and not name.isdigit()


def _has_top_domain(host: str) -> bool:
    return host.rstrip(".").rsplit(".", 1)[-1].lower() in TOP_DOMAINS


def _is_parted_phone(view: View, finding: Finding, body: str, at: int) -> bool:
    digits = finding.identity
    if not digits.isdigit() or not 8 <= len(digits) <= 15:
        return False
    left_digits = sum(map(str.isdigit, view.plain[finding.start : at]))
    if left_digits >= 9 and len(digits) - left_digits <= 3:
        return False  # it was whole
    if body.startswith(("+", "(+")) or (len(digits) >= 9 and _CUE.search(view.before(finding.start))):
        return True
    if body == digits or not 9 <= len(digits) <= 12:
        return False
    if body.startswith(("0", "(0")) or not _NUMERIC.fullmatch(view.plain):
        return True
    return tuple(map(len, re.findall("[0-9]+", body))) in _GROUPS
