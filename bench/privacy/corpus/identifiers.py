"""Structured identifiers by kind: one generator per country or vendor, checksums and all."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable

import orjson

from bench.privacy.corpus.people import REGIONS, ascii_of, faker_of, person, phone

Generator = Callable[[random.Random], str]
_ALNUM = string.ascii_letters + string.digits
_UPPER = string.ascii_uppercase + string.digits
_LOWER = string.ascii_lowercase + string.digits


def letters(rng: random.Random, count: int, alphabet: str = _ALNUM) -> str:
    """A random run of that many characters with at least one digit in it."""
    found = "".join(rng.choices(alphabet, k=count))
    return found if any(char.isdigit() for char in found) else found[:-1] + "7"


def hexadecimal(rng: random.Random, count: int) -> str:
    """A random run of that many hexadecimal digits."""
    return letters(rng, count, "0123456789abcdef")


def digits(rng: random.Random, count: int) -> str:
    """A number of that many digits, the first not 0."""
    return str(rng.randrange(10 ** (count - 1), 10**count))


# -- cards and accounts ---------------------------------------------------------------------------------------------------

_CARD_PREFIXES = {"4": 16, "51": 16, "55": 16, "2221": 16, "34": 15, "37": 15, "6011": 16, "3528": 16, "30": 14, "6759": 16}


def card(rng: random.Random) -> str:
    """A card number that passes Luhn, in one of the ways it is written."""
    prefix = rng.choice(sorted(_CARD_PREFIXES))
    length = _CARD_PREFIXES[prefix]
    body = prefix + "".join(rng.choices("0123456789", k=length - len(prefix) - 1))
    number = body + _luhn_digit(body)
    separator = rng.choice(("", " ", "-"))
    groups = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    parts, at = [], 0
    for size in groups:
        parts.append(number[at : at + size])
        at += size
    return separator.join(part for part in parts if part)


def _luhn_digit(body: str) -> str:
    total = 0
    for place, char in enumerate(reversed(body)):
        digit = int(char) * (2 if place % 2 == 0 else 1)
        total += digit - 9 if digit > 9 else digit
    return str(-total % 10)


IBAN_SHAPES = {
    "DE": "n18", "FR": "n10c11n2", "GB": "a4n14", "ES": "n20", "IT": "a1n10c12", "NL": "a4n10", "BE": "n12", "CH": "n5c12",
    "AT": "n16", "PL": "n24", "SE": "n20", "NO": "n11", "DK": "n14", "FI": "n14", "PT": "n21", "IE": "a4n14", "CZ": "n20",
    "TR": "n6c16", "SA": "n2c18", "AE": "n19", "BR": "n23a1c1", "GR": "n7c16", "HU": "n24", "RO": "a4c16", "LU": "n3c13",
    "HR": "n17", "LT": "n16", "LV": "a4c13", "EE": "n16", "MT": "a4n5c18", "IL": "n19", "PK": "a4c16", "KW": "a4c22",
}  # fmt: skip


def iban(rng: random.Random) -> str:
    """An IBAN that passes mod 97, compact or in groups of four."""
    country = rng.choice(sorted(IBAN_SHAPES))
    body = ""
    shape = IBAN_SHAPES[country]
    at = 0
    while at < len(shape):
        end = at + 1
        while end < len(shape) and shape[end].isdigit():
            end += 1
        alphabet = {"n": string.digits, "a": string.ascii_uppercase, "c": _UPPER}[shape[at]]
        body += "".join(rng.choices(alphabet, k=int(shape[at + 1 : end])))
        at = end
    number = int("".join(str(int(char, 36)) for char in body + country + "00"))
    whole = f"{country}{98 - number % 97:02d}{body}"
    if rng.random() < 0.5:
        return whole
    return " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))


# -- national ids ---------------------------------------------------------------------------------------------------------

_FAKER_IDS = {
    "US": "en_US", "GB": "en_GB", "CA": "en_CA", "IN": "en_IN", "FR": "fr_FR", "ES": "es_ES", "IT": "it_IT", "PL": "pl_PL",
    "BR": "pt_BR", "SE": "sv_SE", "FI": "fi_FI", "NO": "no_NO", "DK": "dk_DK", "NL": "nl_NL", "BE": "nl_BE", "CH": "de_CH",
    "KR": "ko_KR", "CN": "zh_CN", "TW": "zh_TW", "TR": "tr_TR", "RO": "ro_RO", "CL": "es_CL", "MX": "es_MX", "HU": "hu_HU",
    "CZ": "cs_CZ", "IL": "he_IL", "EE": "et_EE", "HR": "hr_HR", "BG": "bg_BG", "AT": "de_AT",
}  # fmt: skip
_FAKER_METHODS = {"IN": "aadhaar_id", "ES": "nif", "CL": "person_rut", "CZ": "birth_number"}
_ID_WORDS = {
    "US": "SSN", "GB": "National Insurance number", "CA": "SIN", "IN": "Aadhaar", "FR": "numéro de sécurité sociale",
    "ES": "NIF", "IT": "codice fiscale", "PL": "PESEL", "BR": "CPF", "SE": "personnummer", "FI": "henkilötunnus",
    "NO": "fødselsnummer", "DK": "CPR", "NL": "BSN", "BE": "rijksregisternummer", "CH": "AHV", "KR": "RRN",
    "CN": "resident identity card", "TW": "national ID", "TR": "TC kimlik", "RO": "CNP", "CL": "RUT",
    "MX": "social security",
    "HU": "TAJ", "CZ": "rodné číslo", "IL": "teudat zehut", "EE": "isikukood", "HR": "OIB", "BG": "EGN", "AT": "SVNR",
    "GB_NHS": "NHS number", "ZA": "South African ID", "SG": "NRIC", "DE": "Steuer-ID", "AU": "TFN", "IN_PAN": "PAN",
    "PASSPORT": "passport", "MX_CURP": "CURP", "ES_NIE": "NIE",
}  # fmt: skip


def _nhs(rng: random.Random) -> str:
    while True:
        body = digits(rng, 9)
        check = 11 - sum(int(char) * (10 - place) for place, char in enumerate(body)) % 11
        if check != 10:
            number = body + str(check % 11)
            return f"{number[:3]} {number[3:6]} {number[6:]}"


def _south_african(rng: random.Random) -> str:
    born = f"{rng.randrange(50, 99)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    body = f"{born}{rng.randrange(10_000):04d}08"
    return body + _luhn_digit(body)


def _singapore(rng: random.Random) -> str:
    body = digits(rng, 7)
    total = sum(int(char) * weight for char, weight in zip(body, (2, 7, 6, 5, 4, 3, 2), strict=True))
    return f"S{body}{'JZIHGFEDCBA'[total % 11]}"


def _german_tax(rng: random.Random) -> str:
    body = digits(rng, 10)
    product = 10
    for char in body:
        total = (int(char) + product) % 10 or 10
        product = total * 2 % 11
    number = body + str((11 - product) % 10)
    return f"{number[:2]} {number[2:5]} {number[5:8]} {number[8:]}"


def _australian(rng: random.Random) -> str:
    while True:
        body = digits(rng, 9)
        if sum(int(char) * weight for char, weight in zip(body, (1, 4, 3, 7, 5, 8, 6, 9, 10), strict=True)) % 11 == 0:
            return f"{body[:3]} {body[3:6]} {body[6:]}"


def _pan(rng: random.Random) -> str:
    upper = string.ascii_uppercase
    return f"{''.join(rng.choices(upper, k=3))}P{rng.choice(upper)}{rng.randrange(1000, 9999)}{rng.choice(upper)}"


def _passport(rng: random.Random) -> str:
    upper = string.ascii_uppercase
    return rng.choice(
        (
            f"{rng.choice(upper)}{digits(rng, 8)}",
            digits(rng, 9),
            f"{''.join(rng.choices(upper, k=2))}{digits(rng, 7)}",
            f"C{rng.randrange(10)}{letters(rng, 7, 'CFGHJKLMNPRTVWXYZ0123456789')}",
        )
    )


def _curp(rng: random.Random) -> str:
    upper = string.ascii_uppercase
    born = f"{rng.randrange(50, 99)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    head, consonants = "".join(rng.choices(upper, k=4)), "".join(rng.choices("BCDFGLMNRST", k=3))
    return f"{head}{born}{rng.choice('HM')}DF{consonants}0{rng.randrange(10)}"


def _nie(rng: random.Random) -> str:
    body = digits(rng, 7)
    return f"X{body}{'TRWAGMYFPDXBNJZSQVHLCKE'[int('0' + body) % 23]}"


_OWN_IDS: dict[str, Generator] = {
    "GB_NHS": _nhs, "ZA": _south_african, "SG": _singapore, "DE": _german_tax, "AU": _australian, "IN_PAN": _pan,
    "PASSPORT": _passport, "MX_CURP": _curp, "ES_NIE": _nie,
}  # fmt: skip


def national_id(rng: random.Random) -> tuple[str, str]:
    """A national id, and what its country calls it."""
    country = rng.choice(sorted([*_FAKER_IDS, *_OWN_IDS]))
    if country in _OWN_IDS:
        return _OWN_IDS[country](rng), _ID_WORDS[country]
    faker = faker_of(_FAKER_IDS[country])
    faker.seed_instance(rng.getrandbits(32))
    make = getattr(faker, _FAKER_METHODS.get(country, "ssn"))
    return str(make()), _ID_WORDS[country]


# -- secrets --------------------------------------------------------------------------------------------------------------

SECRETS: dict[str, Generator] = {
    "aws_access_key": lambda r: rng_choice(r, "AKIA", "ASIA") + letters(r, 16, string.ascii_uppercase + "234567"),
    "aws_secret": lambda r: letters(r, 40, _ALNUM + "/+"),
    "github": lambda r: rng_choice(r, "ghp_", "gho_", "ghs_", "ghu_") + letters(r, 36),
    "github_fine": lambda r: f"github_pat_{letters(r, 22)}_{letters(r, 59)}",
    "gitlab": lambda r: "glpat-" + letters(r, 20),
    "slack": lambda r: f"xoxb-{digits(r, 12)}-{digits(r, 12)}-{letters(r, 24)}",
    "slack_hook": lambda r: (
        f"https://hooks.slack.com/services/T{letters(r, 8, _UPPER)}/B{letters(r, 8, _UPPER)}/{letters(r, 24)}"
    ),
    "stripe": lambda r: rng_choice(r, "sk_live_", "rk_live_", "sk_test_") + letters(r, 24),
    "stripe_hook": lambda r: "whsec_" + letters(r, 32),
    "openai": lambda r: rng_choice(r, "sk-", "sk-proj-") + letters(r, 48),
    "anthropic": lambda r: f"sk-ant-api03-{letters(r, 48)}-{letters(r, 40)}AA",
    "google_api": lambda r: "AIza" + letters(r, 35, _ALNUM + "_-"),
    "google_oauth": lambda r: "ya29." + letters(r, 60, _ALNUM + "_-"),
    "google_client": lambda r: "GOCSPX-" + letters(r, 28),
    "sendgrid": lambda r: f"SG.{letters(r, 22)}.{letters(r, 43)}",
    "twilio": lambda r: rng_choice(r, "SK", "AC") + hexadecimal(r, 32),
    "mailgun": lambda r: "key-" + hexadecimal(r, 32),
    "mailchimp": lambda r: hexadecimal(r, 32) + "-us12",
    "huggingface": lambda r: "hf_" + letters(r, 34),
    "npm": lambda r: "npm_" + letters(r, 36),
    "pypi": lambda r: "pypi-AgEIcHlwaS5vcmc" + letters(r, 60),
    "digitalocean": lambda r: "dop_v1_" + hexadecimal(r, 64),
    "doppler": lambda r: "dp.pt." + letters(r, 43),
    "databricks": lambda r: "dapi" + hexadecimal(r, 32),
    "shopify": lambda r: "shpat_" + hexadecimal(r, 32),
    "square": lambda r: "sq0atp-" + letters(r, 22),
    "telegram": lambda r: f"{digits(r, 10)}:AA{letters(r, 33, _ALNUM + '_-')}",
    "discord": lambda r: f"M{letters(r, 23)}.{letters(r, 6)}.{letters(r, 27)}",
    "azure_storage": lambda r: base64.b64encode(r.randbytes(64)).decode(),
    "linear": lambda r: "lin_api_" + letters(r, 40),
    "notion": lambda r: rng_choice(r, "secret_", "ntn_") + letters(r, 43),
    "postman": lambda r: f"PMAK-{hexadecimal(r, 24)}-{hexadecimal(r, 34)}",
    "newrelic": lambda r: "NRAK-" + letters(r, 27, _UPPER),
    "grafana": lambda r: f"glsa_{letters(r, 32)}_{hexadecimal(r, 8)}",
    "atlassian": lambda r: "ATATT3xFfGF0" + letters(r, 60) + "=" + letters(r, 8, "0123456789ABCDEF"),
    "dropbox": lambda r: "sl." + letters(r, 100, _ALNUM + "_-"),
    "figma": lambda r: "figd_" + letters(r, 40),
    "airtable": lambda r: f"pat{letters(r, 14)}.{hexadecimal(r, 64)}",
    "datadog": lambda r: hexadecimal(r, 40),
    "replicate": lambda r: "r8_" + letters(r, 37),
    "groq": lambda r: "gsk_" + letters(r, 52),
    "perplexity": lambda r: "pplx-" + letters(r, 48),
    "pinecone": lambda r: f"pcsk_{letters(r, 6)}_{letters(r, 60)}",
    "langsmith": lambda r: f"lsv2_pt_{hexadecimal(r, 32)}_{hexadecimal(r, 10)}",
    "langfuse": lambda r: (
        f"sk-lf-{hexadecimal(r, 8)}-{hexadecimal(r, 4)}-{hexadecimal(r, 4)}-{hexadecimal(r, 4)}-{hexadecimal(r, 12)}"
    ),
    "vault": lambda r: "hvs." + letters(r, 90, _ALNUM + "_-"),
    "supabase": lambda r: "sbp_" + hexadecimal(r, 40),
    "planetscale": lambda r: "pscale_tkn_" + letters(r, 43),
    "tailscale": lambda r: f"tskey-auth-{letters(r, 12)}-{letters(r, 32)}",
    "age": lambda r: "AGE-SECRET-KEY-1" + letters(r, 58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    "facebook": lambda r: "EAAC" + letters(r, 120),
    "alibaba": lambda r: "LTAI" + letters(r, 20),
    "contentful": lambda r: "CFPAT-" + letters(r, 43),
    "okta": lambda r: "00" + letters(r, 40, _ALNUM + "_-"),
    "sentry_dsn": lambda r: f"https://{hexadecimal(r, 32)}@o{digits(r, 6)}.ingest.sentry.io/{digits(r, 7)}",
    "netlify": lambda r: "nfp_" + letters(r, 36),
    "elevenlabs": lambda r: "sk_" + hexadecimal(r, 48),
    "wandb": lambda r: hexadecimal(r, 40),
}
"""A generator for each vendor's keys, in the format that its documentation shows."""


