"""Group "specified": what the specification names, in tags, metadata at any depth, APM attributes, inputs and outputs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from bench.privacy.case import Case
from bench.privacy.corpus import identifiers
from bench.privacy.corpus.drafts import Draft
from bench.privacy.corpus.people import Person, person, person_of_words

GROUP = "specified"


def values_of(rng: random.Random, who: Person) -> list[tuple[str, str, str]]:
    """Each key that the specification names, with the kind and a value."""
    return [
        ("user.email", "email", who.email),
        ("user.name", "name", who.name),
        ("user.phone", "phone", who.phone),
        ("user.address", "address", who.address),
        ("user.ip", "ip", identifiers.ip(rng)),
        ("client.ip", "ip", identifiers.ip(rng)),
        ("session_id", "session_id", identifiers.session_id(rng)),
        ("authorization", "bearer", f"Bearer {identifiers.letters(rng, 40)}"),
        ("cookie", "cookie", identifiers.cookie(rng)),
        ("set-cookie", "cookie", identifiers.cookie(rng) + "; HttpOnly"),
        ("user.nickname", "handle", f"{who.given.lower()}{rng.randrange(1000, 9999)}"),
        ("pii:email", "email", identifiers.email_address(rng)),
        ("pii:name", "name", person(rng).name),
        ("pii.ssn", "national_id", identifiers.national_id(rng)[0]),
    ]


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """So many spans; each carries every named key in one carrier."""
    carriers = ("tags", "metadata", "nested metadata", "apm", "apm nested", "apm tags", "texts", "headers")
    for number in range(count):
        who = person_of_words(rng) if rng.random() < 0.15 else person(rng)
        carrier = carriers[number % len(carriers)]
        draft = Draft(rng, GROUP, source="apm" if carrier.startswith("apm") else "llm_obs")
        _fill(draft, carrier, who, values_of(rng, who))
        yield draft.case()


def _fill(draft: Draft, carrier: str, who: Person, values: list[tuple[str, str, str]]) -> None:
    rng = draft.rng
    if carrier in ("tags", "apm tags"):
        lower = rng.random() < 0.5  # Datadog lower-cases tag values
        for key, kind, value in values:
            spelled = value.lower() if lower else value
            draft.tags.append(f"{key}:{draft.plant(kind, value, f'{carrier} {key}', surface=spelled)}")
        draft.tags.append(f"user.id:{who.user_id}")
        draft.user_id = who.user_id
        draft.plant("user_id", who.user_id, f"{carrier} user.id")
    elif carrier == "metadata":
        for key, kind, value in values:
            draft.metadata[key] = draft.plant(kind, value, f"{carrier} {key}")
        draft.metadata["user_id"] = draft.plant("user_id", who.user_id, "metadata user_id")
        draft.user_id = who.user_id
    elif carrier in ("nested metadata", "apm nested", "apm"):
        target: dict[str, Any] = draft.metadata if carrier == "nested metadata" else draft.custom
        if carrier == "nested metadata":
            for level in rng.sample(("request", "context", "call", "details", "event", "payload"), k=rng.randrange(1, 5)):
                target = target.setdefault(level, {})
        for key, kind, value in values:
            parts = key.replace(":", ".").split(".") if carrier != "apm" else [key]
            _put(target, parts, draft.plant(kind, value, f"{carrier} {key}"))
        if carrier.startswith("apm"):
            draft.custom.setdefault("http", {})["client_ip"] = draft.plant("ip", identifiers.ip(rng), "apm http.client_ip")
            draft.custom["usr"] = {
                "id": draft.plant("user_id", who.user_id, "apm usr.id"),
                "email": draft.plant("email", who.email, "apm usr.email"),
                "name": draft.plant("name", who.name, "apm usr.name"),
            }
            draft.user_id = who.user_id
    elif carrier == "headers":
        headers = {key: value for key, _, value in values if "." not in key and ":" not in key}
        kinds = {key: kind for key, kind, _ in values}
        shaped = {_header(rng, key): draft.plant(kinds[key], value, f"headers {key}") for key, value in headers.items()}
        draft.metadata[rng.choice(("headers", "request_headers", "http.request.headers"))] = shaped
    else:
        for key, kind, value in values:
            spelled = draft.plant(kind, value, "input")
            draft.message("user", f"My {key.replace('.', ' ').replace(':', ' ')} is {spelled}.", "")
        draft.output["value"] = f"Thank you {draft.plant('name', who.name, 'output')}, we will write to {who.email}."
        draft.extra["prompt"] = {"variables": {"question": f"I am {who.name}"}, "template": "Answer {{question}}"}
        draft.extra["response"] = f"Sent to {who.address}"
        draft.plant("address", who.address, "response")


def _put(target: dict[str, Any], parts: list[str], value: str) -> None:
    for part in parts[:-1]:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            target[".".join(parts)] = value
            return
        target = inner
    target[parts[-1]] = value


def _header(rng: random.Random, key: str) -> str:
    return rng.choice((key, key.title(), key.upper(), f"http.request.header.{key}", key.replace("-", "_")))
