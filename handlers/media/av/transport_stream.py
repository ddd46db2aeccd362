"""MPEG transport streams: packets of 188 bytes, each with a synchronization byte (ISO/IEC 13818-1, 2.4.3)."""

from handlers.detect.streams import PACKET_BYTES, SYNC
from handlers.errors import FileCorruptedError
from handlers.media.formats import Content


def check_content(content: Content) -> int:
    """Check the first byte of every packet; return the end of the last packet.

    Raises:
        FileCorruptedError: a packet has no synchronization byte, or the last one is incomplete.
    """
    packets, rest = divmod(len(content), PACKET_BYTES)
    if rest or set(content[::PACKET_BYTES]) != {SYNC}:
        raise FileCorruptedError(f"the file is not {packets:,} whole packets of {PACKET_BYTES} bytes")
    return len(content)