def rng_choice(rng: random.Random, *options: str) -> str:
    """One of the options."""
    return rng.choice(options)


def secret(rng: random.Random) -> str:
    """A key of one of the vendors."""
    return SECRETS[rng.choice(sorted(SECRETS))](rng)


def jwt(rng: random.Random) -> str:
    """A signed token as identity providers issue it."""
    head = base64.urlsafe_b64encode(orjson.dumps({"alg": "HS256", "typ": "JWT"})).rstrip(b"=")
    body = base64.urlsafe_b64encode(orjson.dumps({"sub": digits(rng, 10), "iat": 1700000000 + rng.randrange(10**7)})).rstrip(
        b"="
    )
    return f"{head.decode()}.{body.decode()}.{letters(rng, 43, _ALNUM + '_-')}"


def private_key(rng: random.Random) -> str:
    """A PEM block, shortened."""
    kind = rng.choice(("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"))
    body = base64.b64encode(rng.randbytes(rng.choice((96, 190, 300)))).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


_PASSWORD_WORDS = ("Sunshine", "dragon", "Monkey", "hunter", "Liverpool", "qwerty", "Welcome")


def password(rng: random.Random) -> str:
    """What people and generators use as passwords."""
    return rng.choice(
        (
            f"{rng.choice(_PASSWORD_WORDS)}{rng.randrange(10, 9999)}{rng.choice('!#$%&*?')}",
            letters(rng, 12, _ALNUM + "!#%*?"),
            f"Tr{rng.randrange(10)}ub{rng.randrange(10)}dor&{rng.randrange(10)}",
            f"{letters(rng, 4)}-{letters(rng, 4)}-{letters(rng, 4)}",
        )
    )


