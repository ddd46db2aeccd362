"""Mutations that damage a file. Each takes a random generator, the file and another file, and returns new bytes."""

from collections.abc import Callable
from random import Random

Mutation = Callable[[Random, bytes, bytes], bytes]

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)
LENGTHS = (0, 1, 7, 8, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HEAD = 512
TAILS = (
    b"<!DOCTYPE html><script>alert(1)</script>",
    b"PK\x05\x06" + bytes(18),
    b"%PDF-1.7\n%%EOF\n",
    b"MZ" + bytes(126),
    b"\x7fELF\x02\x01\x01" + bytes(57),
    bytes(64),
    b"\xff" * 33,
    b"\n",
)


def flip_bits(random: Random, content: bytes, _: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8, 32))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_bytes(random: Random, content: bytes, _: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 2, 4, 16))):
        changed[random.randrange(len(changed))] = random.choice((*EXTREMES, random.randrange(256)))
    return bytes(changed)


def damage_head(random: Random, content: bytes, other: bytes) -> bytes:
    """Damage only the first bytes, which have the headers of most formats."""
    end = min(len(content), random.choice((16, 64, HEAD)))
    return random.choice((flip_bits, set_bytes, overwrite_length))(random, content[:end], other) + content[end:]


def delete_block(random: Random, content: bytes, _: bytes) -> bytes:
    start, end = _block(random, content)
    return content[:start] + content[end:]


def repeat_block(random: Random, content: bytes, _: bytes) -> bytes:
    start, end = _block(random, content)
    return content[:end] + content[start:]


def swap_blocks(random: Random, content: bytes, _: bytes) -> bytes:
    one, two, three, four = sorted(random.randrange(len(content) + 1) for _ in range(4))
    return content[:one] + content[three:four] + content[two:three] + content[one:two] + content[four:]


def blank_block(random: Random, content: bytes, _: bytes) -> bytes:
    start, end = _block(random, content)
    return content[:start] + bytes([random.choice(EXTREMES)]) * (end - start) + content[end:]


def cut_off(random: Random, content: bytes, _: bytes) -> bytes:
    end = random.choice(
        (random.randrange(len(content)), len(content) - random.randrange(1, max(2, min(64, len(content)))))
    )
    return content[:end]


def overwrite_length(random: Random, content: bytes, _: bytes) -> bytes:
    """Overwrite two, four or eight bytes with a boundary value, in either byte order."""
    width = random.choice((2, 4, 4, 8))
    at = random.randrange(max(1, len(content) - width))
    number = random.choice((*LENGTHS, len(content), random.randrange(1 << 16)))
    value = (number & (1 << 8 * width) - 1).to_bytes(width, random.choice(("big", "little")))
    return content[:at] + value + content[at + width :]


def change_length(random: Random, content: bytes, _: bytes) -> bytes:
    """Add a small number to an existing one."""
    width = random.choice((1, 2, 4))
    at = random.randrange(max(1, len(content) - width))
    order = random.choice(("big", "little"))
    number = int.from_bytes(content[at : at + width], order) + random.choice((-2, -1, 1, 2, 256))
    return content[:at] + (number & (1 << 8 * width) - 1).to_bytes(width, order) + content[at + width :]


def splice(random: Random, content: bytes, other: bytes) -> bytes:
    """Continue with another file, at the same relative position or a random one."""
    at = random.randrange(len(content))
    position = random.choice((at * len(other) // len(content), random.randrange(len(other))))
    return content[:at] + other[position:]


def swap_head(random: Random, content: bytes, other: bytes) -> bytes:
    size = random.choice((4, 8, 16, 64, 256))
    return other[:size] + content[size:]


def add_tail(random: Random, content: bytes, other: bytes) -> bytes:
    return content + random.choice((*TAILS, other, random.randbytes(40)))


def add_front(random: Random, content: bytes, _: bytes) -> bytes:
    return random.choice((*TAILS, b"\xef\xbb\xbf", b"GIF89a", b" ")) + content


def _block(random: Random, content: bytes) -> tuple[int, int]:
    start = random.randrange(len(content))
    return start, min(len(content), start + random.choice((1, 4, 16, 64, 512, 4096)))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    set_bytes,
    damage_head,
    delete_block,
    repeat_block,
    swap_blocks,
    blank_block,
    cut_off,
    overwrite_length,
    change_length,
    splice,
    swap_head,
    add_tail,
    add_front,
)


def mutated(random: Random, content: bytes, other: bytes) -> tuple[str, bytes]:
    """Damage a file one to three times; return the mutations' names and the result, which is never empty."""
    names = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        mutation = random.choice(MUTATIONS)
        names.append(mutation.__name__)
        content = mutation(random, content, other) or content[:1]
    return "+".join(names), content
