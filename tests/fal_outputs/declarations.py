"""Reads the TypeScript declarations of FAL's client: the output type of every endpoint.

The file is generated, so few forms occur in it: object types with documented fields, names of other types, `Array<>`,
`Record<>`, literals and unions. Any other form is an error.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TOKEN: Final = re.compile(
    r"""/\*\*(?P<doc>.*?)\*/|(?P<text>"[^"]*"|'[^']*')|(?P<word>[\w$-]+)|(?P<sign>[^\s\w])""", re.DOTALL
)
ENDPOINTS: Final = "EndpointTypeMap"


@dataclass(frozen=True)
class Member:
    """A field of an object: its name, its type, and what the declaration says about it."""

    name: str
    type: "Type"
    doc: str = ""


@dataclass(frozen=True)
class Type:
    """A type: an object with members, the elements of a list, a name, a literal, or several alternatives."""

    name: str = ""
    members: tuple[Member, ...] = ()
    arguments: tuple["Type", ...] = ()


@dataclass
class Declarations:
    """All types by name, and the name of each endpoint's output type."""

    types: dict[str, Type] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


def read_declarations(path: Path) -> Declarations:
    """Read the declarations of a file."""
    tokens = [(found.lastgroup or "", found[found.lastgroup or 0]) for found in TOKEN.finditer(path.read_text())]
    parser, found = _Parser(tokens), Declarations()
    while not parser.at_end():
        parser.take("export")
        parser.take("type")
        name = parser.next()
        parser.take("=")
        found.types[name] = parser.type()
        parser.skip(";")
    for endpoint in found.types[ENDPOINTS].members:
        found.outputs[endpoint.name] = next(each.type.name for each in endpoint.type.members if each.name == "output")
    return found


class _Parser:
    """A recursive descent over the tokens."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens, self._at, self._doc = tokens, 0, ""

    def at_end(self) -> bool:
        self._skip_docs()
        return self._at == len(self._tokens)

    def next(self) -> str:
        self._skip_docs()
        self._at += 1
        return self._tokens[self._at - 1][1]

    def take(self, expected: str) -> None:
        found = self.next()
        if found != expected:
            raise ValueError(f"the declarations have {found!r} instead of {expected!r}")

    def skip(self, word: str) -> bool:
        self._skip_docs()
        is_next = self._at < len(self._tokens) and self._tokens[self._at][1] == word
        self._at += is_next
        return is_next

    def type(self) -> Type:
        """Read a type; several alternatives become a type named `|`."""
        self.skip("|")
        alternatives = [self._part()]
        while self.skip("|") or self.skip("&"):
            alternatives.append(self._part())
        return alternatives[0] if len(alternatives) == 1 else Type("|", arguments=tuple(alternatives))

    def _part(self) -> Type:
        word = self.next()
        if word == "{":
            return Type("{", self._members())
        if word == "(":
            inner = self.type()
            self.take(")")
            return inner
        arguments = []
        if self.skip("<"):
            arguments.append(self.type())
            while self.skip(","):
                arguments.append(self.type())
            self.take(">")
        return Type(word, arguments=tuple(arguments))

    def _members(self) -> tuple[Member, ...]:
        members = []
        while not self.skip("}"):
            doc, name = self._doc, self.next().strip("\"'")
            self.skip("?")
            self.take(":")
            self._doc = ""
            members.append(Member(name, self.type(), " ".join(doc.replace("*", " ").split())))
            self.skip(";")
        return tuple(members)

    def _skip_docs(self) -> None:
        while self._at < len(self._tokens) and self._tokens[self._at][0] == "doc":
            self._doc = self._tokens[self._at][1]
            self._at += 1