# -- network, places, things ----------------------------------------------------------------------------------------------


def ip(rng: random.Random) -> str:
    """An IPv4 or IPv6 address."""
    if rng.random() < 0.65:
        return f"{rng.randrange(11, 223)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    groups = [f"{rng.randrange(0x1000, 0xFFFF):x}" for _ in range(6)]
    return rng.choice(
        (f"2a02:{':'.join(groups)}:{rng.randrange(1, 0xFFFF):x}", f"2001:db8:{groups[0]}:{groups[1]}::{groups[2]}")
    )


def mac(rng: random.Random) -> str:
    """A hardware address."""
    return rng.choice((":", "-")).join(f"{rng.randrange(256):02x}" for _ in range(6))


def url(rng: random.Random) -> str:
    """A URL with somebody in it: in the query, the path or the credentials."""
    who = person(rng)
    first, last = ascii_of(who.given) or "anon", ascii_of(who.family) or "ymous"
    return rng.choice(
        (
            f"https://shop.example.com/reset?email={who.email.replace('@', '%40')}&token={letters(rng, 20)}",
            f"https://{first}{last}:{letters(rng, 10)}@git.example.org/team/repo.git",
            f"https://www.linkedin.com/in/{first}-{last}-{hexadecimal(rng, 8)}/",
            f"https://calendly.com/{first}-{last}{rng.randrange(100, 999)}/30min",
            f"postgres://{first}:{letters(rng, 12)}@db.internal:5432/crm",
            f"https://files.example.net/u/{first}.{last}/cv.pdf?sig={letters(rng, 24)}",
        )
    )


