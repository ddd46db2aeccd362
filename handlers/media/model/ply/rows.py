"""The elements of a PLY file, and the checks of the lists in their rows that text and binary files share."""

from dataclasses import dataclass, field
from typing import Final

from handlers.errors import FileCorruptedError

CORNERS: Final = frozenset({"vertex_index", "vertex_indices"})
"""The property with the corners of a face, which are numbers of vertices."""
COORDINATES: Final = frozenset("xyz")
FLOATS: Final = frozenset("fd")
"""The `struct` formats of numbers with a fraction."""
MIN_CORNERS: Final = 3


@dataclass(frozen=True, slots=True)
class Property:
    """A number of type `item` in every row; or a list of them if `length`, the type of the list's length, is given."""

    name: str
    item: str
    length: str | None = None

    @property
    def has_corners(self) -> bool:
        """Whether it is the list of the corners of a face."""
        return self.length is not None and self.name in CORNERS


@dataclass(frozen=True, slots=True)
class Element:
    """A table of `count` rows with these properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


def check_length(property_: Property, items: int) -> None:
    """Check the number of items of a list. Raises FileCorruptedError."""
    if items < 0:
        raise FileCorruptedError(f"the model has a list of {items} items")
    if property_.has_corners and items < MIN_CORNERS:
        raise FileCorruptedError(f"a face of the model has {items} corners")


def check_corners(lowest: float, highest: float, vertices: int) -> None:
    """Check that faces refer to existing vertices only. Raises FileCorruptedError."""
    if lowest < 0 or highest >= vertices:
        raise FileCorruptedError(f"a face of the model has a corner beyond its {vertices:,} vertices")
