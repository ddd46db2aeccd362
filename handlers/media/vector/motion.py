"""Motion along a path in SVG: `animateMotion`, and `mpath` in it, which refers to a `path` element of the file.

svg-hush removes the reference of `mpath`. So the first pass also writes a reference to `#...` to CARRIER, an attribute
that svg-hush keeps, and the second pass moves it back.
"""

import re
from typing import Final

ELEMENT: Final = "animateMotion"
POINTS: Final = frozenset({"from", "to", "by", "values"})
"""The attributes of `animateMotion` that have coordinates. In other animations they may have any value."""
NUMBERS: Final = re.compile(r"[-+\d.eE,;\s]*+", re.ASCII)
PATH: Final = "mpath"
CARRIER: Final = "class"
MARK: Final = "\ufdd1"
"""A character before the reference in CARRIER that XML allows and Unicode reserves for internal use."""


def carry_reference(attributes: dict[str, str]) -> dict[str, str]:
    """Return the attributes of `mpath` with its reference, if it is one to `#...`, in CARRIER too."""
    for name, value in attributes.items():
        if name.rpartition(":")[2] == "href" and value.startswith("#"):
            return attributes | {CARRIER: f"{MARK}{value}"}
    return attributes


def restore_reference(attributes: dict[str, str]) -> dict[str, str]:
    """Return the attributes of `mpath` with the reference that CARRIER has. All other references are removed."""
    carried = attributes.get(CARRIER, "").removeprefix(MARK)
    others = {
        name: value
        for name, value in attributes.items()
        if name != CARRIER and name.rpartition(":")[2].lower() not in {"href", "src"}
    }
    return others | ({"href": carried} if carried.startswith("#") else {})


def only_motion(attributes: dict[str, str]) -> dict[str, str]:
    """Return the attributes of `animateMotion` without the name of an attribute to change, and values of others."""
    return {
        name: value
        for name, value in attributes.items()
        if name != "attributeName" and (name not in POINTS or NUMBERS.fullmatch(value))
    }