def wallet(rng: random.Random) -> str:
    """A wallet's address: Bitcoin or Ethereum."""
    base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    return rng.choice(
        (
            "1" + letters(rng, 33, base58),
            "3" + letters(rng, 33, base58),
            "bc1q" + letters(rng, 38, "qpzry9x8gf2tvdw0s3jn54khce6mua7l"),
            "0x" + letters(rng, 40, "0123456789abcdefABCDEF"),
        )
    )


def home_path(rng: random.Random) -> str:
    """A path below somebody's home."""
    who = person(rng)
    user = rng.choice((ascii_of(who.given) + ascii_of(who.family), f"{ascii_of(who.given)}.{ascii_of(who.family)}"))
    file = rng.choice(
        ("Documents/tax-return.xlsx", "projects/agent/main.py", ".ssh/config", "Desktop/notes.md", "venv/lib/x.py")
    )
    back = file.replace("/", "\\")
    return rng.choice((f"/home/{user}/{file}", f"/Users/{user}/{file}", f"C:\\Users\\{user}\\{back}"))


def coordinates(rng: random.Random) -> str:
    """A place on earth, precise to a few metres."""
    lat, lon = rng.uniform(-60, 60), rng.uniform(-170, 170)
    return rng.choice((f"{lat:.5f}, {lon:.5f}", f"{lat:.6f},{lon:.6f}", f"lat {lat:.4f} lon {lon:.4f}"))


