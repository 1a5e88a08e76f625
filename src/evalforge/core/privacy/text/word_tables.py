"""Words that say whether their neighbour is a name: titles, greetings, verbs of speech, and those that never are names."""

from __future__ import annotations

from evalforge.core.privacy.vocabulary import listed

EVERYDAY = listed(
    """a able about above after again against ago ah all almost along already also although always am among an and another
    any anyone anything are around as ask at away back bad be because been before behind being below best better between
    big both bring but by call came can cannot cause check clear close come could cut day days dear did do does doing done
    down due during each early east either else end enough even ever every everyone everything face far fast feel few find
    fine first fix for found free friend from full get give given go goes going gone good got great had half hand happy
    hard has have having he head hello help her here hers hey hi high him his hold hope hour how i if in into is it its
    just keep key kind know large last late later learn least left less let like line list little live long look lot love
    low made main make man many marry may maybe me mean might mind mine miss more morning most move much must my near need
    never new next nice no none nor north not nothing now of off often oh ok okay old on once one only or order other our
    ours out over own page part pay per please point post price put quick quite ran rate read ready real right run said
    same save saw say says see seem seen sell send set she short should show since sir small so some soon sorry south
    start state stay step still stop such sure take tell than thank thanks that the their them then there these they thing
    think this those through time to today together told tomorrow tonight too took top total toward true try turn under
    until up upon us use used very via visit wait walk want was way we week weeks welcome well went were west what when
    where whether which while who whole why will wish with within without won word words work worse would write wrong year
    years yes yesterday yet you your yours zero"""
)
"""In lower case these are never taken for a name, whoever is called so, but right after `my name is` and its like."""

_SURNAMES_TOO = listed(
    """best big case day dear early face fast fine free friend good hand happy head hey hope hour key kind large late learn
    line little live long loot love low main man marry may mine moss north page part point post price quick read right see
    sell short small south state west will word works work year years"""
)

NEVER_BESIDE = (EVERYDAY - _SURNAMES_TOO) | listed(
    """monday tuesday wednesday thursday friday saturday sunday january february march july september october november
    december inc ltd llc corp gmbh customer support service team sales department account manager director engineer
    president chief officer doctor patient client agent user assistant system human error exception warning api id email
    phone address street road avenue question answer response note subject date order ticket case issue request request
    regards sincerely cheers english american mr mrs ms dr prof"""
)
"""With a capital, and beside a name, these are not part of it."""

TITLES = listed(
    """mr mrs ms mx miss dr prof professor sir madam madame dame lord lady rev reverend father sister brother herr frau señor
    señora señorita senor senora senorita sr sra srta monsieur mme mlle signor signora sheikh shaikh haji ustad captain
    capt sgt sergeant lieutenant lt colonel col major general gen judge justice officer detective inspector nurse doctor
    senator congressman congresswoman governor mayor president minister rabbi imam pastor uncle aunt auntie grandma
    grandpa coach principal attorney atty lic ing dott"""
)
"""What follows with a capital is a name."""

STRICT_TITLES = listed("mr mrs ms mx prof herr frau señor señora mme mlle monsieur signor signora")
"""What follows is a name in any case."""

TITLES_OF_NOBODY = listed(
    """general major sister brother father judge justice minister principal coach officer attorney president governor mayor
    doctor nurse captain colonel sergeant detective inspector professor pastor uncle aunt miss lord lady dame sir madam
    senator don gen sr fr col ing lic"""
)
"""Titles that stand before plain words, too (`General Public License`)."""

GREETINGS = listed(
    """hi hello hey dear hiya howdy greetings thanks thank thx cheers bye goodbye hola bonjour hallo ciao namaste welcome
    sorry ok okay yes no please"""
)

SIGN_OFFS = listed(
    """regards sincerely cheers thanks best love yours truly faithfully warmly cordially respectfully wishes you xoxo
    greetings ta thx gratefully signed"""
)
"""The name of who wrote stands on the line below, or after the comma."""

NOT_SIGNED = listed(
    """the support team sales service customer department management desk center centre company bank insurance staff"""
)

OWNERS = listed(
    """my his her their your our full first last legal real maiden middle given family nick user display birth husband's
    wife's patient's customer's"""
)
"""Before `name`, they say that a person's name follows."""

NOT_NAMED = listed(
    """spelled spelt misspelled wrong missing correct incorrect required invalid empty null undefined listed on not also now
    still different hidden mentioned included unknown unique same printed shown displayed visible changed updated private
    confidential being used known already associated recorded stored public redacted removed important optional blank"""
)
"""After `my name is`, they say something about the name."""

