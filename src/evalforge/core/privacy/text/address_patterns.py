"""The patterns of postal addresses, in the styles of many countries, over a text in ASCII (`letters.py`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import re2

from evalforge.core.privacy.text import word_tables as table

_STREETS = (
    "Alley Aly Avenue Ave Bayou Bend Bluff Boulevard Blvd Branch Bridge Brook Brooks Burg Bypass Camp Canyon Cape "
    "Causeway Center Centers Circle Circles Cir Cliff Cliffs Close Common Commons Corner Corners Course Court Courts Ct "
    "Cove Coves Creek Crescent Cres Crest Crossing Crossroad Crossroads Curve Dale Dam Divide Drive Drives Dr Estate "
    "Estates Expressway Expy Extension Extensions Fall Falls Ferry Field Fields Flat Flats Ford Fords Forest Forge "
    "Forges Fork Forks Fort Freeway Fwy Garden Gardens Gate Gateway Glen Glens Green Greens Grove Groves Harbor Harbors "
    "Harbour Haven Heights Hts Highway Hwy Hill Hills Hollow Inlet Island Islands Isle Junction Junctions Key Keys "
    "Knoll Knolls Lake Lakes Land Landing Lane Ln Light Lights Loaf Lock Locks Lodge Loop Mall Manor Manors Meadow "
    "Meadows Mews Mill Mills Mission Motorway Mount Mountain Mountains Neck Orchard Oval Overpass Parade Park Parks "
    "Parkway Parkways Pkwy Pass Passage Path Pike Pine Pines Place Pl Plain Plains Plaza Point Points Port Ports "
    "Prairie Quay Radial Ramp Ranch Rapid Rapids Rest Ridge Ridges Rise River Road Roads Rd Route Row Rue Run Shoal "
    "Shoals Shore Shores Skyway Spring Springs Spur Spurs Square Squares Sq Station Stravenue Stream Street Streets St "
    "Summit Terrace Ter Throughway Trace Track Trafficway Trail Trl Tunnel Turnpike Underpass Union Unions Valley "
    "Valleys Via Viaduct View Views Village Villages Ville Vista Walk Walks Wall Way Ways Well Wells Wharf Yard Nagar "
    "Marg Colony Layout Chowk Bazaar Salai Puram Enclave Vihar Esplanade"
).split()
_PLAIN_STREETS = (
    "Street St Avenue Ave Road Rd Lane Ln Drive Dr Boulevard Blvd Court Ct Terrace Crescent Cres Parkway Pkwy Highway "
    "Hwy Nagar Marg Colony Chowk Vihar Enclave Mews Esplanade Expressway Turnpike Freeway"
).split()
"""Words for streets that stand for little else behind a number; the others count where something else says that it "
"is an address."""
_OTHER_STREETS = sorted(set(_STREETS) - set(_PLAIN_STREETS))
_LOWER_STREETS = (
    "street st avenue ave road rd lane ln drive dr boulevard blvd court ct place pl terrace crescent close way parkway "
    "highway square circle trail nagar marg"
).split()
_SURE_STREETS = (
    "Street Avenue Road Lane Boulevard Crescent Nagar Marg Chowk Mews Parkway Terrace Blvd Ave Rd Esplanade".split()
)
_STATES = (
    "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA "
    "RI SC SD TN TX UT VT VA WA WV WI WY DC PR GU VI AS MP AA AE AP FM MH PW NSW VIC QLD ACT TAS AB BC MB NB NL NS ON "
    "PE QC SK YT SP RJ MG RS"
).split()
_STATE_NAMES = (
    "Alabama Alaska Arizona Arkansas California Colorado Connecticut Delaware Florida Georgia Hawaii Idaho Illinois "
    "Indiana Iowa Kansas Kentucky Louisiana Maine Maryland Massachusetts Michigan Minnesota Mississippi Missouri "
    "Montana Nebraska Nevada Ohio Oklahoma Oregon Pennsylvania Tennessee Texas Utah Vermont Virginia Washington "
    "Wisconsin Wyoming Ontario Quebec Manitoba Alberta Saskatchewan Queensland Victoria Tasmania"
).split()


def _any(words: Iterable[str]) -> str:
    """One of these words, the longest first."""
    return "|".join(sorted(set(words), key=lambda word: (-len(word), word)))