_MONTHS = "January February March April May June July August September October November December".split()


def birth_date(rng: random.Random) -> str:
    """A date of birth as people write it."""
    year, month, day = rng.randrange(1935, 2008), rng.randrange(1, 13), rng.randrange(1, 29)
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{day:02d}/{month:02d}/{year}",
            f"{month:02d}/{day:02d}/{year}",
            f"{day}.{month}.{year}",
            f"{day} {_MONTHS[month - 1]} {year}",
            f"{_MONTHS[month - 1]} {day}, {year}",
            f"{_MONTHS[month - 1][:3]} {day}th {year}",
        )
    )


def plate(rng: random.Random) -> str:
    """A vehicle's plate in the form of one of several countries."""
    upper = string.ascii_uppercase

    def run(count: int) -> str:
        return "".join(rng.choices(upper, k=count))

    return rng.choice(
        (
            f"{run(2)}{rng.randrange(10, 70)} {run(3)}",
            f"{rng.choice(('B', 'M', 'HH', 'K'))}-{run(2)} {rng.randrange(100, 9999)}",
            f"{run(2)}-{rng.randrange(100, 999)}-{run(2)}",
            f"{rng.randrange(1, 9)}{run(3)}{rng.randrange(100, 999)}",
            f"{rng.randrange(1000, 9999)} {run(3)}",
            f"{run(3)}-{rng.randrange(1000, 9999)}",
        )
    )


