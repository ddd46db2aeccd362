"""Detects types that are never stored, whatever UNSUPPORTED_FILES says: web pages, PDF, scripts and programs.

It also tells SVG, which is stored, and other XML from web pages, since all of them begin with `<`.
"""

import re
from typing import Final

HTML: Final = "text/html"
XML: Final = "text/xml"
SVG: Final = "image/svg+xml"
PDF: Final = "application/pdf"
SCRIPT: Final = "text/x-script"
EXECUTABLE: Final = "application/x-executable"
PDF_BYTES: Final = 1024
"""PDF readers search for `%PDF-` in this many bytes from the start."""
EXECUTABLES: Final = re.compile(
    rb"\x7fELF|\0asm|dex\n\d{3}\0|\xca\xfe\xba\xbe|[\xcf\xce]\xfa\xed\xfe|\xfe\xed\xfa[\xcf\xce]|MZ.{0,62}\0", re.DOTALL
)
"""ELF, WebAssembly, Android, Java and universal Mach-O, Mach-O, DOS and Windows."""
ROOT: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+"
    rb"(?>(?:<!--(?>.*?-->)|<\?xml\b[^>]*>|<!DOCTYPE\s[^>\[]*+(?:\[[^\]]*+\]\s*+)?>)\s*+)*+<([A-Za-z][\w.-]*+)(:\w++)?",
    re.DOTALL | re.IGNORECASE,
)
"""Everything before the first element of an XML or HTML document, and the name of that element."""
HTML_DOCTYPE: Final = re.compile(rb"<!DOCTYPE\s+html\b", re.IGNORECASE)
HTML_ELEMENTS: Final = frozenset(
    b"html head body script style title meta link base table div span p a br img iframe form font center h1 h2 h3 b i "
    b"object embed noscript template main section article nav pre ul ol li video audio".split()
)
SERVER_CODE: Final = re.compile(rb"<\?(?:php|=)|<%", re.IGNORECASE)
SCRIPTS: Final = (
    re.compile(rb"#!"),
    re.compile(rb"@echo\s|@?rem\s|@?setlocal\b", re.IGNORECASE),
    re.compile(rb"(?:Invoke|Set|Get|New|Start|Stop|Add|Remove|Import|Write)-[A-Z]\w+|iex\s|powershell\b|param\s*\("),
    re.compile(rb"import\s+[\w.]+\s*(?:$|;|as\s|,)|from\s+[\w.]+\s+import\s|def\s+\w+\s*\(|class\s+\w+.*:\s*$"),
    re.compile(
        rb"""(?:async\s+)?function\b.*[({]|(?:var|let|const)\s+[\w${[]+.*=|['"]use strict['"]|\(function|eval\("""
    ),
    re.compile(rb"(?:window|document|console|module|exports|process)\.\w|\$[A-Za-z_]\w*\s*=|%!PS"),
)
"""The first line that is not empty: of shell, batch, PowerShell, Python, JavaScript, PHP and PostScript files."""
REFUSED_TYPES: Final = frozenset(
    {HTML, PDF, SCRIPT, EXECUTABLE}
    | {f"text/{name}" for name in ("javascript", "x-php", "rtf", "x-lisp", "vbscript")}
    | {f"application/{name}" for name in ("javascript", "java-archive", "xhtml+xml", "postscript", "wasm")}
    | {f"application/vnd.{name}" for name in ("android.package-archive", "microsoft.portable-executable")}
)
REFUSED_BEGINNINGS: Final = (
    "text/x-",
    "application/x-dos",
    "application/x-ms",
    "application/x-mach",
    "application/x-sh",
)
"""Prefixes of libmagic's many names for scripts and programs."""
REFUSED_PROGRAMS: Final = re.compile(r"application/x-(?:(?:pie-)?executable|sharedlib|object|java.*|coredump|wine.*)")


def markup_or_program_type(head: bytes) -> str | None:
    """Return the type of a program, PDF, script, web page, SVG or other XML; None for anything else."""
    if EXECUTABLES.match(head):
        return EXECUTABLE
    if b"%PDF-" in head[:PDF_BYTES]:
        return PDF
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return SCRIPT if SERVER_CODE.match(text) else markup_type(head)
    first = text.split(b"\n", 1)[0].rstrip()
    is_script = b"\0" not in first and any(pattern.match(first) for pattern in SCRIPTS)
    return SCRIPT if is_script else None


def markup_type(head: bytes) -> str | None:
    """Return the type of SVG, HTML or other XML, by its DOCTYPE or first element; None if it begins as none of them."""
    root = ROOT.match(head)
    if HTML_DOCTYPE.search(head[: root.end()] if root else head):
        return HTML
    if root is None:
        return XML if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<?xml", b"<!")) else None
    name = (root[2] or root[1]).lstrip(b":").lower()
    if name == b"svg":
        return SVG
    return HTML if name in HTML_ELEMENTS else XML


def is_refused(mime_type: str) -> bool:
    """Whether files of this type are refused in every mode of UNSUPPORTED_FILES."""
    return (
        mime_type in REFUSED_TYPES
        or mime_type.startswith(REFUSED_BEGINNINGS)
        or REFUSED_PROGRAMS.fullmatch(mime_type) is not None
    )
