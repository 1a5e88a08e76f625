"""Group "conversations": allow-listed conversations of several turns with tool calls and documents, and people in them."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Any

import orjson

from bench.privacy.case import ALLOWED, Case, Text
from bench.privacy.corpus import identifiers
from bench.privacy.corpus.drafts import Draft
from bench.privacy.corpus.people import Person, person

GROUP = "conversations"

# Turns: role, text. "call" is a tool call (name and arguments), "result" what came back, "document" a retrieved one.
SCRIPTS: dict[str, tuple[tuple[str, Any], ...]] = {
    "refund": (
        ("system", "You are a support agent of an online shop. Be brief and polite."),
        ("user", "Hi, this is {name}. My order never arrived. You can reach me at {email} or {phone}."),
        ("assistant", "Thank you, {given}. Could you tell me the address it was sent to?"),
        ("user", "{address}. I paid with my card {card}."),
        ("call", ("lookup_order", {"email": "{email}", "limit": 5, "include_closed": True})),
        ("result", {"status": "lost", "customer": {"name": "{name}", "phone": "{phone}"}, "items": 2}),
        ("assistant", "I am sorry, {given}. The parcel was lost by the carrier. I will send a replacement to {address}."),
        ("user", "Great, thanks. Please write to {email} when it leaves the warehouse."),
    ),
    "bank": (
        ("user", "Please transfer the deposit to {iban}. The account holder is {name}."),
        ("assistant", "For security I need your date of birth and the last transfer."),
        ("user", "I was born on {birth_date}. The last one went to {other} in March, about the rent."),
        ("call", ("create_transfer", {"iban": "{iban}", "beneficiary": "{name}", "amount": 850, "currency": "EUR"})),
        ("result", {"accepted": False, "reason": "limit exceeded", "contact": "{email}"}),
        ("assistant", "The transfer to {name} was refused because it exceeds the daily limit."),
        ("user", "Then call me on {phone}, please. This is urgent."),
    ),
    "clinic": (
        ("user", "My daughter {given} has had a fever since yesterday and a rash on both arms."),
        ("assistant", "How old is {given}, and does she take any medicine?"),
        ("user", "She was born {birth_date}. Our doctor is Dr. {other_family}. We live at {address}."),
        ("document", "Patient {name}, national id {national_id}, was seen by Dr. {other_family}. No known allergies."),
        ("assistant", "Please contact Dr. {other_family} today. If the fever rises above 39 degrees, go to the hospital."),
        ("user", "ok thank you. my husband {other} will take her there"),
    ),
    "recruiting": (
        ("user", "Summarise the application of {name} in two sentences."),
        ("document", "{name}, {address}, {email}, {phone}. Eight years of experience with distributed systems and Kafka."),
        ("assistant", "{name} has eight years of experience with distributed systems. The candidate is available in May."),
        ("user", "Compare {given} with {other}."),
        ("assistant", "{given} knows Kafka better, while {other} has led larger teams."),
        ("call", ("schedule_interview", {"candidate": "{name}", "email": "{email}", "minutes": 45, "remote": True})),
        ("result", "Interview with {name} scheduled, invitation sent to {email}"),
    ),
    "travel": (
        ("user", "Book a room in Lisbon for {name} and {other} from Friday to Sunday."),
        ("assistant", "Which passport will {other} travel with?"),
        ("user", "The number is {passport}. Invoice to {address} please."),
        ("call", ("book_hotel", {"guests": [{"fullName": "{name}"}, {"fullName": "{other}"}], "nights": 2, "pets": False})),
        ("result", {"confirmed": True, "guestEmail": "{email}", "price": 412.5}),
        ("assistant", "The room is booked. The confirmation went to {email}."),
        ("user", "perfect, tell {other} about the breakfast hours as well"),
    ),
    "coding": (
        ("user", "Why does my script fail? It prints: File \"{home_path}\", line 8, KeyError: 'items'"),
        ("assistant", "The response has no key called items. Print the whole response first."),
        ("user", "Here is my config: api_key={secret} and the host is {ip}"),
        ("assistant", "Please rotate the key {secret} at once, you have just shared it. Then check the firewall for {ip}."),
        ("user", "Oops. The repository belongs to {name} <{email}>, I will tell her."),
        ("call", ("run_command", {"command": "git log --author={email}", "timeout": 30})),
        ("result", "commit by {name}: fix the parser"),
    ),
    "landlord": (
        ("user", "Write a friendly letter to my landlord {other} about the broken heating at {address}."),
        ("assistant", "Dear {other}, the heating in my flat has been broken for a week. Kind regards, {name}"),
        ("user", "Add my number {phone} and mention that {given} is expecting a baby."),
        (
            "assistant",
            "Dear {other}, the heating is still broken and my wife {given} is expecting. Call {phone}. Regards, {name}",
        ),
    ),
    "telecom": (
        ("user", "hello my name is {lower} my internet is down since the storm"),
        ("assistant", "I am sorry to hear that. Which modem do you use, and what is your customer number?"),
        ("user", "its on my bill, the bill goes to {email}. the box says {mac}"),
        (
            "call",
            ("diagnose_line", {"macAddress": "{mac}", "contact": {"name": "{name}", "phone": "{phone}"}, "deep": True}),
        ),
        ("result", {"line": "down", "since_minutes": 340, "technician": "{other}"}),
        ("assistant", "The line is down. A technician, {other}, will visit {address} tomorrow morning."),
        ("user", "ok tell {other_given} to call before"),
    ),
}


def slots(rng: random.Random, who: Person, other: Person) -> dict[str, tuple[str, str]]:
    """Every slot of the scripts: its kind and value."""
    return {
        "name": ("name", who.name),
        "given": ("first_name", who.given),
        "lower": ("name", who.name.lower()),
        "email": ("email", who.email),
        "phone": ("phone", who.phone),
        "address": ("address", who.address),
        "other": ("name", other.name),
        "other_given": ("first_name", other.given),
        "other_family": ("first_name", other.family),
        "card": ("card", identifiers.card(rng)),
        "iban": ("iban", identifiers.iban(rng)),
        "birth_date": ("birth_date", identifiers.birth_date(rng)),
        "national_id": ("national_id", identifiers.national_id(rng)[0]),
        "passport": ("national_id", f"{rng.choice(string.ascii_uppercase)}{identifiers.digits(rng, 8)}"),
        "home_path": ("home_path", identifiers.home_path(rng)),
        "secret": ("secret", identifiers.secret(rng)),
        "ip": ("ip", identifiers.ip(rng)),
        "mac": ("mac", identifiers.mac(rng)),
    }


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """So many conversations, the scripts in turn."""
    names = sorted(SCRIPTS)
    for number in range(count):
        yield _case(rng, names[number % len(names)])


def _case(rng: random.Random, name: str) -> Case:
    draft = Draft(rng, GROUP, profile=ALLOWED)
    values = slots(rng, person(rng), person(rng))
    draft.metadata["user_id"] = "u-100"
    filling = _Filling(draft, values)
    for role, content in SCRIPTS[name]:
        if role == "call":
            tool, arguments = content
            shown: Any = filling.tree(arguments, f"arguments of {tool}")
            shown = orjson.dumps(shown).decode() if rng.random() < 0.3 else shown
            call = {"name": tool, "arguments": shown, "tool_id": f"call_{rng.randrange(100)}", "type": "function"}
            draft.input["messages"].append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif role == "result":
            text = filling.tree(content, "tool result")
            text = text if isinstance(text, str) else orjson.dumps(text).decode()
            result = {"name": "", "result": text, "tool_id": "call_1", "type": "tool_result"}
            draft.input["messages"].append({"role": "tool", "content": "", "tool_results": [result]})
        elif role == "document":
            spelled, harmless = filling.text(content, "document")
            documents = draft.input.setdefault("documents", [])
            draft.texts.append(Text("document", ("input", "documents", len(documents), "text"), harmless))
            documents.append({"text": spelled, "score": 0.83})
        else:
            spelled, harmless = filling.text(content, f"message of {role}")
            draft.message(role, spelled, harmless, kind="conversation")
    spelled, harmless = filling.text(
        "The assistant calls the user {given} although {name} asked for anonymity.", "reasoning"
    )
    draft.reasoning(spelled, harmless)
    return draft.case()


class _Filling:
    """Fills the slots of a script and notes each as planted."""

    def __init__(self, draft: Draft, values: dict[str, tuple[str, str]]) -> None:
        self.draft, self.values = draft, values

    def text(self, template: str, carrier: str) -> tuple[str, str]:
        """The filled text, and its words without what was filled in."""
        spelled, harmless = [], []
        for literal, slot, _, _ in string.Formatter().parse(template):
            spelled.append(literal)
            harmless.append(literal)
            if slot:
                kind, value = self.values[slot]
                spelled.append(self.draft.plant(kind, value, carrier))
                harmless.append(" ")
        return "".join(spelled), "".join(harmless)

    def tree(self, template: Any, carrier: str) -> Any:
        """The same for arguments."""
        if isinstance(template, dict):
            return {key: self.tree(value, carrier) for key, value in template.items()}
        if isinstance(template, list):
            return [self.tree(value, carrier) for value in template]
        return self.text(template, carrier)[0] if isinstance(template, str) else template
