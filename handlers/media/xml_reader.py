"""Reads XML with expat. Refuses declarations inside the document type, so also entities, and deep nesting."""

from typing import IO, Final
from xml.parsers import expat

from handlers.errors import DecoderLimitError, FileCorruptedError

MAX_DEPTH: Final = 256
XML_PIECE_BYTES: Final = 1 << 16


class XmlReader:
    """Calls `open_element` and `close_element` for each element. Subclasses do something in them.

    Names have the form `namespace}name`, without a namespace only `name`; they are as written if `has_namespaces` is
    false.
    """

    has_namespaces = True

    def __init__(self) -> None:
        self.depth = 0
        self._parser = expat.ParserCreate(namespace_separator="}" if self.has_namespaces else None)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self.text
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._entity

    def read(self, file: IO[bytes]) -> None:
        """Read a whole document.

        Raises:
            FileCorruptedError: it is not well-formed, or its document type contains declarations.
            DecoderLimitError: its elements are nested deeper than MAX_DEPTH.
        """
        try:
            while piece := file.read(XML_PIECE_BYTES):
                self._parser.Parse(piece, False)  # noqa: FBT003 - expat's own signature
            self._parser.Parse(b"", True)  # noqa: FBT003 - the same
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise FileCorruptedError(f"the XML cannot be read: {error}") from None

    def open_element(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def close_element(self, name: str) -> None:
        """An element ends."""

    def text(self, text: str) -> None:
        """Text between elements."""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise DecoderLimitError(f"the XML is nested deeper than {MAX_DEPTH}")
        self.open_element(name, attributes)

    def _end(self, name: str) -> None:
        self.depth -= 1
        self.close_element(name)

    def _doctype(self, _name: str, _system: str | None, _public: str | None, has_content: int) -> None:
        if has_content:
            raise FileCorruptedError("the XML has a document type with declarations of its own")

    def _entity(self, name: str, *_: object) -> None:
        raise FileCorruptedError(f"the XML declares the entity {name!r}")