_UNIT = (
    r"(?:(?i:apartments?|apt|suite|ste|unit|flat|floor|fl|room|rm|building|bldg|block|tower|lot|level|wing|house|door|"
    r"plot|villa|wohnung|piso|"
    r"appt|apto|int|interior|bloco|lok|byt|kv|korp)\.?\s?(?:(?i:no)\.?\s?)?#?\s?(?:[0-9]{1,5}[A-Za-z]?|[A-Z])\b|"
    r"#\s?[0-9A-Z]{1,5}\b)"
)
_UNITS = rf"(?:[,\s]{{1,2}}{_UNIT}){{0,2}}"
_NUMBER = r"[0-9]{1,6}(?:\s?[A-Za-z]|\s1/2)?(?:\s?[-/]\s?[0-9]{1,5}[A-Za-z]?|-[A-Z])?"
_WORD = r"[A-Z][A-Za-z'.-]*"
_CAP = rf"(?:{_WORD}|[0-9]{{1,3}}(?:st|nd|rd|th))"
_COMPASS = "North|South|East|West|NE|NW|SE|SW|[NSEW]"
_STATE = rf"(?:{_any([*_STATES, *_STATE_NAMES])}|(?:New|North|South|West|Rhode)\s[A-Z][a-z]{{4,10}})"
_TOWN = rf"{_WORD}(?:\s(?:{_WORD}|of|de|la|del|upon|on|the)){{0,3}}"
_ZIP = r"[0-9]{5}(?:-[0-9]{4})?"
_SMALL = (
    "(?:d'|l'|(?:de la|de los|de las|della|delle|degli|des|del|dei|de|du|da|do|dos|das|di|la|las|le|les|los|el|"
    "y|e|von|van|den|der)\\s)"
)
_ROMANCE = (
    r"(?i:rue|avenue|av\.|avda\.?|avenida|calle|c/|carrera|cra\.?|carrer|plaza|pza\.?|placa|paseo|via|viale|piazza|"
    r"corso|largo|vicolo|rua|"
    r"travessa|alameda|estrada|rodovia|praca|place|boulevard|bd\.?|chemin|impasse|allee|quai|cours|route|camino|"
    r"calzada|calcada|pasaje|ronda|"
    r"ul\.|ulica|ulice|al\.|os\.|aleja|pl\.|jalan|jl\.?|jln\.?|lorong|soi|ulitsa|prospekt|strada|str\.|calea|"
    r"bulevardul|odos|vul\.|vulica|"
    r"pr\.|pr-t|per\.|pereulok|nab\.|sosse|duong|pho)|Am|An der|Auf der|In der|Zum|Zur"
)
_SURE_ROMANCE = (
    r"(?:[Rr]ue|[Cc]alle|[Vv]iale|[Pp]iazza|[Aa]venida|[Aa]vda\.?|[Rr]ua|[Uu]l\.|[Uu]lica|[Pp]r-t|[Jj]alan|"
    r"[Jj]ln?\.|[Pp]laza|[Cc]arrer|[Dd]uong|Via)"
)
_HOUSE = (
    r"[,\s]{0,2}(?:(?i:n\s?o\.?|no\.?|nr\.?|num\.?|n\.|#|d\.|dom|budinok|c\.p\.|"
    r"km)\s?)?[0-9]{1,5}(?:\s?[A-Za-z]\b)?(?:\s?[-/]\s?[0-9]{1,4}[A-Za-z]?)?"
)
_MORE = (
    r"(?:,?\s(?:[0-9]{1,2}\s?o(?:\s?[A-Za-z]{1,4})?\b|(?i:m|lok|kv|korp|piso|apto?|bloco|esc|int|scala|"
    r"bat)\.?\s?[0-9]{1,4}[A-Za-z]?\b|[A-Z]\b))"
)