ROLES = listed(
    """patient client customer tenant landlord colleague coworker attn attention wife husband girlfriend boyfriend partner
    boss neighbor neighbour roommate employee manager supervisor teacher caller guest passenger plaintiff defendant
    applicant claimant beneficiary witness nephew niece cousin fiance fiancee cc bcc"""
)
"""A word that is sometimes a name and follows with a capital is one."""

CALLS = listed("named called nicknamed")

SPEECH = listed(
    """said says asked asks wrote writes replied replies told tells called calls texted emailed mentioned mentions wants
    wanted thinks thought claims claimed complained complains requested requests confirmed reported explained insists
    insisted answered responded messaged lives lived works worked likes loves hates moved joined paid ordered bought
    received forgot agreed suggested promised arrived left stated signed visited"""
)
"""What precedes with a capital is a name, where it may be one."""

AFTER_SUBJECT = SPEECH | listed(
    """is was has had and needs needed does doesn't didn't isn't wasn't hasn't can't won't also never just got gets went from
    at"""
)
"""After a word that begins a sentence and is often a name: it is one."""

BEFORE_NAME = listed(
    """ask asked asking tell told telling with met meet meeting hi hello hey dear hiya cc named called nicknamed contact to
    for from by about and or wife husband son daughter brother sister mom dad mother father friend boss manager colleague
    doctor dr cousin aunt uncle neighbor neighbour partner girlfriend boyfriend thanks @ that because if when while did
    does has is was can could would should will know knows saw see visited helping between"""
)
"""Before a word in lower case that is often a name, and a verb of speech or a person's thing after it."""

BEFORE_NAME_SURELY = listed(
    """ask asks tell tells told hi hello hey dear hiya cc named nicknamed wife husband girlfriend boyfriend attn"""
)

ARTICLES = listed(
    """the a an this that these those your our my his her their its each every no any some which what per another"""
)

MONTHS = listed(
    """january february march april may june july august september october november december jan feb mar apr jun jul aug sep
    sept oct nov dec"""
)
DATE_WORDS = listed(
    """in on by of since until till from to last next this early late mid before after during through between and or every
    each until end beginning around"""
)

MODALS = listed("would will could should can cannot may might must shall did does do")
"""Verbs that follow somebody who is named, and no noun after `that` (`promised that Grace would call`)."""

AFTER_INTRODUCTION = listed("from and here calling with at in by writing again speaking i my the a an but aka of")

PARTICLES = listed(
    """van von der den de del della dello di da das dos do du des la le las los el al ad bin ibn bint binti abu abd ter ten
    te zu zum af av y e st mac mc ap ben bar ould wan dela san santa"""
)
PLACE_STARTS = listed(
    """north south east west new lake port fort saint san santa los las mount upper lower great little old el la st san
    puerto nueva nuevo rio monte villa"""
)
"""Before an unknown word with a capital, they belong to a place's name."""

CUES = (
    TITLES
    | GREETINGS
    | SIGN_OFFS
    | ROLES
    | CALLS
    | SPEECH
    | listed("name name's names im i'm am me") - listed("you no yes ok okay please left")
)

NAMES_WHEN_CUED = listed("will may hope long page price day head west")
"""Everyday words that are names after a cue, and with a capital."""

FEELINGS = listed("happy rich sunny merry frank game art glad comfort drew earnest grand")
"""After `I'm` and in lower case, these say how somebody is."""

BEFORE_FULL_NAME = listed(
    """im i'm am to with from by for hi hello hey dear cc ask tell told asked is was name named and about call called met
    thanks"""
)
"""In lower case, two words after one of these may be somebody's full name."""

INTRODUCED = listed("im i'm name's is am hi hello hey dear mr mrs ms dr named called")
"""Who or what is unknown and follows in lower case is a person."""

SURELY_GIVEN = listed(
    """mark nick pat rob robin sue grace rose daisy lily holly heather hazel amber april june may carol jasmine brandy
    crystal amy ruby"""
)
"""After `with`, `from` and `met`, in lower case, they are names."""

AFTER_HYPHEN = listed(
    """led like based style era free run owned built made type in on to of and the own only level wide safe ready aware esque
    ish"""
)
"""Behind a name and a hyphen, they are no part of it."""

LEADING_PARTICLES = PARTICLES - listed("y e do as la las el de le los san santa st ten bar ap av al") - EVERYDAY
"""Particles that begin a surname in lower case: `van Dyck`."""

STOPS_AFTER = frozenset(",.!?;\n)\"'")
CODE_BESIDE = frozenset("_./\\=<>{}[]$@#&*`~^%|(")

