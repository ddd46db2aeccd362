"""Removes scripts and references to anything outside of an SVG file.

Cloudflare's svg-hush keeps only the elements and attributes on its list. It keeps references to other files. A second
pass over its result removes these, and keeps only references to `#...` and to bitmaps in `data:` URIs.

svg-hush indents its result. In text elements, where blanks are shown, MARK between all elements and texts prevents
that; elsewhere the second pass removes the blanks.
"""

import io
import re
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from handlers.errors import FileCorruptedError
from handlers.media.vector import motion
from handlers.media.xml_reader import XmlReader

BITMAPS: Final = ("png", "jpeg", "jpg", "gif", "webp", "avif")
"""The types of pictures that the file may contain as `data:` URIs: not SVG, since it would not be sanitised."""
MARK: Final = "\ufdd0"
"""A character that XML allows and Unicode reserves for internal use."""
LOCAL: Final = re.compile(rf"\s*(?:#|data:image/(?:{'|'.join(BITMAPS)})[;,])", re.IGNORECASE)
FOREIGN_URL: Final = re.compile(
    rf"""url\(\s*(?!["']?\s*(?:#|data:image/(?:{"|".join(BITMAPS)})[;,]))[^)]*\)?""", re.IGNORECASE
)
UNSAFE_STYLE: Final = re.compile(
    r"\\|@import|@charset|expression\(|image\(|image-set\(|src\(|behavior|binding", re.IGNORECASE
)
"""Style that may refer to other files without `url(`. A backslash is refused because escapes can spell any word."""
COMMENT: Final = re.compile(r"/\*.*?(?:\*/|$)", re.DOTALL)
SCHEME: Final = re.compile(r"[\s\x00-\x1f]*(?:javascript|vbscript|data:(?!image/))", re.IGNORECASE)
PLAIN: Final = re.compile(r"[^&<>\"\t\r\n]*")
"""An attribute's value that needs no escaping."""
TEXTS: Final = frozenset({"text", "tspan", "textPath", "title", "desc"})
STYLE: Final = "style"
ANIMATIONS: Final = frozenset({"set", "animate", "animateTransform", "animateColor"})
"""Elements that change an attribute over time. svg-hush removes `attributeName` if it must not be changed, and leaves
the values, which then have no effect and are removed."""


def sanitize(content: bytes) -> tuple[dict[str, str], bytes]:
    """Return the attributes of the root that are kept, and the picture without scripts and outside references.

    Raises:
        FileCorruptedError: the content is not well-formed, or its document type contains declarations.
        DecoderLimitError: elements are nested too deeply for svg-hush, which calls itself for each level.
    """
    import py_svg_hush  # noqa: PLC0415 - rarely needed

    marked = _MarkedWriter()
    marked.read(io.BytesIO(content))
    try:
        kept = py_svg_hush.filter_svg(marked.result(), {"image": list(BITMAPS)})
    except ValueError as error:
        raise FileCorruptedError(f"the picture cannot be read: {error}") from None
    local = _LocalWriter()
    local.read(io.BytesIO(kept))
    return local.root, local.result()