_NUMBER_FIRST = (
    # number 5, The Larches
    rf"\b[Nn]umber\s[0-9]{{1,4}}[a-z]?,\sThe\s{_WORD}(?:\s{_WORD}){{0,2}}",
    # 742 Evergreen Terrace, Apt 4B, Springfield, OR 97403
    rf"\b(?:(?i:unit|level|shop|suite|block|blk|"
    rf"flat)\s)?{_NUMBER},?\s(?:(?:{_COMPASS})\.?\s)?(?:{_CAP}\s){{1,4}}(?:{_any(_PLAIN_STREETS)})\b\.?(?:\s(?:{_COMPASS})\b\.?)?{_UNITS}",
    rf"\b{_NUMBER}\s(?:Avenue|Highway|Route|Broadway|State Route|County Road|US Highway|Interstate)\b(?:\s(?:[A-Z]\b|"
    rf"[0-9]{{1,4}}))?{_UNITS}",
    # 12 HIGH STREET
    rf"\b{_NUMBER}\s(?:[A-Z][A-Z'.-]+\s){{1,4}}(?:{_any(word.upper() for word in _PLAIN_STREETS)})\b{_UNITS}",
    rf"\b{_NUMBER}\s[A-Z][a-z]+-(?:ro|gil|daero|ku|cho|dong)\b",
    # 12 rue de la Paix
    rf"\b[0-9]{{1,5}}(?:\s?(?:bis|ter|quater|[A-Da-d]))?,?\s(?:{_ROMANCE})\s{_SMALL}?{_WORD}(?:\s{_SMALL}?{_WORD}){{0,4}}",
    # Calle Mayor 5, 3 B; ul. Marszalkowska 10/12
    rf"(?:^|\b)(?:{_ROMANCE})\s?{_SMALL}?{_CAP}(?:\s{_SMALL}?{_CAP}){{0,4}}{_HOUSE}{_MORE}{{0,2}}",
)
_PERHAPS = (
    # 0487 Hull Village Suite 759
    rf"\b(?:(?i:unit|level|shop|suite|block|blk|"
    rf"flat)\s)?{_NUMBER},?\s(?:(?:{_COMPASS})\.?\s)?(?:{_CAP}\s){{1,4}}(?:{_any(_OTHER_STREETS)})\b\.?(?:\s(?:{_COMPASS})\b\.?)?{_UNITS}",
    rf"\b{_NUMBER}\s(?:[A-Z][A-Z'.-]+\s){{1,4}}(?:{_any(map(str.upper, _OTHER_STREETS))})\b{_UNITS}",
)
_TOWN_AND_STATE = (rf"\b{_TOWN},\s(?:{_any(_STATES)})\b",)
_NAME_ONLY = (
    # Baker Street, MG Road
    rf"(?:\b{_WORD}\s){{1,3}}(?:{_any(_SURE_STREETS)})\b(?:[,\s]{{1,2}}(?:No\.?\s?)?[0-9]{{1,4}}[A-Za-z]?\b)?{_UNITS}",
    rf"(?:^|\b){_SURE_ROMANCE}\s{_SMALL}?{_WORD}(?:\s{_SMALL}?{_WORD}){{0,3}}",
    # Shibuya-ku, Gangnam-daero
    r"\b[A-Z][a-z]+-(?:ku|shi|cho|machi|ken|fu|gu|dong|ro|gil|si|daero)\b(?:\s[0-9]{1,4}(?:-[0-9]{1,4})?)?",
    rf"\b{_TOWN},\s(?:{_any(_STATE_NAMES)})\b",
    # corner of 5th and Main
    rf"\b(?i:corner|intersection)\sof\s{_CAP}(?:\s{_WORD})?\s(?:and|&)\s{_CAP}(?:\s{_WORD})?",
)
_CODES = (
    # Salt Lake City, UT 84101
    rf"\b(?:{_TOWN},?\s)?{_STATE},?\s{_ZIP}\b",
    r"\b(?:PSC|CMR|Unit|USNS|USNV|USS|USCGC)\s[A-Za-z0-9]{1,20}(?:,?\s(?:Box|BOX)\s[0-9]{1,6})?,?\s(?:APO|FPO|"
    r"DPO),?\sA[AEP]\s[0-9]{5}\b",
    r"\b(?i:p\.?\s?o\.?\s?box|post office box|postbox|postfach|boite postale|apartado(?: postal| de correos)?|"
    r"casilla(?: postal| de correo)?|"
    r"caixa postal|casella postale|gpo box|locked bag|private bag|skrytka pocztowa|postbus|postboks)\s?(?:#|(?:no|"
    r"nr)\.?)?\s?[0-9]{1,7}\b",
    r"\bBP\s[0-9]{1,6}\b",
    r"\b(?:GIR\s?0AA|[A-PR-UWYZ][A-HJ-Z]?[0-9][0-9A-HJKMNP-Y]?\s?[0-9][ABD-HJLNP-UW-Z]{2})\b",
    r"\b[ABCEGHJ-NPRSTVXY][0-9][A-Z][\s-]?[0-9][A-Z][0-9]\b",
    r"\b(?:[AC-FHKNPRTV-Y][0-9]{2}|D6W)\s[0-9AC-FHKNPRTV-Y]{4}\b",
    r"@\s?[0-9]{3}-[0-9]{4}",
    r"\bCEP:?\s?[0-9]{5}-?[0-9]{3}\b|\b[0-9]{5}-[0-9]{3}\b",
    r"\b(?i:zip(?:\s?code)?|post\s?code|postal\scode|postcode|plz|cap|cp|c\.p\.|pin\s?code|kod pocztowy|psc|eircode|"
    r"code postal|codigo postal)"
    r"\s?(?:is|=|:)?\s?(?:[A-Z]{1,2}-)?[0-9][0-9A-Z]{2,6}(?:[ -][0-9][0-9A-Z]{1,3})?\b",
    # Hauptstrasse 12a; Keizersgracht 123; Storgatan 5
    r"\b[A-Z][A-Za-z-]*(?i:stra(?:ss|s)e|str\.|weg|platz|allee|gasse|ring|damm|ufer|gracht|straat|laan|plein|kade|"
    r"singel|dijk|gatan|vagen|grand|"
    r"torget|gate|gata|veien|vegen|vej|gade|alle|katu|tie|kuja|polku|utca|korut)\s[0-9]{1,4}(?:\s?[a-zA-Z]\b)?",
    r"\b[A-Z][A-Za-z-]*(?:\s[A-Za-z]+)?\s(?:Stra(?:ss|s)e|Str\.|Weg|Platz|Allee|gate|gata|utca|ut|ter|Caddesi|Cad\.|"
    r"Sokak|Sok\.|Sokagi|Mah\.|Mahallesi|Bulvari)"
    r"[,\s]{0,2}(?:No\.?:?\s?)?[0-9]{1,4}(?:/[0-9]{1,4})?(?:\s?[a-zA-Z]\b)?",
    r"\b(?:Flat|Apartment|Apt|Suite|Ste|Plot|Door\sNo|House\sNo|H\.\s?No|D\.No|Villa|Shop\sNo|Flat\sNo|"
    r"Plot\sNo)\.?:?\s?#?\s?[0-9]{1,5}(?:[-/]?[0-9A-Z]{1,4}){0,4}\b",
    r"\b(?:flat|apartment|apt)\.?\s(?:no\.?\s)?#?[0-9]{1,4}[a-zA-Z]?\b",
    r"\b[0-9]{1,2}-[0-9]{1,2}-[0-9]{1,2}\s[A-Z][A-Za-z-]+",
)
_MAX_MEMORY = 64 << 20


