"""The XML of a 3MF model: meshes of vertices and triangles (3MF core specification, 4)."""

import math
from typing import IO, Final

from handlers.errors import FileCorruptedError
from handlers.media.xml_reader import XmlReader

CORE: Final = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"


def check(file: IO[bytes]) -> None:
    """Check the vertices and triangles of all meshes.

    Raises:
        FileCorruptedError: the XML is damaged or no 3MF model, a coordinate is missing or not finite, or a triangle
            refers to a vertex that does not exist.
        DecoderLimitError: its elements are nested too deeply.
    """
    meshes = _Meshes()
    meshes.read(file)
    if not meshes.is_model:
        raise FileCorruptedError("the member is not a 3MF model")


class _Meshes(XmlReader):
    """Counts vertices and checks triangles, mesh by mesh."""

    def __init__(self) -> None:
        super().__init__()
        self.is_model = False
        self._vertices = 0
        self._highest = -1

    def open_element(self, name: str, attributes: dict[str, str]) -> None:
        """Count and check a vertex, or update the highest corner of the mesh's triangles."""
        self.is_model |= self.depth == 1 and name == f"{CORE}model"
        try:
            if name == f"{CORE}vertex":
                self._vertices += 1
                if not math.isfinite(sum(float(attributes[axis]) for axis in "xyz")):
                    raise FileCorruptedError(f"vertex {self._vertices} of the model is not finite")
            elif name == f"{CORE}triangle":
                corners = [int(attributes[corner]) for corner in ("v1", "v2", "v3")]
                self._highest = max(self._highest, *corners)
                if min(corners) < 0:
                    raise FileCorruptedError("a triangle of the model has a negative corner")
        except (KeyError, ValueError):
            raise FileCorruptedError("a vertex or triangle of the model lacks a number") from None

    def close_element(self, name: str) -> None:
        """At the end of a mesh, compare the highest corner with the number of vertices."""
        if name == f"{CORE}mesh":
            if self._highest >= self._vertices:
                raise FileCorruptedError(f"a triangle of the model has a corner beyond its {self._vertices} vertices")
            self._vertices, self._highest = 0, -1
