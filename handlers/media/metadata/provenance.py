"""Provenance: statements in a file about who or what made it. KEEP_PROVENANCE keeps two kinds.

A C2PA manifest signs the bytes of the file, and any change breaks it. Such a file is stored unchanged, with its other
metadata. Plain statements in XMP (IPTC's "digital source type", the AI system, the credit line) are written to
a new packet, without the places and names that the old one may contain. Prompts and workflows in text chunks are not
such statements and may be private; they are removed like all metadata.
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
"""XMP properties, and the prefix of the namespace of each (IPTC Photo Metadata Standard 2025.1). Google writes to
`Credit` that its AI made a picture."""
NAMESPACES: Final = {
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}
PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""{}/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
MANIFEST_BOX: Final = re.compile(rb"uuid" + re.escape(bytes.fromhex("d8fec3d61b0e483c92975828877ec481")))
MANIFESTS: Final = {
    "image/jpeg": re.compile(rb"\xff\xeb..JP.{10}jumb", re.DOTALL),
    "image/png": re.compile(rb"caBX....jumb", re.DOTALL),
    "image/webp": re.compile(rb"C2PA.{8}jumb", re.DOTALL),
    "image/gif": re.compile(rb"\x21\xff\x0bC2PA_GIF"),
    "image/avif": MANIFEST_BOX,
    "image/heic": MANIFEST_BOX,
    "image/tiff": re.compile(rb"\x41\xcd[\x01\x07]\x00|\xcd\x41\x00[\x01\x07]"),
}
"""The bytes that begin an embedded C2PA manifest store, by type (C2PA 2.1, A.3)."""


def has_manifest(source: Path, content_type: str) -> bool:
    """Whether the file has an embedded C2PA manifest. False for types that are not in MANIFESTS.

    This is a search of the bytes: it finds every manifest, and may also find one where there is none.
    """
    content = source.read_bytes()
    pattern = MANIFESTS.get(content_type)
    return pattern is not None and b"c2pa" in content and pattern.search(content) is not None


def extract_statement(xmp: bytes | None) -> bytes | None:
    """Return an XMP packet with nothing but the statements in `xmp`; None if there are none."""
    text = (xmp or b"").decode("utf-8", "replace")
    values = {name: value for name in STATEMENTS if (value := _property_value(text, name))}
    if not values:
        return None
    namespaces = "".join(
        f' xmlns:{prefix}="{NAMESPACES[prefix]}"' for prefix in sorted({STATEMENTS[n] for n in values})
    )
    attributes = "".join(f' {STATEMENTS[name]}:{name}="{_escape(value)}"' for name, value in values.items())
    return PACKET.format(namespaces + attributes).encode()


def _escape(value: str) -> str:
    """Escape a text for an attribute. xml.sax.saxutils would load HTTP and TLS, 5 MB of memory, for this."""
    return html.escape(value).translate({9: "&#9;", 10: "&#10;", 13: "&#13;"})


def _property_value(text: str, name: str) -> str:
    """Return the value of an XMP property, which is an attribute, an element or a resource, with any prefix.

    Return "" if it is missing or longer than 300 characters. The lengths in the patterns keep a search linear.
    """
    quoted = r"(?:\"([^\"<]{1,300})\"|'([^'<]{1,300})')"
    attribute = rf"\w:{name}\s{{0,20}}=\s{{0,20}}{quoted}"
    element = rf"<\w{{1,60}}:{name}\b[^>]{{0,300}}?(?:resource={quoted}|>([^<]{{1,300}})<)"
    match = re.search(f"{attribute}|{element}", text)
    return html.unescape(next(filter(None, match.groups()), "")).strip() if match else ""
