"""Damage by chance: what disks, transfers, editors and people with bad intentions do to files."""

import random
from collections.abc import Callable, Sequence

#: What readers stumble over, whatever the format.
TOKENS = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"-1", b"0", b"1e999", b"-1e999", b"NaN", b"Infinity", b"null", b"None",
    b"99999999999999999999999", b"9" * 5000, b"true", b'""', b"'", b"../../x", b"/dev/zero", b"%s%n", b"[[[[" * 400,
    b"{" * 2000, b"subprocess.Popen", b"__import__('os').system", b"a" * 3000, b"\n\n", b"\r", b"\t", b";", b",",
)  # fmt: skip


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 4))):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _insert(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.randbytes(chance.choice((1, 7, 100)))


def _remove(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    del data[place : place + chance.choice((1, 4, 64))]


def _double(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place:place] = data[place : place + chance.choice((1, 16, 300))]


def _splice(data: bytearray, chance: random.Random) -> None:
    length = min(len(data), chance.choice((4, 32, 256)))
    source, target = chance.randrange(len(data) - length + 1), chance.randrange(len(data) - length + 1)
    data[target : target + length] = data[source : source + length]


def _zeros(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    length = min(chance.choice((8, 512, 4096)), len(data) - place)
    data[place : place + length] = bytes(length)


def _number(data: bytearray, chance: random.Random) -> None:
    """Another number in the place of one that is written in digits."""
    digits = [i for i, value in enumerate(data) if 48 <= value <= 57]
    if digits:
        place = chance.choice(digits)
        data[place : place + 1] = chance.choice((b"-1", b"0", b"7e7", b"1e999", b"nan", b"99999999999", b"2.5", b"x"))


_PLAIN: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _set, _cut, _insert, _remove, _double, _splice, _zeros,
)  # fmt: skip


def mutate(data: bytes, seed: int, tokens: Sequence[bytes] = (), text: bool = False) -> bytes:
    """One damaged copy, by (data, seed) alone.

    Args:
        data: a good file, not empty.
        seed: of the damage.
        tokens: words of the format, beside TOKENS.
        text: the file is read by people: numbers are changed and words put in more often.
    """
    chance = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not damaged:
            break
        if chance.random() < (0.5 if text else 0.1):
            if chance.random() < 0.4:
                _number(damaged, chance)
                continue
            place = chance.randrange(len(damaged))
            word = chance.choice((*TOKENS, *tokens, *tokens))
            damaged[place : place + chance.choice((0, 1, len(word)))] = word
        else:
            chance.choice(_PLAIN)(damaged, chance)
    return bytes(damaged)
