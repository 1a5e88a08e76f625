"""Group "spellings": the same values under other spellings of their keys and in other containers."""

from __future__ import annotations

import random
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from bench.privacy.case import Case
from bench.privacy.corpus import identifiers
from bench.privacy.corpus.drafts import Draft
from bench.privacy.corpus.people import Person, faker_of, person, person_of_words

GROUP = "spellings"

_KEYS: dict[str, str] = {
    "email": "userEmail user-email user_email_address emailAddress e_mail E-Mail contactEmail primary_email email2 "
    "emails EMAIL mail mailto replyTo customer_email billing.email usr.email enduser.email recipientEmail cc_email "
    "emailLower",
    "name": "userName user_name full_name fullName firstName displayName customerName contact_name usr.name "
    "account_holder cardholderName patient_name passengerName employee guest_name recipient_name signed_by "
    "nameOnCard shipTo authorName",
    "first_name": "first_name firstName givenName given-name fname forename FirstName",
    "phone": "phoneNumber phone_number mobile mobileNumber tel telephone cell_phone PHONE phone1 contactPhone msisdn "
    "whatsapp callbackNumber homePhone faxNumber phones",
    "address": "shippingAddress shipping_address homeAddress street_address addressLine1 billing-address postalAddress addr "
    "deliveryAddress location_address residence",
    "ip": "ipAddress ip_address remoteAddr clientIp client-ip x-forwarded-for xForwardedFor X-Real-IP source_ip userIp "
    "network.client.ip peer_ip originIp CF-Connecting-IP true-client-ip",
    "session_id": "sessionId session.id sessionID sid session-id SESSION_ID JSESSIONID sess conversationId visitor_session "
    "session_token gen_ai.conversation.id",
    "bearer": "Authorization x-api-key apiKey api_key accessToken access_token authToken auth_header bearerToken id_token "
    "refreshToken X-Auth-Token proxy-authorization clientSecret",
    "password": "password passwd userPassword pwd PASSWORD db_password secret passphrase loginPassword",
    "national_id": "ssn socialSecurityNumber nationalId national_id tax_id passportNumber passport_no driverLicense aadhaar "
    "nino idNumber identityCard",
    "card": "cardNumber card_number creditCard credit-card pan cc_number paymentCard ccNum",
    "iban": "iban IBAN bankAccount bank_account accountNumber payoutIban",
    "birth_date": "dateOfBirth date_of_birth dob birthDate birthday DOB born_on",
    "coordinates": "geo latLng coordinates gps location.coordinates latlon",
    "device_id": "deviceId device_id advertisingId idfa imei gaid androidId",
    "city": "city homeCity billingCity town birthplace shipping_city",
    "handle": "username login userHandle screen_name twitterHandle github_login nickname",
    "mac": "macAddress mac device_mac wifi.mac",
    "plate": "licensePlate plate_number vehicle_registration numberPlate",
}
_WORD_CITIES = (
    "Reading",
    "Nice",
    "Bath",
    "Mobile",
    "Orange",
    "Split",
    "Cork",
    "Hull",
    "Phoenix",
    "Bergen",
    "Ankara",
    "Lagos",
)


def value_of(rng: random.Random, kind: str, who: Person) -> str:
    """A value of that kind, the person's own where they have one."""
    own = {"email": who.email, "name": who.name, "first_name": who.given, "phone": who.phone, "address": who.address}
    if kind in own:
        return own[kind]
    if kind == "national_id":
        return identifiers.national_id(rng)[0]
    if kind == "session_id":
        return identifiers.session_id(rng)
    if kind == "bearer":
        return rng.choice((f"Bearer {identifiers.letters(rng, 36)}", identifiers.secret(rng), identifiers.jwt(rng)))
    if kind == "city":
        return rng.choice(_WORD_CITIES) if rng.random() < 0.5 else _city(rng)
    if kind == "handle":
        return f"{who.given.lower()}_{who.family.lower().replace(' ', '')}{rng.randrange(10, 99)}"
    return identifiers.KINDS[kind](rng)


def _city(rng: random.Random) -> str:
    faker = faker_of(rng.choice(("de_DE", "fr_FR", "it_IT", "pl_PL", "pt_BR", "tr_TR", "nl_NL")))
    faker.seed_instance(rng.getrandbits(32))
    return str(faker.city())


# -- containers -----------------------------------------------------------------------------------------------------------

Pairs = list[tuple[str, str]]


def _flat(pairs: Pairs) -> Any:
    return dict(pairs)


def _name_value(pairs: Pairs) -> Any:
    return [{"name": key, "value": value} for key, value in pairs]


def _key_value(pairs: Pairs) -> Any:
    return [{"key": key, "value": {"stringValue": value}} for key, value in pairs]