_IN_LOWER_CASE = (
    rf"\b[0-9]{{1,5}}[a-z]?\s((?:[nsew]\.?\s)?(?:[a-z0-9'.-]+\s){{1,3}}?)(?:{'|'.join(_LOWER_STREETS)})\b"
    r"(?:[,\s]{1,2}(?:apt|apartment|unit|suite|flat|#)\.?\s?#?[0-9]{1,5}[a-z]?\b)?"
)
_PLACE_WORDS = (
    "Reading|Bath|Nice|Mobile|Orange|Cork|Split|Buffalo|Derby|Sale|Deal|Rugby|Wells|Hull|Flint|Lima|Essen|Male|"
    "Barking|Lead|Bergen|Bury|Sandwich|Battle|Rye|Hove|Poole|Ware|Diss|March|Goole|"
    r"Crook|Settle|Ripley|Stone|Street|Ash|Bend|Independence|Boulder|Providence|Concord|Lancaster|Surprise|Enterprise|"
    r"Troy|Rome|Paradise|Hope|Normal|Golden|Aurora|Salem|Bath"
)
_TOWN_WORD = (
    rf"\b(?:live|lives|lived|living|based|born|moved|from|near|flat|house|home|apartment|city of|town "
    rf"of)\s(?:in\s|to\s|at\s|near\s)?({_PLACE_WORDS})\b(?:[,.!?;\n]|$|\s(?:and|with|for|but))"
)
_LONG_TOWN = (
    r"\b(?:(?:Salt Lake|Oklahoma|Kansas|Quezon|Mexico|Panama|Ho Chi Minh|Jersey|Carson|Iowa|Sioux|Rapid|Dodge|Cape|"
    r"Kuwait|Vatican|New York|"
    r"Guatemala|Belize|Redwood|Union|Park) City|Long Beach|Little Rock|Grand Rapids|Green Bay|Palm Springs|Cape Town|"
    r"Long Island|Virginia Beach|"
    r"Palm Beach|Hot Springs|Cedar Rapids|High Point|Round Rock|Thousand Oaks|Mountain View|Half Moon Bay|Newport "
    r"Beach|Cherry Hill|"
    r"Silver Spring|College Station|Colorado Springs|Sugar Land|Spring Hill|White Plains|Staten Island|Coney Island|"
    r"Hell's Kitchen|Notting Hill|"
    r"Milton Keynes|Miami Beach|Falls Church|Bowling Green|Forest Hills|Walnut Creek|Grand Forks|Twin Falls|Gold "
    r"Coast|Alice Springs)\b"
)
_LEAD = (
    r"(?:^|[\s(\"'])((?:[A-Z]{1,2}-[0-9]{4,5}|[0-9]{3}\s[0-9]{2}|[0-9]{2}-[0-9]{3}|[0-9]{4}-[0-9]{3}|"
    r"[0-9]{4}\s?[A-Z]{2}|[0-9]{1,6}[A-Za-z]?),?\s)$"
)
_FOLLOW = (
    r"[,\s]{1,2}(?:(?i:no|nr|n\.o|n)\.?:?\s?|#\s?|"
    r"d\.\s?)?[0-9]{1,4}(?:\s?[a-zA-Z]\b)?(?:\s?[-/]\s?[0-9]{1,4}[a-zA-Z]?)?(?:$|[\s,.;)\n])"
)
_PREFIX = rf"(?:^|[^A-Za-z])((?:(?:{'|'.join(word.title() for word in sorted(table.PLACE_STARTS))})\.?[ -]){{1,2}})$"
_SUFFIX = (
    r"(?:\s(?:City|Town|Village|County|District|Province|Beach|Heights|Hills|Springs|Falls|Island|Islands|Valley|Park|"
    r"Square|Station|Street|Road|"
    r"Avenue|Lane|Apartments|Towers|Residency|Complex|Society|Nagar|Bazar|Ward|Borough|Bay|Creek|Point|Court|Bridge|"
    r"River|Lake|Hill|Airport|"
    r"Hospital|University|School|College|Inc|Ltd|LLC|Corp|GmbH|Hotel|Bank|Church|Clinic)\b)+"
)
_JOINT = (
    r"[\s,;.]{0,3}|\s?-\s?|,?\s(?:near|opp\.?|opposite|behind)\s|[,\s]{0,2}(?:[A-Z][A-Za-z'.-]*|[0-9]{1,7}(?:-[0-9]{1,4})?)"
    r"(?:,?\s(?:[A-Z][A-Za-z'.-]*|[0-9]{1,7}(?:-[0-9]{1,4})?)){0,5}[,\s]{0,2}"
)
_NEXT = (
    r"(,?\s|-|\s-\s|\s?#|\s/\s)(?:([A-Z][A-Za-z'.-]*[A-Za-z])|"
    r"[A-Z]{0,3}[0-9][0-9A-Z]{0,6}(?:-[0-9]{1,4})?)(?:[\s,.;:!?)\"'}|]|$)"
)
_CALLED = (
    r"(?i:\b(?:at|to|in|on|near|address|addr|live|lives|street|line\s?[12]|location|home|house|residence|shipping|"
    r"billing|delivery|deliver|ship)"
    r"(?:\sis)?[^A-Za-z0-9]{0,4})$"
)
_HOUSE_NAME = (
    r"((?:The\s)?(?:[A-Z][A-Za-z'.-]*\s){0,3}(?:House|Cottage|Court|Lodge|Building|Towers?|Apartments|Farm|Hall|Manor|"
    r"Rectory|Vicarage|Villas?|Mansions?|"
    r"Residence|Barn|Mill|Centre|Center|Plaza|Heights|Residency|Complex|Society|Chambers),\s)$"
)

