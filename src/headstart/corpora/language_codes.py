"""Codes of languages as corpora write them (ISO 639-3, or of two letters) as BCP 47 tags."""

from __future__ import annotations

# BCP 47 takes the code of two letters where a language has one (RFC 5646, 2.2.1).
_SHORT = dict(
    pair.split(":")
    for pair in """
    afr:af amh:am ara:ar asm:as aze:az bel:be ben:bn bos:bs bul:bg cat:ca ces:cs cmn:zh cym:cy dan:da deu:de ell:el
    eng:en est:et eus:eu fas:fa fin:fi fra:fr ful:ff gle:ga glg:gl guj:gu hau:ha heb:he hin:hi hrv:hr hun:hu hye:hy
    ibo:ig ind:id isl:is ita:it jav:jv jpn:ja kan:kn kat:ka kaz:kk khm:km kir:ky kor:ko lao:lo lav:lv lin:ln lit:lt
    ltz:lb lug:lg mal:ml mar:mr mkd:mk mlt:mt mon:mn mri:mi msa:ms mya:my nep:ne nld:nl nob:nb nya:ny oci:oc ori:or
    orm:om pan:pa pol:pl por:pt pus:ps que:qu ron:ro rus:ru slk:sk slv:sl sna:sn snd:sd som:so spa:es srp:sr swa:sw
    swe:sv tam:ta tel:te tgk:tg tgl:tl tha:th tur:tr uig:ug ukr:uk urd:ur uzb:uz vie:vi wol:wo xho:xh yor:yo zho:zh
    zul:zu
    """.split()
)


def bcp47(code: str) -> str:
    """The BCP 47 tag of an ISO 639 code: `eng` is `en`; a code that is not known here stays as it is."""
    return _SHORT.get(code.lower(), code.lower())
