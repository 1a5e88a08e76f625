"""Check digits: whether a number can be a card, an account or a national id.

Each function takes digits (and letters where the scheme has them) without separators. Sources are named at each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1: cards, IMEI, Canadian SIN, Swedish personal numbers."""
    total = 0
    for n, char in enumerate(reversed(digits)):
        value = int(char) * (1 + n % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod_97(iban: str) -> bool:
    """ISO 13616: an IBAN in upper case without spaces."""
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def nhs(digits: str) -> bool:
    """United Kingdom, NHS number: 10 digits, modulus 11."""
    check = 11 - _weighted(digits, range(10, 1, -1)) % 11
    return check % 11 == int(digits[9]) and check != 10


def cpf(digits: str) -> bool:
    """Brazil, CPF: 11 digits, two check digits."""
    if len(set(digits)) == 1:
        return False
    first = _weighted(digits, range(10, 1, -1)) * 10 % 11 % 10
    second = _weighted(digits, range(11, 1, -1)) * 10 % 11 % 10
    return digits[9:] == f"{first}{second}"


def cnpj(digits: str) -> bool:
    """Brazil, CNPJ: 14 digits, two check digits."""
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    first = _weighted(digits[:12], weights[1:]) % 11
    second = _weighted(digits[:13], weights) % 11
    return digits[12:] == f"{0 if first < 2 else 11 - first}{0 if second < 2 else 11 - second}"


_VERHOEFF_TIMES = tuple(
    tuple(
        (a + b) % 5 if a < 5 and b < 5 else 5 + (a + b - 5) % 5 if a < 5 else 5 + (a - b) % 5 if b < 5 else (a - b) % 5
        for b in range(10)
    )
    for a in range(10)
)
_VERHOEFF_TURN = "1576283094"


def verhoeff(digits: str) -> bool:
    """India, Aadhaar: 12 digits, Verhoeff's scheme over the dihedral group of order 10."""
    check = 0
    for n, char in enumerate(reversed(digits)):
        value = int(char)
        for _ in range(n % 8):
            value = int(_VERHOEFF_TURN[value])
        check = _VERHOEFF_TIMES[check][value]
    return check == 0


def nir(digits: str) -> bool:
    """France, NIR: 13 digits and a key of 2, modulus 97."""
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def steuer_id(digits: str) -> bool:
    """Germany, tax identification number: 11 digits, ISO 7064 MOD 11,10."""
    product = 10
    for char in digits[:10]:
        total = (int(char) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10]) and digits[0] != "0"


def bsn(digits: str) -> bool:
    """Netherlands, BSN: 9 digits, the eleven test."""
    return _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pesel(digits: str) -> bool:
    """Poland, PESEL: 11 digits."""
    return _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def tfn(digits: str) -> bool:
    """Australia, tax file number: 9 digits."""
    return _weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def fodselsnummer(digits: str) -> bool:
    """Norway, national identity number: 11 digits, two check digits."""
    return (
        _weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and _weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def south_african(digits: str) -> bool:
    """South Africa, identity number: a date of birth, a sequence, citizenship, and Luhn's check over 13 digits."""
    return luhn(digits) and 1 <= int(digits[2:4]) <= 12 and 1 <= int(digits[4:6]) <= 31 and digits[10] in "012"


def resident_id(digits: str) -> bool:
    """China, resident identity number: 17 digits with a date of birth, ISO 7064 MOD 11-2."""
    weights = tuple(2**n % 11 for n in range(17, 0, -1))
    check = (12 - _weighted(digits[:17], weights) % 11) % 11
    return check == int(digits[17]) and digits[6:8] in ("19", "20") and 1 <= int(digits[10:12]) <= 12


BY_LENGTH: dict[int, tuple[Callable[[str], bool], ...]] = {
    9: (luhn, bsn, tfn),
    10: (nhs, luhn),
    11: (cpf, pesel, steuer_id, fodselsnummer),
    12: (verhoeff,),
    13: (south_african,),
    14: (cnpj,),
    15: (nir, luhn),
    18: (resident_id,),
}
"""The schemes of purely numeric national ids, by number of digits."""


def is_national_id(digits: str) -> bool:
    """Whether digits satisfy one of the numeric schemes."""
    return any(scheme(digits) for scheme in BY_LENGTH.get(len(digits), ()))


_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_DNI = re.compile(r"[XYZ0-9][0-9]{7}[A-Z]")


def dni(value: str) -> bool:
    """Spain, DNI and NIE: 8 digits (or X, Y, Z and 7) and a letter, modulus 23."""
    if _DNI.fullmatch(value) is None:
        return False
    number = value[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return _DNI_LETTERS[int(number) % 23] == value[-1]


_BASE58 = {char: n for n, char in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}


def base58_check(value: str) -> bool:
    """Bitcoin and its relatives: base58 of up to 60 characters whose last 4 bytes are a double SHA-256."""
    number = 0
    for char in value[:60]:
        digit = _BASE58.get(char)
        if digit is None:
            return False
        number = number * 58 + digit
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    raw = b"\0" * (len(value) - len(value.lstrip("1"))) + raw
    return len(raw) > 4 and hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]
