"""JSON. If it is a Lottie animation, its size, duration and number of frames are recorded."""

import json
from pathlib import Path
from typing import Any, Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.describe import check_and_describe
from handlers.media.formats import Content, check_structure
from handlers.media.text import plain

MAX_VALUES: Final = 5_000_000
"""Maximum number of commas and opening brackets, also those in strings. JSON has at most one value more than that.

A value takes about 100 bytes of memory.
"""
LOTTIE_KEYS: Final = frozenset({"v", "layers", "w", "h", "fr"})
"""Keys of every Lottie animation (https://lottie.github.io/lottie-spec/)."""
MAX_SIDE: Final = 100_000
"""Maximum width and height of a Lottie animation. JSON that declares more is not taken for one."""


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,  # noqa: ARG001 - the same
) -> Decoded:
    """Validate JSON.

    Raises:
        FileCorruptedError: it is not JSON in UTF-8.
        DecoderLimitError: it exceeds MAX_VALUES, or is nested too deeply.
    """
    content = source.read_bytes()
    check_structure(source, content_type)
    is_animation = all(f'"{key}"'.encode() in content for key in LOTTIE_KEYS)
    properties = _lottie_properties(_parse(content)) if is_animation else {}
    return check_and_describe(source, target, content_type, **properties)


def check_content(content: Content) -> int:
    """Parse all of it; return the file size. Raises the errors of `prepare`."""
    _parse(content)
    return len(content)


def _parse(content: Content) -> Any:  # noqa: ANN401 - any JSON
    text = plain.whole(content)
    if text.count(",") + text.count("[") + text.count("{") > MAX_VALUES:
        raise DecoderLimitError(f"the JSON has more than {MAX_VALUES:,} values")
    try:
        return json.loads(text)
    except RecursionError:
        raise DecoderLimitError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise FileCorruptedError(f"the JSON cannot be read: {error}") from None


def _lottie_properties(value: Any) -> dict[str, float]:  # noqa: ANN401 - any JSON
    """Return size, duration and frames of a Lottie animation; nothing for other JSON."""
    if not isinstance(value, dict) or not value.keys() >= LOTTIE_KEYS or not isinstance(value["layers"], list):
        return {}
    width, height, rate = value["w"], value["h"], value["fr"]
    frames = _number(value.get("op")) - _number(value.get("ip"))
    if not all(0 < _number(side) <= MAX_SIDE for side in (width, height)) or _number(rate) <= 0:
        return {}
    properties: dict[str, float] = {"width": round(width), "height": round(height)}
    if 0 < frames <= MAX_VALUES and frames / rate <= MAX_VALUES:
        properties |= {"frames": round(frames), "duration": round(frames / rate, 3)}
    return properties


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1 << 53 else 0.0