GIVEN_TOO = listed(
    """summer autumn winter sky skye olive art river ocean rain storm star stormy crystal sage reed clay cash ace bear fox
    wolf ash rusty sandy windy misty dusty rocky buddy skip chip duke prince princess king queen major justice judge trace
    dale glen bay lake opal pearl amber jewel diamond precious heaven trinity mercy charity temperance verity liberty
    india china america paris london dakota sierra aspen cedar juniper maple clover petal saffron pepper candy cherry
    apple peach clementine lark dove birdie phoenix crane buck colt stone flint slate onyx garnet carter piper sailor scout
    ranger rebel merit sunday love bliss story song melody lyric stern guy barb harley royce tray sandy gene pet else page
    dash jet axel chess denim pace remy rune cove briar haven ridge shade echo dream angelo bella blanche leaf bird barry
    brock brand chip cruise denver drum fable feather field forest frost gage garden gray grey heart ice indigo iron jazz
    judge lark legend light link lotus marble meadow moon oak pine plum poet prairie quill rainbow raven reef rhyme robbie
    rowan rye scotty shadow silver sparrow spring sunset tulip velvet vine water west wilt windsor zen"""
)
"""Ordinary words that are given names, too: before a word that is a surname they make a full name, where more says so."""

BEFORE_GIVEN = listed("greets told tells asked asks promised reminded reminds named called calls cc dear hi hello hey")
"""Before a word with a capital that is a given name, too, they say that somebody is meant: `it promised Skip a callback`."""

SYLLABLES = listed(
    """ah an bae bang beom bin bo bok bong bum byeol byung cha chae chan chang cheol chin cho chong choon chul chun chung da
    dae dam dan deok deuk do doh dong du duk eon eul eum eun eung ga gang geon geum geun gi gil gon gook gu guk gun gwan
    gwang
    gyeong gyo gyu ha hae haeng han hang hee heon heung ho hong hoo hoon hu hui huk hun hwa hwan hwang hwi hye hyeok hyeon
    hyo hyoung hyuk hyun hyung il im in ja jae jang je jee jeok jeong jeum ji jik jin jo jong joo joon ju jum jun jung kang
    ki kil kon kook koo ku kuk kun kwan kwang kwon kyeong kyo kyong kyoung kyu kyun kyung lan mae man mi mil min mo mok moo
    moon mu mun myeong myong myung na nae nam nan oh ok on pil pyo pyung ra rae ran rang ri rim rin ryeong ryul sam san sang
    se so sa ryu seo seok seol seon seong seul seung shik shil shim shin si sik sil sin sol son song soo sook soon su sub
    sug suk sul
    sun sung tae tak teok ui um un ung uk wan wang wol won woo wook woon wu wuk ya yang ye yea yeol yeon yeong yi yo yong yoo
    yook yoon you young yu yul yun yung"""
)
"""Syllables of Korean given names, in the ways they are spelled: two of them and a hyphen are somebody (`So-young`)."""

NOT_SECOND = listed("in on il un ok do so no an man")
"""The second half of English words with a hyphen (`Do-in`, `Son-in`): no name where the first half is plain, too."""

BY_LINES = listed(
    """by from to cc bcc attn dear signed customer patient user client agent contact owner recipient sender assignee reviewer
    author applicant guest tenant caller name account told tell tells ask asks asked with for that is am im i'm this between
    mentions mention met is named called of as greets calls confuses confused hi hello hey thanks and because knows where
    says
    but if when boss husband wife son daughter friend brother sister colleague manager behalf"""
)
"""Before two words that are a given name and a surname, they say that these are a full name."""

AFTER_FULL_NAME = (
    AFTER_SUBJECT
    | AFTER_INTRODUCTION
    | listed(
        """would will could should may might must shall does do did been are were says speaking here about that wants to who
        whose again yesterday today tomorrow on instead before after because for as into is's if of"""
    )
)
"""After two words that are a given name and a surname, they say that these are a full name."""

LABELS = listed(
    """plan part vitamin section option appendix table figure step item exhibit grade group type class category hepatitis
    answer choice question phase level version team room block annex schedule chapter variant model case point clause unit
    building terminal gate series schema test column row letter rule task stage tier zone wing hall size page claim criterion
    turn line branch arm article label key drive set node axis state network bucket candidate response output system"""
)
"""Before a single capital with a full stop, they say that it counts something: `Plan B.`"""

COMMON_NAMES = listed(
    """mark bill rose grant chase frank rich rob sue drew jack nick pat art dean ward carol dawn faith joy bliss chance
    grace hunter cook baker miller weaver turner singer field price page case ford young hill woods rivers banks
    stone king knight bishop"""
)
"""In lower case these name nobody unless they did so in lower case in this trace, or the words beside them say so."""