class _Writer(XmlReader):
    """Writes the elements that it reads, without comments, processing instructions and document type."""

    has_namespaces = False

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._is_tag_open = False
        self._texts = 0
        self._style: list[str] | None = None
        self._ignored = 0

    def result(self) -> bytes:
        """Return what was written."""
        return "".join(self._pieces).encode()

    @property
    def in_text(self) -> bool:
        """Whether a text element is open, so that blanks are shown."""
        return self._texts > 0

    def open_element(self, name: str, attributes: dict[str, str]) -> None:
        """Write the beginning of an element, except for its `>`. Elements inside `<style>` are left out."""
        if self._style is not None:
            self._ignored += 1
            return
        self.end_tag()
        self._pieces.append(f"<{name}")
        self._pieces += [f" {key}={_quoted(value)}" for key, value in attributes.items()]
        self._open.append(name)
        self._is_tag_open = True
        self._texts += _local_name(name) in TEXTS
        self._style = [] if _local_name(name) == STYLE else None

    def close_element(self, name: str) -> None:
        """Write the end of an element. The text of `<style>` is checked as a whole: pieces of it may divide a word."""
        if self._ignored:
            self._ignored -= 1
            return
        if self._style is not None:
            self.write_text(_local_style("".join(self._style).replace(MARK, "")))
            self._style = None
        self._open.pop()
        self._texts -= _local_name(name) in TEXTS
        self._pieces.append("/>" if self._is_tag_open else f"</{name}>")
        self._is_tag_open = False

    def text(self, text: str) -> None:
        """Collect the text of `<style>`; pass other text to `plain_text`."""
        if self._style is None:
            self.plain_text(text)
        elif not self._ignored:
            self._style.append(text)

    def plain_text(self, text: str) -> None:
        """Take text that is not in `<style>`. Subclasses decide what to write of it."""

    def write_text(self, text: str) -> None:
        """Write text, escaped."""
        if text:
            self.end_tag()
            self._pieces.append(escape(text))

    def end_tag(self) -> None:
        """Write the `>` of the element that has just begun."""
        if self._is_tag_open:
            self._pieces.append(">")
        self._is_tag_open = False


class _MarkedWriter(_Writer):
    """Writes what it reads, with MARK before each element, text and end tag inside text elements.

    The reference of `mpath` is also written to an attribute that svg-hush keeps.
    """

    def open_element(self, name: str, attributes: dict[str, str]) -> None:
        if self.in_text:
            self.write_text(MARK)
        is_path = _local_name(name) == motion.PATH
        super().open_element(name, motion.carry_reference(attributes) if is_path else attributes)

    def close_element(self, name: str) -> None:
        if self.in_text:
            self.write_text(MARK)
        super().close_element(name)

    def plain_text(self, text: str) -> None:
        self.write_text(f"{MARK}{text}" if self.in_text else text)


class _LocalWriter(_Writer):
    """Writes what it reads without MARK, outside references, and text outside of text elements, which is not shown.

    `root` has the attributes of the first element.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root: dict[str, str] = {}

    def open_element(self, name: str, attributes: dict[str, str]) -> None:
        kept = {key: local for key, value in attributes.items() if (local := _local_value(key, value)) is not None}
        self.root = self.root or kept
        super().open_element(name, _with_effect(_local_name(name), kept))

    def plain_text(self, text: str) -> None:
        if self.in_text:
            self.write_text(text.replace(MARK, ""))


def _local_name(name: str) -> str:
    return name.rpartition(":")[2] if ":" in name else name


def _with_effect(local_name: str, attributes: dict[str, str]) -> dict[str, str]:
    """Return the attributes of an element, without those of an animation that have no effect."""
    if local_name in ANIMATIONS and "attributeName" not in attributes:
        return {}
    if local_name == motion.ELEMENT:
        return motion.only_motion(attributes)
    return motion.restore_reference(attributes) if local_name == motion.PATH else attributes


def _quoted(value: str) -> str:
    return f'"{value}"' if PLAIN.fullmatch(value) else quoteattr(value)


def _local_value(name: str, value: str) -> str | None:
    """Return an attribute's value without outside references; None if the attribute must be removed."""
    value = value.replace(MARK, "")
    if name.startswith("xmlns") and name[5:6] in {"", ":"}:
        return value
    local_name = _local_name(name).lower()
    is_reference = local_name in {"href", "src"}
    if local_name.startswith("on") or SCHEME.match(value) or (is_reference and not LOCAL.match(value)):
        return None
    if is_reference:
        return value
    if local_name == STYLE or "(" in value:
        return _local_style(value) or None
    return value


def _local_style(text: str) -> str:
    """Return style without references to other files; "" if it could contain hidden ones."""
    without_comments = COMMENT.sub("", text)
    return "" if UNSAFE_STYLE.search(without_comments) else FOREIGN_URL.sub("none", without_comments)
