"""People: their names, addresses and contact details, in many cultures, from a seeded source of randomness."""

from __future__ import annotations

import random
import re
import unicodedata
import uuid
from dataclasses import dataclass
from functools import cache

import phonenumbers
from faker import Faker

from bench.privacy.corpus.cultures import DICTIONARY_NAMES, FAMILY, GIVEN

LOCALES = (
    "en_US en_GB en_IN en_AU en_CA en_IE en_NZ de_DE de_AT de_CH fr_FR fr_CA es_ES es_MX es_CO es_AR it_IT pt_BR "
    "pt_PT nl_NL "
    "nl_BE sv_SE no_NO da_DK fi_FI pl_PL cs_CZ sk_SK hu_HU ro_RO hr_HR sl_SI tr_TR az_AZ id_ID fil_PH vi_VN ru_RU uk_UA "
    "bg_BG el_GR ja_JP zh_CN ko_KR hi_IN ar_SA fa_IR he_IL th_TH"
).split()
"""Faker's locales whose names and addresses are used; the last dozen are in their own scripts."""

LATIN = tuple(LOCALES[: LOCALES.index("ru_RU")])
NATIVE = tuple(LOCALES[LOCALES.index("ru_RU") :])
REGIONS = (
    "US GB CA AU NZ IE IN PK BD LK NG KE ZA GH EG MA SA AE IL TR DE AT CH FR BE NL ES PT IT SE NO DK FI PL CZ HU "
    "RO GR UA RU JP "
    "KR CN HK TW TH VN PH ID MY SG BR MX AR CL CO PE"
).split()


@cache
def faker_of(locale: str) -> Faker:
    """Faker for one locale; it is seeded anew before each use."""
    return Faker(locale)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody invented. `culture` is a row of `cultures` or a locale of Faker."""

    culture: str
    given: str
    family: str
    email: str
    phone: str
    region: str
    address: str
    user_id: str

    @property
    def name(self) -> str:
        """Given and family name."""
        return f"{self.given} {self.family}"


def ascii_of(text: str) -> str:
    """Latin letters without their marks, lower case, nothing else."""
    table = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ı": "i", "þ": "th", "ð": "d", "ß": "ss", "æ": "ae"})
    folded = unicodedata.normalize("NFKD", text.lower().translate(table))
    return re.sub("[^a-z]", "", folded)


def person(rng: random.Random) -> Person:
    """Somebody whose name is written in Latin letters."""
    if rng.random() < 0.6:
        culture = rng.choice(sorted(GIVEN))
        given, family = rng.choice(GIVEN[culture]), rng.choice(FAMILY[culture])
    else:
        culture = rng.choice(LATIN)
        faker = faker_of(culture)
        faker.seed_instance(rng.getrandbits(32))
        given, family = faker.first_name(), faker.last_name()
    return _person(rng, culture, given, family)


def person_of_words(rng: random.Random) -> Person:
    """Somebody whose name is made of ordinary English words."""
    given, family = rng.choice(DICTIONARY_NAMES).split()
    return _person(rng, "dictionary", given, family)


def native_name(rng: random.Random) -> str:
    """A full name in its own script."""
    faker = faker_of(rng.choice(NATIVE))
    faker.seed_instance(rng.getrandbits(32))
    name: str = faker.name()
    return name


def _person(rng: random.Random, culture: str, given: str, family: str) -> Person:
    region = rng.choice(REGIONS)
    return Person(culture, given, family, email(rng, given, family), phone(rng, region), region, address(rng), user_id(rng))


def email(rng: random.Random, given: str, family: str) -> str:
    """A mail address as people make them from their names."""
    first, last = ascii_of(given) or "info1", ascii_of(family) or "kontakt"
    local = rng.choice(
        (
            f"{first}.{last}",
            f"{first}_{last}",
            f"{first[0]}{last}",
            f"{first}{rng.randrange(10, 99)}",
            f"{last}.{first[0]}",
            f"{first}.{last}+news",
            f"{first}-{last}{rng.randrange(1950, 2010)}",
        )
    )
    domain = rng.choice(
        (
            "gmail.com",
            "outlook.com",
            "yahoo.co.uk",
            "web.de",
            "orange.fr",
            "mail.ru",
            "qq.com",
            "icloud.com",
            "proton.me",
            "libero.it",
            "naver.com",
            "bigpond.net.au",
            "uol.com.br",
            "wp.pl",
            "example.com",
            "example.co.jp",
            f"{last}.dev",
            f"{last}-family.org",
            "med.uni-example.edu",
            "acme.museum",
        )
    )
    return f"{local}@{domain}"


def user_id(rng: random.Random) -> str:
    """An application's id of a user."""
    return rng.choice(
        (
            f"u-{rng.randrange(1000, 99999)}",
            f"usr_{rng.getrandbits(48):012x}",
            str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            f"auth0|{rng.getrandbits(96):024x}",
            str(rng.randrange(10**6, 10**9)),
        )
    )


def phone(rng: random.Random, region: str) -> str:
    """A valid number of that region in one of the ways people write it."""
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    example = example or phonenumbers.example_number(region)
    assert example is not None
    digits = str(example.national_number)
    number = example
    for _ in range(60):
        changed = digits[:-5] + "".join(rng.choices("0123456789", k=5))
        candidate = phonenumbers.PhoneNumber(
            country_code=example.country_code,
            national_number=int(changed),
            italian_leading_zero=example.italian_leading_zero,
        )
        if phonenumbers.is_valid_number(candidate):
            number = candidate
            break
    style = rng.randrange(6)
    formats = phonenumbers.PhoneNumberFormat
    form = {0: formats.E164, 1: formats.NATIONAL}.get(style, formats.INTERNATIONAL)
    written: str = phonenumbers.format_number(number, form)
    if style == 2:
        return written.replace(" ", ".")
    if style == 3:
        return written.replace("+", "00", 1)
    return written.replace(" ", "-") if style == 5 else written


def address(rng: random.Random, *, latin: bool = True) -> str:
    """A postal address on one line."""
    faker = faker_of(rng.choice(LATIN if latin else NATIVE))
    faker.seed_instance(rng.getrandbits(32))
    lines: str = faker.address()
    return ", ".join(line.strip() for line in lines.splitlines() if line.strip())