def _field_content(pairs: Pairs) -> Any:
    return [{"field": key, "content": value} for key, value in pairs]


def _lists(pairs: Pairs) -> Any:
    return [[key, value] for key, value in pairs]


def _columns(pairs: Pairs) -> Any:
    return {"columns": [key for key, _ in pairs], "rows": [[value for _, value in pairs]]}


def _json(pairs: Pairs) -> Any:
    return orjson.dumps(dict(pairs)).decode()


def _json_in_json(pairs: Pairs) -> Any:
    return orjson.dumps({"body": orjson.dumps(dict(pairs)).decode()}).decode()


def _python_repr(pairs: Pairs) -> Any:
    return repr(dict(pairs))


def _logfmt(pairs: Pairs) -> Any:
    return "level=info " + " ".join(f'{key}="{value}"' for key, value in pairs)


def _query_string(pairs: Pairs) -> Any:
    return urllib.parse.urlencode(pairs)


def _url(pairs: Pairs) -> Any:
    return "https://api.example.com/v1/lookup?" + urllib.parse.urlencode(pairs)


def _header_text(pairs: Pairs) -> Any:
    return "\r\n".join(f"{key}: {value}" for key, value in pairs)


def _xml(pairs: Pairs) -> Any:
    return "<record>" + "".join(f"<{_tag(key)}>{value}</{_tag(key)}>" for key, value in pairs) + "</record>"


def _tag(key: str) -> str:
    return key.replace(" ", "_")


def _csv(pairs: Pairs) -> Any:
    return ",".join(key for key, _ in pairs) + "\n" + ",".join(f'"{value}"' for _, value in pairs)


def _yaml(pairs: Pairs) -> Any:
    return "\n".join(f"{key}: {value}" for key, value in pairs)


def _keys(pairs: Pairs) -> Any:
    return {value: number for number, (_, value) in enumerate(pairs)}


def _values_only(pairs: Pairs) -> Any:
    return [value for _, value in pairs]


def _deep(pairs: Pairs) -> Any:
    found: Any = dict(pairs)
    for level in ("c", "items", "response_body", "a"):
        found = {level: [found]}
    return found


def _tuple_text(pairs: Pairs) -> Any:
    return "; ".join(f"{key}={value}" for key, value in pairs)


CONTAINERS: dict[str, Callable[[Pairs], Any]] = {
    "flat": _flat, "name/value pairs": _name_value, "key/stringValue": _key_value, "field/content": _field_content,
    "lists of pairs": _lists, "columns and rows": _columns, "JSON": _json, "JSON in JSON": _json_in_json,
    "Python repr": _python_repr, "logfmt": _logfmt, "query string": _query_string, "URL": _url, "header text": _header_text,
    "XML": _xml, "CSV": _csv, "YAML": _yaml, "keys": _keys, "values only": _values_only, "deep": _deep,
    "semicolons": _tuple_text,
}  # fmt: skip
_OUTER = (
    "details",
    "context",
    "request",
    "record",
    "raw_event",
    "attributes",
    "state",
    "args",
    "row",
    "params",
    "note",
    "blob",
)


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """So many spans; each carries a handful of kinds in one container at one carrier."""
    containers = sorted(CONTAINERS)
    for number in range(count):
        container = containers[number % len(containers)]
        carrier = rng.choice(("metadata", "metadata", "apm", "tags", "extra", "evaluation value", "tool arguments"))
        who = person_of_words(rng) if rng.random() < 0.15 else person(rng)
        draft = Draft(rng, GROUP, source="apm" if carrier == "apm" else "llm_obs")
        kinds = rng.sample(sorted(_KEYS), k=rng.randrange(2, 6))
        pairs = []
        for kind in kinds:
            key = rng.choice(_KEYS[kind].split())
            value = value_of(rng, kind, who)
            if carrier == "tags":
                draft.tags.append(f"{key}:{draft.plant(kind, value, f'tag {key}', surface=value.lower())}")
            else:
                pairs.append((key, draft.plant(kind, value, f"{carrier} {key}", form=container)))
        if pairs:
            built = CONTAINERS[container](pairs)
            outer = rng.choice(_OUTER)
            if carrier == "metadata":
                if container == "flat" and rng.random() < 0.5:
                    draft.metadata.update(built)
                else:
                    draft.metadata[outer] = built
            elif carrier == "apm":
                draft.custom[outer] = built
            elif carrier == "extra":
                draft.extra[outer] = built
            elif carrier == "evaluation value":
                draft.evaluation["rubric"] = {"eval_metric_type": "json", "value": {outer: built}, "status": "OK"}
            else:
                call = {"name": "lookup", "arguments": {outer: built}, "tool_id": "call_1", "type": "function"}
                draft.output["messages"].append({"role": "assistant", "content": "", "tool_calls": [call]})
        yield draft.case()
