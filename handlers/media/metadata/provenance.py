"""Provenance: what a picture says of who or what made it. Kept where KEEP_PROVENANCE asks for it, in two ways.

A C2PA manifest is signed over the file's very bytes, so any change breaks it: such a file is kept byte for byte, its
other metadata too. The plain statement in XMP (IPTC's "digital source type", the AI system, the credit line) survives
conversion: it is written anew, alone, so that a place or a name beside it does not slip through. Prompts and workflows
in text chunks are no such statement and may be private: they go as all metadata goes.
"""

import html
import re
from pathlib import Path
from typing import Final

STATEMENTS: Final = {
    "DigitalSourceType": "Iptc4xmpExt",
    "AISystemUsed": "Iptc4xmpExt",
    "AISystemVersionUsed": "Iptc4xmpExt",
    "Credit": "photoshop",
}
"""IPTC Photo Metadata Standard 2025.1; `Credit` is where Google writes that its AI made a picture."""
NAMESPACES: Final = {
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}
PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""{}/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
BOX: Final = re.compile(rb"uuid" + re.escape(bytes.fromhex("d8fec3d61b0e483c92975828877ec481")))
MANIFESTS: Final = {
    "image/jpeg": re.compile(rb"\xff\xeb..JP.{10}jumb", re.DOTALL),
    "image/png": re.compile(rb"caBX....jumb", re.DOTALL),
    "image/webp": re.compile(rb"C2PA.{8}jumb", re.DOTALL),
    "image/gif": re.compile(rb"\x21\xff\x0bC2PA_GIF"),
    "image/avif": BOX,
    "image/heic": BOX,
    "image/tiff": re.compile(rb"\x41\xcd[\x01\x07]\x00|\xcd\x41\x00[\x01\x07]"),
}
"""How a C2PA manifest store is embedded (C2PA 2.1, A.3): by format, the mark that begins it."""


def has_manifest(source: Path, content_type: str) -> bool:
    """Tell whether the file carries a C2PA manifest. One too many is found sooner than one too few."""
    content = source.read_bytes()
    mark = MANIFESTS.get(content_type)
    return mark is not None and b"c2pa" in content and mark.search(content) is not None


def statement(xmp: bytes | None) -> bytes | None:
    """Return an XMP packet of the statements alone that `xmp` makes; None where it makes none."""
    text = (xmp or b"").decode("utf-8", "replace")
    found = {name: value for name in STATEMENTS if (value := _value(text, name))}
    if not found:
        return None
    spaces = "".join(f' xmlns:{prefix}="{NAMESPACES[prefix]}"' for prefix in sorted({STATEMENTS[n] for n in found}))
    values = "".join(f' {STATEMENTS[name]}:{name}="{_escaped(value)}"' for name, value in found.items())
    return PACKET.format(spaces + values).encode()


def _escaped(value: str) -> str:
    """Make a text an attribute's; xml.sax.saxutils would do, but loads HTTP and TLS, 5 MB of a codec process."""
    return html.escape(value).translate({9: "&#9;", 10: "&#10;", 13: "&#13;"})


def _value(text: str, name: str) -> str:
    """Find a property as attribute, element or resource, under whatever prefix."""
    value = r"([^\"'<]{1,300})"
    attribute = rf"\w+:{name}\s*=\s*[\"']{value}[\"']"
    element = rf"<\w+:{name}\b[^>]*?(?:resource=[\"']{value}|>{value}<)"
    match = re.search(f"{attribute}|{element}", text)
    return html.unescape(next(filter(None, match.groups()), "")).strip() if match else ""
