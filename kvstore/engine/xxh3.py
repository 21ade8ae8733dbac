"""XXH3, the 64-bit hash of which DIGEST, IFDEQ and IFDNE speak; default secret, no seed.

Plain Python in 64-bit arithmetic: a few microseconds for a short value, about 30 MB/s for a long one.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

from struct import Struct, unpack_from
from typing import Final

_MASK: Final = (1 << 64) - 1
_LOW: Final = (1 << 32) - 1

_P32_1: Final = 0x9E3779B1
_P32_2: Final = 0x85EBCA77
_P32_3: Final = 0xC2B2AE3D
_P64_1: Final = 0x9E3779B185EBCA87
_P64_2: Final = 0xC2B2AE3D27D4EB4F
_P64_3: Final = 0x165667B19E3779F9
_P64_4: Final = 0x85EBCA77C2B2AE63
_P64_5: Final = 0x27D4EB2F165667C5
_MX1: Final = 0x165667919E3779F9
_MX2: Final = 0x9FB21C651E98DF25

_SECRET: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_BLOCK: Final = 1024  # bytes between two scrambles, with a secret of this size
_STRIPE: Final = Struct("<8Q")
_PAIR: Final = Struct("<2Q")
# The eight words of the secret that each of a block's sixteen stripes meets.
_STRIPE_KEYS: Final = [_STRIPE.unpack_from(_SECRET, at) for at in range(0, 128, 8)]
_SCRAMBLE_KEY: Final = _STRIPE.unpack_from(_SECRET, 128)
_LAST_KEY: Final = _STRIPE.unpack_from(_SECRET, 121)
_MERGE_KEY: Final = _STRIPE.unpack_from(_SECRET, 11)


def _word(at: int) -> int:
    return int.from_bytes(_SECRET[at : at + 8], "little")


_KEY_0: Final = _word(56) ^ _word(64)
_KEY_1TO3: Final = int.from_bytes(_SECRET[:4], "little") ^ int.from_bytes(_SECRET[4:8], "little")
_KEY_4TO8: Final = _word(8) ^ _word(16)
_KEY_9TO16: Final = (_word(24) ^ _word(32), _word(40) ^ _word(48))


def xxh3_64(data: bytes) -> int:
    """The hash of ``data`` as an unsigned 64-bit integer. O(len(data))."""
    size = len(data)
    if size > 240:
        return _long(data, size)
    if size > 16:
        return _medium(data, size)
    if size > 8:
        return _9_to_16(data, size)
    if size >= 4:
        return _4_to_8(data, size)
    if size:
        combined = data[-1] | size << 8 | data[0] << 16 | data[size >> 1] << 24
        return _avalanche64(_KEY_1TO3 ^ combined)
    return _avalanche64(_KEY_0)


def _avalanche(x: int) -> int:
    x ^= x >> 37
    x = x * _MX1 & _MASK
    return x ^ x >> 32


def _avalanche64(x: int) -> int:
    x ^= x >> 33
    x = x * _P64_2 & _MASK
    x ^= x >> 29
    x = x * _P64_3 & _MASK
    return x ^ x >> 32


def _rotate(x: int, bits: int) -> int:
    return (x << bits | x >> (64 - bits)) & _MASK


def _4_to_8(data: bytes, size: int) -> int:
    first, last = int.from_bytes(data[:4], "little"), int.from_bytes(data[-4:], "little")
    x = _KEY_4TO8 ^ (last | first << 32)
    x ^= _rotate(x, 49) ^ _rotate(x, 24)
    x = x * _MX2 & _MASK
    x ^= (x >> 35) + size
    x = x * _MX2 & _MASK
    return x ^ x >> 28


def _9_to_16(data: bytes, size: int) -> int:
    low = _KEY_9TO16[0] ^ int.from_bytes(data[:8], "little")
    high = _KEY_9TO16[1] ^ int.from_bytes(data[-8:], "little")
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return _avalanche((size + swapped + high + _fold(low * high)) & _MASK)


def _fold(product: int) -> int:
    return (product & _MASK) ^ product >> 64


def _mix(data: bytes, at: int, secret_at: int) -> int:
    first, second = _PAIR.unpack_from(data, at)
    key_first, key_second = _PAIR.unpack_from(_SECRET, secret_at)
    return _fold((first ^ key_first) * (second ^ key_second))


def _medium(data: bytes, size: int) -> int:
    total = size * _P64_1
    if size <= 128:
        for at in range((size - 1) // 32 * 16, -1, -16):
            total += _mix(data, at, at * 2) + _mix(data, size - at - 16, at * 2 + 16)
        return _avalanche(total & _MASK)
    for at in range(0, 128, 16):
        total += _mix(data, at, at)
    total = _avalanche(total & _MASK)
    for at in range(128, size - 15, 16):
        total += _mix(data, at, at - 125)
    return _avalanche(total + _mix(data, size - 16, 119) & _MASK)


def _long(data: bytes, size: int) -> int:
    lanes = [_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1]
    last_block = (size - 1) // _BLOCK * _BLOCK
    for start in range(0, last_block, _BLOCK):
        for number, key in enumerate(_STRIPE_KEYS):
            _accumulate(lanes, data, start + number * 64, key)
        for i, key_word in enumerate(_SCRAMBLE_KEY):
            lane = lanes[i]
            lanes[i] = (lane ^ lane >> 47 ^ key_word) * _P32_1 & _MASK
    for number in range((size - last_block - 1) // 64):
        _accumulate(lanes, data, last_block + number * 64, _STRIPE_KEYS[number])
    _accumulate(lanes, data, size - 64, _LAST_KEY)
    total = size * _P64_1
    for i in range(0, 8, 2):
        total += _fold((lanes[i] ^ _MERGE_KEY[i]) * (lanes[i + 1] ^ _MERGE_KEY[i + 1]))
    return _avalanche(total & _MASK)


def _accumulate(lanes: list[int], data: bytes, at: int, key: tuple[int, ...]) -> None:
    """Add one stripe of 64 bytes to the lanes, each word also as it is to its neighbour's."""
    words = unpack_from("<8Q", data, at)
    for i in range(8):
        word = words[i]
        mixed = word ^ key[i]
        lanes[i] = (lanes[i] + words[i ^ 1] + (mixed & _LOW) * (mixed >> 32)) & _MASK