_CODE_BEHIND = r"(?:\s?,)?\s(?:[A-Z]{2,3},?\s)?[0-9]{4,6}(?:-[0-9]{3,4})?(?:$|[\s,.;:)\"'\n])"
_BEFORE_CODE = (
    r"(?:^|[\s(\"':])((?:(?:(?:[A-Z][A-Za-z'-]*|[A-Z][a-z]{0,3}\.|[0-9]{1,6}(?:[/-][0-9A-Za-z]{1,5})?[A-Za-z]?|"
    r"de|la|del|las|los|el|da|do|di|van|of|upon|on)\s?,?\s){0,12}))$"
)


_GROUPS = (
    _NAME_ONLY,
    (_TOWN_WORD,),
    (_LONG_TOWN,),
    _TOWN_AND_STATE,
    _NUMBER_FIRST,
    _CODES,
    (_IN_LOWER_CASE,),
    _PERHAPS,
)


class Gate:
    """Says in one scan whether a text in ASCII may hold an address, or what another pattern looks for."""

    def __init__(self, other: str) -> None:
        # expressions, not a re2.Set: a set that runs out of memory says that nothing matches
        self._without_digits, self._with_digits = (
            re2.compile(_either((other, *map(_either_text, groups))), _options(captures=False))
            for groups in (_GROUPS[:_NUMBERED], _GROUPS)
        )

    def is_open(self, letters: bytes) -> bool:
        """Whether any of the patterns matches."""
        gate = self._with_digits if has_digit(letters) else self._without_digits
        return gate.search(letters) is not None