def phone_number(rng: random.Random) -> str:
    """A telephone number of some country."""
    return phone(rng, rng.choice(REGIONS))


def email_address(rng: random.Random) -> str:
    """Somebody's mail address."""
    return person(rng).email


def cookie(rng: random.Random) -> str:
    """A cookie header with a session in it."""
    return f"sessionid={letters(rng, 32, _LOWER)}; csrftoken={letters(rng, 32)}"


def session_id(rng: random.Random) -> str:
    """A session's id."""
    return rng.choice(
        (f"sess_{letters(rng, 20)}", hexadecimal(rng, 32), f"s-{digits(rng, 9)}", f"{letters(rng, 26, _UPPER)}")
    )


def device_id(rng: random.Random) -> str:
    """A phone's IMEI or an advertising id."""
    body = "35" + digits(rng, 12)
    tail = (
        f"{hexadecimal(rng, 8)}-{hexadecimal(rng, 4)}-4{hexadecimal(rng, 3)}-a{hexadecimal(rng, 3)}-{hexadecimal(rng, 12)}"
    )
    return body + _luhn_digit(body) if rng.random() < 0.5 else tail.upper()


KINDS: dict[str, Generator] = {
    "email": email_address,
    "phone": phone_number,
    "card": card,
    "iban": iban,
    "ip": ip,
    "mac": mac,
    "url": url,
    "wallet": wallet,
    "jwt": jwt,
    "secret": secret,
    "private_key": private_key,
    "password": password,
    "home_path": home_path,
    "coordinates": coordinates,
    "birth_date": birth_date,
    "plate": plate,
    "device_id": device_id,
}
"""Every kind with its generator; `national_id` comes with its name and stands apart."""
