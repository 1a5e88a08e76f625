"""Group "identifiers": structured identifiers by kind in reasoning, error messages and allow-listed messages."""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench.privacy.case import ALLOWED, DEFAULT, Case
from bench.privacy.corpus import identifiers
from bench.privacy.corpus.drafts import Draft, texts

GROUP = "identifiers"

_BARE = (
    "The model repeated {} to the user.",
    "The answer contains {} although the context does not.",
    "Expected no match but found {} in the output.",
    "invalid value {} for parameter",
    "The tool returned {}, which was shown to the customer.",
    "Lookup failed: {} not found",
    "{}",
    "Request rejected ({})",
    "Please use {} from now on, thanks.",
    'it said "{}" and nothing else',
    "unexpected token near {}: aborted",
    "See {} for what was disclosed.",
)
_WITH_CONTEXT: dict[str, tuple[str, ...]] = {
    "email": ("The user can be reached at {}.", "mailto:{}", "User <{}> is not active", "email={} is taken"),
    "phone": ("Call me on {} after six.", "phone: {}", "The caller id was {}", "tel:{} did not answer", "WhatsApp {}"),
    "card": ("payment declined for card {}", "The card number {} was printed in full.", "card={} exp 04/29"),
    "iban": ("Transfer to {} was refused.", "IBAN: {}", "beneficiary account {} is closed"),
    "ip": ("The request came from {}.", "connection from {} refused", "X-Forwarded-For: {}"),
    "mac": ("The device {} was not on the network.", "hwaddr {}"),
    "url": ("The link {} was shown.", "GET {} returned 403", "could not clone {}"),
    "wallet": ("Send the coins to {}.", "wallet {} has no funds"),
    "jwt": ("token {} has expired", "Authorization: Bearer {}", "jwt={}"),
    "secret": ("Incorrect API key provided: {}.", "api_key={}", "The system prompt contains the key {}.", "export TOKEN={}"),
    "private_key": ("The file begins with {}", "could not parse {}"),
    "password": ("password: {}", "My password is {} and it does not work.", "login failed for admin, pwd={}", "passwd='{}'"),
    "home_path": ('File "{}", line 12, in main', "No such file or directory: '{}'", "The agent opened {}"),
    "coordinates": ("The user is at {}.", "location: {}", "geo:{}"),
    "birth_date": ("born on {}", "Date of birth: {}", "The patient was born {}.", "DOB {}"),
    "plate": ("license plate {}", "The car with the registration {} was towed.", "vehicle {}"),
    "device_id": ("IMEI {}", "device id {} is blocked", "advertising id: {}"),
}


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """So many spans with one identifier each, the kinds in turn, half of them with words around that say what it is."""
    around: tuple[str, ...]
    kinds = [*sorted(identifiers.KINDS), "national_id", "secret", "phone", "national_id"]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        if kind == "national_id":
            value, called = identifiers.national_id(rng)
            around = (f"My {called} is {{}}.", f"{called}: {{}}", f"The {called} {{}} belongs to somebody else.")
        else:
            value = identifiers.KINDS[kind](rng)
            around = _WITH_CONTEXT[kind]
        needs_context = kind in ("birth_date", "plate", "password", "device_id")
        template = rng.choice(around if needs_context or rng.random() < 0.5 else _BARE)
        carrier = rng.choice(("reasoning", "error message", "message"))
        draft = Draft(rng, GROUP, profile=ALLOWED if carrier == "message" else DEFAULT)
        sentence = template.replace("{}", draft.plant(kind, value, carrier))
        harmless = template.replace("{}", " ")
        if carrier == "message":
            draft.metadata["user_id"] = "u-100"
            draft.message("user", sentence, harmless)
        elif carrier == "reasoning":
            more = rng.choice(texts("reasoning"))
            draft.reasoning(f"{more} {sentence}", f"{more} {harmless}")
        else:
            draft.error_message(sentence, harmless)
        yield draft.case()
