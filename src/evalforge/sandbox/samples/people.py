"""The invented people whose data the samples carry, and the facts of their day."""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import ascii_letters

# Invented. Domains and phone numbers are from the ranges reserved for examples; cards are the schemes' test numbers.
_NAMES = (
    "Maria Lopez", "James Whitfield", "Aiko Tanaka", "Kwame Mensah", "Ingrid Solberg", "Rahul Deshpande",
    "Chiara Bianchi", "Tomasz Kowalczyk", "Fatima Al-Sayed", "Luca Moretti", "Emily O'Connor", "Nguyen Thi Lan",
    "Björn Lindqvist", "Zanele Khumalo", "Miguel Santos", "Priya Raghunathan", "Sophie Lefèvre", "Omar Haddad",
    "Katarzyna Nowak", "Daniel Okafor", "Hannah Steinbrück", "Wei Zhang-Porter", "Elif Yıldırım", "Noah Vandenberg",
    "Grace Achterberg", "Pedro Alcântara", "Yuki Moriyama", "Siobhan Gallagher", "Andrei Popescu", "Leila Hosseini",
    "Jonas Rasmussen", "Amara Nwosu", "Isabel Fuentes", "Mateusz Wrona", "Charlotte Beaumont", "Dmitri Volkonsky",
    "Salma Benchekroun", "Oliver Thistlewood", "Mei-Ling Huang", "Gabriel Ferreira",
)  # fmt: skip
_STREETS = (
    "12 Elm Street, Springfield, IL 62704", "48 Rue des Martyrs, 75009 Paris", "Lindenallee 17, 20259 Hamburg",
    "221 Birchwood Avenue, Leeds LS6 2QT", "Calle de Atocha 91, 28012 Madrid", "3-14-5 Shimokitazawa, Tokyo 155-0031",
    "7 Marine Parade, Dún Laoghaire A96 H2K3", "905 Juniper Court, Austin, TX 78704", "Kungsgatan 40, 411 19 Göteborg",
    "66 MG Road, Bengaluru 560001", "Via Garibaldi 23, 16124 Genova", "1830 Laurel Heights, Portland, OR 97214",
)  # fmt: skip
_CARDS = ("4111 1111 1111 1111", "5555 5555 5555 4444", "3782 822463 10005", "4012 8888 8888 1881", "6011000990139424")
_ITEMS = ("Ridgeline shell", "Fjord down jacket", "Talus trekking pants", "Cirrus backpack", "Moraine boots")
_SERVICES = ("checkout", "ledger", "catalog", "notifier", "search-api", "inventory")
_REGIONS = ("eu-west-1", "us-east-2", "ap-southeast-1")
_PLAIN = str.maketrans("öèâûüçéáÉıİ", "oeauuceaEiI")


@dataclass(frozen=True, slots=True)
class Person:
    """One invented person; every field is personal data that must not survive sanitizing."""

    name: str
    email: str
    phone: str
    address: str
    card: str
    user_id: str
    handle: str
    ip: str
    session: str
    token: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every personal string, long enough not to occur by chance."""
        return (
            self.name, self.email, self.phone, self.address, self.card,
            self.user_id, self.handle, self.ip, self.session, self.token,
        )  # fmt: skip


def people(rng: random.Random) -> list[Person]:
    """Return everybody, the same for the same generator."""
    return [_person(rng, number, name) for number, name in enumerate(_NAMES)]


def _person(rng: random.Random, number: int, name: str) -> Person:
    words = name.translate(_PLAIN).lower().replace("'", "").replace("-", "").split()
    first, last = words[0], words[-1]
    return Person(
        name=name,
        email=f"{first}.{last}@{rng.choice(('example.com', 'example.org', 'mail.example.net'))}",
        phone=rng.choice((f"+1 415-555-01{number:02d}", f"+44 20 7946 09{number:02d}", f"(212) 555-01{number:02d}")),
        address=rng.choice(_STREETS),
        card=rng.choice(_CARDS),
        user_id=f"u-{rng.randrange(10**7, 10**8)}",
        handle=f"{first}_{last}{rng.randrange(10, 99)}",
        ip=f"203.0.113.{rng.randrange(1, 255)}" if number % 4 else f"2001:db8:{rng.randrange(4096, 65536):x}::1f",
        session=f"sess-{rng.getrandbits(64):016x}",
        token="eyJhbGciOiJIUzI1NiJ9." + "".join(rng.choices(ascii_letters, k=32)),
    )


def facts_of(rng: random.Random, person: Person) -> dict[str, str]:
    """Return what fills a scenario's placeholders: the person, and invented facts that are nobody's data."""
    service = rng.choice(_SERVICES)
    return {
        "name": person.name,
        "first": person.name.split()[0],
        "email": person.email,
        "phone": person.phone,
        "address": person.address,
        "card": person.card,
        "user_id": person.user_id,
        "handle": person.handle,
        "ip": person.ip,
        "session": person.session,
        "token": person.token,
        "order": f"A-{rng.randrange(1000, 99999)}",
        "amount": f"{rng.randrange(12, 480)}.{rng.choice(('00', '50', '90', '95'))}",
        "item": rng.choice(_ITEMS),
        "days": str(rng.randrange(3, 700)),
        "ticket": str(rng.randrange(1000, 9999)),
        "version": f"4.{rng.randrange(2, 9)}.{rng.randrange(0, 12)}",
        "service": service,
        "region": rng.choice(_REGIONS),
        "pod": f"{service}-{rng.getrandbits(36):09x}-{rng.randrange(10, 99)}x",
        "n": str(rng.randrange(4, 60)),
    }
