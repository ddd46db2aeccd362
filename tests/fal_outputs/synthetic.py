"""Makes an output of an endpoint from its type: with every member, and each link to a file of its own on FAL's CDN."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.fal_outputs.declarations import Declarations, Member, Type

NESTING: Final = 12
LINK: Final = re.compile(r"(^|[_.])urls?$", re.IGNORECASE)
"""The names of members that are links, if their type is only `string`."""
MEDIA: Final = re.compile(r"(^|_)(image|video|audio|mask|mesh|file)s?$")
"""The names of members that are files, if their type is `unknown`."""
UPLOADED: Final = frozenset({"Blob"})
"""In the types of FAL's client, a link is a `string | Blob | File`."""


@dataclass(frozen=True)
class Text:
    """A string of an output: the member, its value, and whether that is a link."""

    member: Member
    value: str
    is_link: bool


class Synthetic:
    """The output of one endpoint, and all strings in it."""

    def __init__(self, declarations: Declarations, output: str) -> None:
        self._types, self._numbers = declarations.types, itertools.count(1)
        self.texts: list[Text] = []
        self.value = self._value(Type(output), Member("", Type(output)), NESTING)

    def _value(self, type_: Type, member: Member, nesting: int) -> Any:
        if nesting == 0 or type_.name in {"null", "undefined", "never", "void"}:
            return None
        match type_.name:
            case "{":
                value: Any = {
                    each.name: self._value(each.type, _named(each, member), nesting - 1) for each in type_.members
                }
            case "|":
                value = self._alternative(type_, member, nesting)
            case "Array":
                value = [self._value(type_.arguments[0], member, nesting - 1)]
            case "Record":
                value = {"a": self._value(type_.arguments[1], member, nesting - 1)}
            case name if name in self._types:
                value = self._value(self._types[name], member, nesting - 1)
            case _:
                value = self._scalar(type_, member)
        return value

    def _alternative(self, type_: Type, member: Member, nesting: int) -> Any:
        """Return the value of the alternative that can contain most: a link, then an object, then any other."""
        if any(each.name in UPLOADED for each in type_.arguments):
            return self._text(member, is_link=True)
        objects = [
            each for each in type_.arguments if each.name in {"Array", "Record", "{"} or each.name in self._types
        ]
        return self._value((objects or list(type_.arguments))[0], member, nesting)

    def _scalar(self, type_: Type, member: Member) -> Any:
        match type_.name:
            case "string":
                return self._text(member, is_link=LINK.search(member.name) is not None)
            case "number":
                return 1
            case "boolean":
                return True
            case "unknown" | "any" if MEDIA.search(member.name):
                return {"url": self._text(member, is_link=True)}
            case "unknown" | "any":
                return None
            case literal if literal[0] in "\"'0123456789tf-":
                return literal.strip("\"'")
            case other:
                raise ValueError(f"the declarations have the type {other!r}")

    def _text(self, member: Member, *, is_link: bool) -> str:
        number = next(self._numbers)
        value = f"https://v3.fal.media/files/zebra/{number}.bin" if is_link else f"text {number}"
        self.texts.append(Text(member, value, is_link))
        return value


def _named(member: Member, parent: Member) -> Member:
    """Return a member by its name in a list: `url` says nothing without that of its object."""
    return replace(member, name=f"{parent.name}.url") if member.name == "url" else member


def synthetic_outputs(declarations: Declarations) -> Iterator[tuple[str, Synthetic]]:
    """Yield every endpoint with an output of its type."""
    for endpoint, output in declarations.outputs.items():
        yield endpoint, Synthetic(declarations, output)