class Patterns:
    """The patterns, compiled."""

    def __init__(self) -> None:
        self._groups = [re2.compile(_either(group), _options()) for group in _GROUPS]
        self.lead, self.follow, self.prefix, self.suffix, self.joint, self.next, self.house_name, self.called = (
            re2.compile(pattern.encode("ascii"), _options())
            for pattern in (_LEAD, _FOLLOW, _PREFIX, _SUFFIX, _JOINT, _NEXT, _HOUSE_NAME, _CALLED)
        )

        self.code_behind, self.before_code = (
            re2.compile(pattern.encode("ascii"), _options()) for pattern in (_CODE_BEHIND, _BEFORE_CODE)
        )

    def spans(self, letters: bytes, run_starts: Sequence[int]) -> list[tuple[int, int]]:
        """Where an address may stand, in no order; they may overlap. `run_starts`: where names and unknown words begin."""
        found: list[tuple[int, int]] = []
        for index, group in enumerate(self._groups if has_digit(letters) else self._groups[:_NUMBERED]):
            for match in group.finditer(letters):
                if index == _LOWER and any(word.strip(b".").decode() in _NOT_IN_STREETS for word in match[1].split()):
                    continue
                is_doubtful = index in (_STATED, _DOUBTFUL) and not _touches(match.start(), match.end(), run_starts)
                if is_doubtful and (index == _STATED or not self._is_said_to_be_place(letters, match)):
                    continue
                start, end = match.span(1 if index == _TOWNS else 0)
                found.append(trimmed(letters, start, end))
        return found

    def _is_said_to_be_place(self, letters: bytes, match: Any) -> bool:
        """Whether a word before it (`address:`, `lives at`), or a flat's number in it, says that it is an address."""
        start = match.start()
        return (
            self.called.search(letters[max(0, start - _CALL) : start]) is not None
            or _UNIT_WORDS.search(match[0]) is not None
        )


_UNIT_WORDS = re2.compile(rb"(?i:suite|apt|apartment|unit|flat|floor|#)")
_CALL = 24
"""Characters before an address in which a word may say that it is one."""
_TOWNS, _STATED, _NUMBERED, _LOWER, _DOUBTFUL = 1, 3, 4, 6, 7
"""Places of patterns among all: what is treated apart, and (`_NUMBERED`) the first that needs a digit."""


def _options(*, captures: bool = True) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    options.never_capture = not captures
    return options


def _either_text(patterns: Iterable[str]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def _either(patterns: Iterable[str]) -> bytes:
    return _either_text(patterns).encode("ascii")


@cache
def patterns() -> Patterns:
    """The patterns, made when first needed."""
    return Patterns()


_NOT_IN_STREETS = (table.EVERYDAY - {"north", "south", "west", "east", "long", "king", "hill"}) | frozenset(
    """minutes minute hours hour days miles mile blocks block people cars percent times units points km kilometers meters
    dollars per steps years months weeks items""".split()
)


def _touches(start: int, end: int, run_starts: Sequence[int]) -> bool:
    """Whether a run begins within."""
    at = bisect_left(run_starts, start)
    return at < len(run_starts) and run_starts[at] < end


def has_digit(letters: bytes) -> bool:
    """Whether there is a digit."""
    return len(letters.translate(None, b"0123456789")) != len(letters)


def trimmed(letters: bytes, start: int, end: int) -> tuple[int, int]:
    """Without spaces and commas at either end."""
    while start < end and letters[end - 1 : end] in (b" ", b",", b"\n", b"\t", b"\r"):
        end -= 1
    while start < end and letters[start : start + 1] in (b" ", b",", b"\n", b"\t", b"\r"):
        start += 1
    return start, end
