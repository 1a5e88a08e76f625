"""Group "prose": people's names and addresses in evaluators' reasoning and error messages."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from bench.privacy.case import Case
from bench.privacy.corpus.drafts import Draft, texts
from bench.privacy.corpus.people import Person, address, native_name, person, person_of_words

GROUP = "prose"

_FULL = (
    "The assistant told {} that the refund was approved, which is wrong.",
    "{} asked for a copy of the contract and received somebody else's.",
    "The answer reveals that the account belongs to {}.",
    "According to the transcript, {} never agreed to the new terms.",
    "The summary confuses {} with another patient.",
    "The user, {}, wanted to cancel the appointment on Monday.",
    "No booking found for {}",
    "customer {} does not exist",
    "Duplicate record: {} is already registered",
    "Meeting with {} could not be scheduled",
    "The reply should have been addressed to {} and not to the whole team.",
    "Response mentions a doctor called {} who is not in the context.",
    "The agent forwarded the complaint from {} to the wrong department.",
    "Unable to deliver message to {}: mailbox full",
    "The model invented a quote by {}.",
    "The email was signed by {}.",
    "Hallucinated employment history for {}: the context only names two employers.",
    "The letter begins with Dear {} although the customer never gave a name.",
    "{}'s appointment was moved without asking.",
    "Assigned the ticket to {} (on holiday until Friday).",
    "Witness statement of {} was quoted verbatim.",
    "permission denied for user {}",
    "Best regards, {}",
    "-- {} | Customer Success",
)
_GIVEN = (
    "The assistant greets the user as {}, but no name was given.",
    "{} asked three times for a human agent.",
    "Hi {}, your parcel is on its way",
    "The answer is polite, yet it calls {} a liar.",
    "The child, {}, is seven years old and has an allergy.",
    "It promised {} a callback within an hour.",
    "my name is {} and i want to complain",
    "thanks {} for the quick help",
    "The user mentions a sister named {}.",
)
_FAMILY = (
    "Mr. {} was charged twice.",
    "Mrs {} asked for the opening hours.",
    "Dr. {} prescribed the medication according to the answer.",
    "Herr {} did not receive the invoice.",
    "The {} family was offered the wrong room.",
    "Ms. {} disputes the charge.",
    "Professor {} was misquoted.",
    "Señora {} wants to change the delivery.",
    "{}-san requested a receipt",
)
_LOWER = (
    "my name is {} and my order is late",
    "i am {} from the second floor",
    "please tell {} that the meeting is cancelled",
    "user {} could not be found",
    "this is {} speaking, i need help with my bill",
    "ask {} about it",
    "the ticket was opened by {} yesterday",
)
_ADDRESSES = (
    "The parcel was sent to {} instead of the new address.",
    "The answer shows the home address {} to a stranger.",
    "Delivery to {} failed: nobody was at home",
    "Address not valid: {}",
    "I live at {} and need a technician.",
    "ship to: {}",
    "The user moved from {} last month.",
)


def _full(who: Person) -> list[tuple[str, str]]:
    return [("name", who.name)]


def _given(who: Person) -> list[tuple[str, str]]:
    return [("first_name", who.given)]


def _family(who: Person) -> list[tuple[str, str]]:
    return [("first_name", who.family)]


def _initial(who: Person) -> list[tuple[str, str]]:
    return [("name", f"{who.given[0]}. {who.family}")]


def _reversed(who: Person) -> list[tuple[str, str]]:
    return [("name", f"{who.family}, {who.given}")]


def _upper(who: Person) -> list[tuple[str, str]]:
    return [("name", who.name.upper())]


def _lower(who: Person) -> list[tuple[str, str]]:
    return [("name", who.name.lower())]


def _middle(who: Person) -> list[tuple[str, str]]:
    return [("name", f"{who.given} {who.family[0]}. {who.family}")]


def _both(who: Person) -> list[tuple[str, str]]:
    return [("name", who.name), ("first_name", who.given)]


STYLES: dict[str, tuple[tuple[str, ...], Callable[[Person], list[tuple[str, str]]]]] = {
    "full": (_FULL, _full),
    "given": (_GIVEN, _given),
    "titled family": (_FAMILY, _family),
    "initial": (_FULL, _initial),
    "family, given": (_FULL, _reversed),
    "capitals": (_FULL, _upper),
    "lower case": (_LOWER, _lower),
    "middle initial": (_FULL, _middle),
}


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """So many spans; one in six has an address, one in ten a name made of words, one in twenty a name in its own script."""
    styles = sorted(STYLES)
    for number in range(count):
        draft = Draft(rng, GROUP)
        roll = rng.random()
        if roll < 0.16:
            template, value, kind, form = rng.choice(_ADDRESSES), address(rng), "address", "address"
        elif roll < 0.20:
            template, value, kind, form = rng.choice(_ADDRESSES), address(rng, latin=False), "address", "address, own script"
        elif roll < 0.25:
            template, value, kind, form = rng.choice(_FULL), native_name(rng), "name", "own script"
        else:
            form = styles[number % len(styles)]
            templates, spell = STYLES[form]
            template = rng.choice(templates)
            of_words = roll < 0.35
            who = person_of_words(rng) if of_words else person(rng)
            if (form in ("titled family", "given") and of_words) or of_words:
                form = f"{form}, of words"
            kind, value = spell(who)[0]
        carrier = rng.choice(("reasoning", "reasoning", "error message"))
        sentence, harmless = (
            template.replace("{}", draft.plant(kind, value, carrier, form=form)),
            template.replace("{}", " "),
        )
        if carrier == "reasoning":
            before, after = rng.choice(texts("reasoning")), rng.choice(texts("reasoning"))
            if form == "lower case":
                sentence, before, after = sentence, before.lower(), after.lower()
            draft.reasoning(f"{before} {sentence} {after}", f"{before} {harmless} {after}")
        else:
            draft.error_message(sentence, harmless)
        yield draft.case()
