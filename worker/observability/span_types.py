"""What `tracing`, which everybody knows, and `spans`, which only `tracing` loads, say to one another."""

from typing import Literal

Kind = Literal["internal", "server", "producer", "consumer"]
Attribute = str | int | float | bool
