"""Words, in many languages, that say what the number behind them is."""

from __future__ import annotations

import re

__all__ = ["PHONE", "NUMBERED", "IDENTITY"]

PHONE = re.compile(
    r"(?i)(?:(?<![a-z\[])(?:call(?:s|ed|ing)?|phon(?:e|es|ed)|dial|ring|rang|text(?: me| us| him| her)|tele(?:phone)?|"
    r"tel|ph|mobil[eny]?|mob|cell(?:phone|ular)?"
    r"|fax|whatsapp|signal|telegram|sms|hotline|landline|switchboard|voicemail|reach(?:able|ed)?|contact(?: number)?|"
    r"(?:my|his|her|their|our|whose|work|home|office) (?:new |old )?number"
    r"|callback|call back|helpline|telefon\w{0,8}+|handy(?:nummer)?|mobilnummer|anruf\w{0,3}+|anzurufen|rufen|ruf|"
    r"rufnummer|erreich\w{0,6}+|zurückrufen"
    r"|téléphon\w{0,4}+|portable|appel\w{0,4}+|rappel\w{0,4}+|joindre|joignable|(?:mon|votre|son|sa|leur) numéro(?! de)"
    r"|tel[eé]fono|móvil|celular|llam\w{0,6}+|contact[oa]\w{0,3}+|marcar?|telefone|telem[oó]vel|lig(?:ue|ar|uem)|"
    r"telefoni?c\w{0,4}+"
    r"|cellulare|chiam\w{0,6}+|telefoon\w{0,6}+|bel(?:len|t)?|mobiel|gsm|bereik\w{0,6}+|komórk\w{0,3}+|zadzwo\w{0,4}+|"
    r"dzwo\w{0,4}+|numer"
    r"|ringa?|ringe|puhelin\w{0,6}+|soita\w{0,3}+|numeroon|volejte|volat|zavolejte|ara(?:yın)?|tlf|tfn|tlfn|"
    r"hívj\w{0,4}+)(?![a-z])"
    r"|☎|📞|📱|телефон|тел\.|звон|моб\.|電話|携帯|电话|手机|致电|联系|전화|연락처|휴대|फ़?ोन|मोबाइल|هاتف|جوال|اتصل|טלפון|נייד|τηλ)"
)
NUMBERED = re.compile(
    r"(?i)(?<![a-z])(?:case|claim|order|invoice|docket|policy|tracking|parcel|reference|ref|account|acct|a/c|ticket|"
    r"(?<!on )file|serial|batch|lot|item|part|sku|"
    r"isbn|issn|ean|upc|vin|imei|iccid|tax|vat|ein|licen[cs]e|permit|booking|reservation|transaction|txn|receipt|"
    r"customer|member|patient|record|id|nr|no|number|code|pin|"
    r"sort|routing|iban|card|section|sec|§|o\.?c\.?g\.?a|statute|aktenzeichen|az|bestell\w{0,9}+|rechnung\w{0,9}+|"
    r"kunden\w{0,9}+|auftrag\w{0,9}+|dossier|commande|facture|pedido|factura|"
    r"expediente|ordine|fattura|pratica|zamówieni\w{1,3}+|faktur\w{1,3}+|fatura|encomenda|processo|bestelling|factuur|"
    r"dob|born|date|dated|total|amount|sum|population|version|barcode|sample|job|page|pages|line)(?![a-z])\W{0,4}$"
)
"""Numbers of things: orders, cases, accounts. Ends where the number begins."""
IDENTITY = re.compile(
    r"(?i)(?<!\w)(?:national (?:id|insurance|identity)(?: (?:number|no\.?|card))?|identity (?:card|number)|id "
    r"(?:number|no\.?|card)|passport(?: (?:number|no\.?))?|"
    r"reisepass(?:nummer)?|personalausweis(?:nummer)?|sozialversicherungsnummer|rentenversicherungsnummer|dni|nie|nif|"
    r"nino|codice fiscale|pesel|bsn|burgerservicenummer|"
    r"personnummer|fødselsnummer|cpr(?:-n(?:umme)?r)?|henkilötunnus|rodné číslo|cpf|rut|rg|curp|rfc|niss|cartão de "
    r"cidadão|tfn|tax file number|aadhaa?r|uidai|sin|social insurance|nas|"
    r"medicare(?: (?:number|no\.?))?|numéro de sécurité sociale|sécurité sociale|nir|ahv(?:-n(?:umme)?r)?|driver'?s "
    r"licen[cs]e(?: (?:number|no\.?))?)"
    r"(?![a-z])\.?(?: (?:number|no|nr|is|ist|est|es|è|é))?[.:#]?(?: (?:is|ist|est|es|è|é))?\s{0,2}"
)
"""Names of identity numbers, with what may stand between them and the number."""
