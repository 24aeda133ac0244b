"""Postal addresses, lightly: a street with a house number in the orders of several countries, with the postcode and
town that follow."""

from __future__ import annotations

import re

from attune.data.privacy.detectors.base import Found, has_digits, nearest_word

KINDS = ("address",)
PRIORITY = 30

UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞŁŃŇŌŐŒŔŘŚŞŠŤŪŮŰŹŻŽ"
WORD = rf"(?:[{UPPER}][\w'’]{{0,2}}\.|[{UPPER}][\w'’-]{{0,24}}+)"
HOUSE = r"\d{1,5}(?: ?[A-Za-z](?!\w))?(?: ?[/-] ?\d{1,4}(?: ?[a-z](?!\w))?)?"
STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Av|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Way|"
    r"Highway|Hwy|Parkway|Pkwy|Circle|Cir|"
    r"Crescent|Cres|Close|Mews|Trail|Trl|Alley|Plaza|Turnpike|Causeway|Expressway|Freeway|Esplanade|Promenade|Marg|"
    r"Chowk|Nagar|Rue)"
)
SUFFIX = (
    rf"(?:{STREET}|Grove|Gardens?|Row|Loop|Pike|Crossing|Walks?|Greens?|Hills?|Parks?|Ridges?|Bypass|Extensions?|"
    rf"Falls?|Ferry|Fields?|Flats?|Fords?|Forest|"
    r"Forges?|Forks?|Gateway|Glens?|Harbors?|Heights|Hollow|Inlet|Islands?|Isle|Junctions?|Keys?|Knolls?|Lakes?|"
    r"Landing|Lights?|Locks?|Lodge|Mall|Manors?|"
    r"Meadows?|Mills?|Mission|Motorway|Mount|Mountains?|Neck|Orchard|Oval|Overpass|Passage|Path|Pines?|Plains?|"
    r"Points?|Ports?|Prairie|Ramp|Ranch|Rapids?|Rest|"
    r"River|Route|Run|Shoals?|Shores?|Skyway|Springs?|Spurs?|Station|Stream|Summit|Trace|Track|Tunnel|Underpass|"
    r"Unions?|Valleys?|Via|Viaduct|Views?|Villages?|"
    r"Ville|Vista|Wall|Wells?|Bayou|Beach|Bend|Bluffs?|Branch|Bridge|Brooks?|Burgs?|Camp|Canyon|Cape|Centers?|Club|"
    r"Common|Corners?|Course|Coves?|Creek|Crest|"
    r"Curve|Dale|Dam|Divide|Estates?|Zila)"
)
NO_YEAR = r"(?!(?:1[5-9]|20)\d\d(?!\d))"
"""`Spring 1979` is no house number 1979."""
MEANT = re.compile(
    r"(?i)(?:\b(?:address|addressed|live[sd]?|living|resid\w{1,6}|home|house|moved?|located|deliver\w{0,4}|"
    r"ship\w{0,4}|send|sent|mail\w{0,3})\b)"
)
"""Words before, without which a number and a name of a landscape are no address."""
UNIT = r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|No|#)\.? ?[\w-]{1,8}+)"
TOWN = rf"{WORD}(?:[ -](?:am |an der |sur |de |del |la |di )?{WORD}){{0,3}}+"
ZIP = r"\d{5}(?:-\d{4})?(?!\d)"
UK = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}(?!\w)"
PLACE = (
    rf"(?:,? ?\n?(?: ?{TOWN})(?:, ?[A-Z]{{2}}\.?)? (?:{ZIP}|{UK}|[A-Z]{{2}},? {ZIP})"
    rf"|, [A-Z]{{2}} {ZIP}|,? ?\n? ?(?:[A-Z]{{1,2}}-)?\d{{4,5}}(?: [A-Z]{{2}})?(?!\d) {TOWN}|,? ?\n? ?\d{{2}}-\d{{3}} "
    rf"{TOWN}|,? {UK})"
)
SHAPES = (
    re.compile(
        rf"(?<![\w.$€£/-])\d{{1,6}}(?:/\d{{1,4}})?[A-Za-z]?,? (?:[NSEW]\.? |North |South |East |West )?(?:{WORD} "
        rf"){{1,3}}?{SUFFIX}(?!\w)(?: (?:[NSEW]{{1,2}}(?!\w)|North|South|East|West))?{UNIT}?{PLACE}?"
    ),
    re.compile(
        rf"(?<!\w)(?:{WORD}[ -]){{0,3}}?[{UPPER}][\w-]{{1,30}}?(?:[Ss]traße|[Ss]trasse|[Ss]tr\.|[Ww]eg|[Pp]latz|"
        rf"[Aa]llee|[Gg]asse|Ring|ufer|damm|straat|steeg|hof|boulevard|baan|singel|dijk|laan|stigen|torget|plein|"
        rf"gracht|kade|dreef|gatan|vägen|gata|vej|veien|vegen|katu|tie|gade|allé) ?{NO_YEAR}{HOUSE}{PLACE}?(?!\w)"
    ),
    re.compile(
        rf"(?<!\w)(?:Flat|Studio|Apt|Apartment|Unit|Suite) \d{{1,5}}[A-Za-z]?,? (?:\d{{1,5}}[A-Za-z]? )?(?:{WORD} "
        rf"){{1,3}}?{SUFFIX}(?!\w){PLACE}?"
    ),
    re.compile(
        rf"(?<!\w)\d{{1,4}}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|bd|place|chemin|allée|impasse|quai|route|"
        rf"cours|square|passage) (?:(?:de la|de l['’]|des|du|de|d['’]|le|la|les) ?)?{WORD}(?:[ "
        rf"-]{WORD}){{0,3}}+{PLACE}?"
    ),
    re.compile(
        rf"(?<!\w)(?:[Cc]alle|C/|[Aa]venida|[Aa]vda\.?|[Aa]v\.|[Pp]laza|[Pp]aseo|[Pp]asaje|[Rr]onda|[Cc]amino|"
        rf"[Cc]arrera|[Gg]lorieta|[Cc]uesta|[Vv]ial|[Cc]añada|[Rr]ambla|[Vv]ia|[Vv]iale|[Pp]iazza|[Cc]orso|[Vv]icolo|"
        rf"[Ll]argo|[Ss]trada|[Ss]tretto|[Bb]orgo|[Cc]ontrada|[Rr]otonda|[Ii]ncrocio|[Cc]anale|[Rr]ua|[Tt]ravessa|"
        rf"[Aa]lameda|[Pp]raça|[Rr]odovia|[Ll]adeira|Viela|Setor|Fazenda|Vila|Condomínio|Núcleo|Loteamento|Praia|"
        rf"Esplanada|Residencial|Sítio|Morro|Vale|Chácara|Conjunto|Distrito|Jardim|Lagoa|Pátio|Parque|Quadra|Recanto|"
        rf"Trecho|Trevo|Viaduto|Colônia|Campo|[Uu]l\.|[Uu]lica|[Aa]l\.|[Aa]leja|[Pp]l\.|[Pp]lac|C\.|Callejón|Pasadizo|"
        rf"Urbanización|Favela|Vereda|Cañada)"
        rf" ?(?:(?:de la|de los|de las|del|della|dei|delle|dos|das|de|do|da|di) )?{WORD}(?: (?:de |da |do |dos |del "
        rf")?{WORD}){{0,4}}+,? ?(?:n[º°.]? ?|s/n ?)?{NO_YEAR}{HOUSE}(?:, {HOUSE})?(?:{UNIT}|,? (?:Piso|Puerta|Apt\.|"
        rf"Appartamento|Apto|Apt\.|Piano) \w{{1,12}})?{PLACE}?"
    ),
    re.compile(
        r"(?<!\w)(?:P\.? ?O\.? ?Box|Postfach|Boîte [Pp]ostale|B\.P\.|Apartado(?: de [Cc]orreos)?|Casella [Pp]ostale|"
        r"Postbus) \d{1,6}" + f"{PLACE}?"
    ),
)

ROAD = re.compile(rf" {STREET}(?!\w)")


def find(text: str) -> list[Found]:
    if not has_digits(text, 1):
        return []
    found = []
    for shape in SHAPES:
        for match in shape.finditer(text):
            if (
                shape is SHAPES[0]
                and _landscape(match.group())
                and nearest_word(MEANT, text, match.start(), before=32) is None
            ):
                continue
            found.append(Found(match.start(), match.end(), "address", 0.75))
    return found


def _landscape(value: str) -> bool:
    """No word for a street, no postcode, no flat: `5 Union Station`."""
    return ROAD.search(value) is None and len(re.findall(r"\d++", value)) == 1
