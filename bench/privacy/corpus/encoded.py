"""Group "encoded": values in an encoding, or obfuscated as people do to get past filters."""

from __future__ import annotations

import base64
import gzip
import html
import random
import urllib.parse
from collections.abc import Callable, Iterator

import orjson

from bench.privacy.case import ALLOWED, DEFAULT, Case
from bench.privacy.corpus import identifiers
from bench.privacy.corpus.drafts import Draft, texts
from bench.privacy.corpus.people import person

GROUP = "encoded"
_KINDS = ("email", "phone", "card", "iban", "ip", "name", "secret", "national_id", "jwt")
_LOOKALIKES = str.maketrans("aeopcyxi", "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456")
_WIDE = {ord(char): chr(ord(char) + 0xFEE0) for char in map(chr, range(0x21, 0x7F))}
_DIGIT_WORDS = "zero one two three four five six seven eight nine".split()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _base64_url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _base64_sentence(text: str) -> str:
    return base64.b64encode(f"customer contact: {text} (verified)".encode()).decode()


def _hex(text: str) -> str:
    return text.encode().hex()


def _spaced_hex(text: str) -> str:
    return text.encode().hex(" ")


def _percent(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _every_percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _twice_percent(text: str) -> str:
    return urllib.parse.quote(urllib.parse.quote(text, safe=""), safe="")


def _entities(text: str) -> str:
    return "".join(f"&#{ord(char)};" for char in text)


def _hex_entities(text: str) -> str:
    return "".join(f"&#x{ord(char):x};" for char in text)


def _named_entities(text: str) -> str:
    return html.escape(text).replace("@", "&commat;").replace(".", "&period;").replace("+", "&plus;")


def _unicode_escapes(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


def _hex_escapes(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def _zero_width(text: str) -> str:
    return "\u200b".join(text)


def _soft_hyphens(text: str) -> str:
    return "\u00ad".join(text[at : at + 3] for at in range(0, len(text), 3))


def _bidi(text: str) -> str:
    return f"\u202a{text[:4]}\u2069{text[4:]}\u202c"


def _lookalikes(text: str) -> str:
    return text.translate(_LOOKALIKES)


def _fullwidth(text: str) -> str:
    return text.translate(_WIDE)


def _json_string(text: str) -> str:
    return orjson.dumps({"contact": orjson.dumps({"value": text}).decode()}).decode()


def _gzip(text: str) -> str:
    return base64.b64encode(gzip.compress(f"to: {text}\n".encode() * 3, mtime=0)).decode()


def _twice_base64(text: str) -> str:
    return _base64(_base64(text))


def _base64_of_percent(text: str) -> str:
    return _base64(_every_percent(text))


def _data_uri(text: str) -> str:
    return f"data:text/plain;base64,{_base64(text)}"


def _quoted_printable(text: str) -> str:
    return "".join(f"={byte:02X}" for byte in text.encode())


def _math_letters(text: str) -> str:
    def bold(char: str) -> str:
        if "a" <= char <= "z":
            return chr(0x1D41A + ord(char) - ord("a"))
        if "A" <= char <= "Z":
            return chr(0x1D400 + ord(char) - ord("A"))
        return chr(0x1D7CE + ord(char) - ord("0")) if "0" <= char <= "9" else char

    return "".join(map(bold, text))


def _spaced(text: str) -> str:
    return " ".join(text.replace(" ", ""))


ENCODINGS: dict[str, Callable[[str], str]] = {
    "base64": _base64, "base64url": _base64_url, "base64 of a sentence": _base64_sentence, "hex": _hex,
    "spaced hex": _spaced_hex, "percent": _percent, "every percent": _every_percent, "percent twice": _twice_percent,
    "entities": _entities, "hex entities": _hex_entities, "named entities": _named_entities, "\\u": _unicode_escapes,
    "\\x": _hex_escapes, "zero width": _zero_width, "soft hyphens": _soft_hyphens, "bidi": _bidi, "lookalikes": _lookalikes,
    "fullwidth": _fullwidth, "JSON in JSON": _json_string, "gzip+base64": _gzip, "base64 twice": _twice_base64,
    "base64 of percent": _base64_of_percent, "data URI": _data_uri, "quoted printable": _quoted_printable,
    "mathematical letters": _math_letters,
}  # fmt: skip


def at_dot(rng: random.Random, email: str) -> str:
    """A mail address as people write it for people only."""
    at, dot = rng.choice(
        ((" [at] ", " [dot] "), ("(at)", "(dot)"), (" at ", " dot "), ("{at}", "{dot}"), (" AT ", " DOT "), (" [@] ", "."))
    )
    return email.replace("@", at).replace(".", dot)


def spelled_digits(rng: random.Random, number: str) -> str:
    """Digits apart, or as words."""
    digits = [char for char in number if char.isdigit()]
    style = rng.randrange(4)
    if style == 0:
        return " ".join(digits)
    if style == 1:
        return " ".join(_DIGIT_WORDS[int(char)] for char in digits)
    return (" - " if style == 2 else ".").join(digits)


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """So many spans with two encoded values each, in texts (closed, scrubbed and allow-listed), metadata and tags."""
    forms = [*sorted(ENCODINGS), "at dot", "spelled digits", "spaced letters"]
    carriers = ("reasoning", "error message", "message", "metadata", "tag", "reasoning", "tool result")
    for number in range(count):
        form = forms[number % len(forms)]
        carrier = rng.choice(carriers)
        draft = Draft(rng, GROUP, profile=ALLOWED if carrier in ("message", "tool result") else DEFAULT)
        if draft.profile == ALLOWED:
            draft.metadata["user_id"] = "u-100"
        if form == "at dot":
            kind, value = "email", person(rng).email
            surface = at_dot(rng, value)
        elif form == "spelled digits":
            kind = rng.choice(("phone", "card"))
            value = identifiers.KINDS[kind](rng)
            surface = spelled_digits(rng, value)
        elif form == "spaced letters":
            kind, value = "email", person(rng).email
            surface = _spaced(value)
        else:
            kind = rng.choice(_KINDS)
            if kind == "name":
                value = person(rng).name
            elif kind == "national_id":
                value = identifiers.national_id(rng)[0]
            else:
                value = identifiers.KINDS[kind](rng)
            surface = ENCODINGS[form](value)
        spelled = draft.plant(kind, value, carrier, form=form, surface=surface)
        _put(draft, carrier, spelled)
        yield draft.case()


_AROUND = (
    ("The response repeats ", " from the attached file."),
    ("Decoded payload: ", ""),
    ("The user sent ", " and the model echoed it."),
    ("value=", " was rejected by the validator"),
    ("", ""),
)


def _put(draft: Draft, carrier: str, spelled: str) -> None:
    rng = draft.rng
    before, after = rng.choice(_AROUND)
    text = f"{before}{spelled}{after}"
    if carrier == "reasoning":
        draft.reasoning(f"{rng.choice(texts('reasoning'))} {text}", "")
    elif carrier == "error message":
        draft.error_message(text, "")
    elif carrier == "message":
        draft.message("user", text, "")
    elif carrier == "metadata":
        draft.metadata[rng.choice(("blob", "trace_state", "ref", "raw", "extra_value", "token_map", "x"))] = text
    elif carrier == "tag":
        draft.tags.append(f"{rng.choice(('ref', 'topic', 'label', 'bucket'))}:{spelled}")
    else:
        result = {"name": "fetch", "result": orjson.dumps({"status": "ok", "body": text}).decode(), "tool_id": "call_1"}
        draft.input["messages"].append({"role": "tool", "content": "", "tool_results": [result | {"type": "tool_result"}]})
