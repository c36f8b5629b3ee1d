"""The bucket arithmetic a second time, so that the tests know where every key must be."""

from decimal import Decimal

import mmh3

MASK = 2**64 - 1


def fnv1a64(data):
    """FNV-1a over bytes."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def fmix64(value):
    """MurmurHash3's finaliser."""
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & MASK
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) & MASK
    return value ^ (value >> 33)


def bucket(seed, key):
    """The bucket, of 2³², in which a key lies."""
    return fmix64(fnv1a64(f"{seed}:{key}".encode())) >> 32


def threshold(percent):
    """The bucket at which the first `percent` (an int or a decimal text) end."""
    return int(Decimal(percent) * 10**4) * 2**32 // 10**6


def in_first(percent, seed, key):
    """Whether a key is in the first `percent`."""
    return bucket(seed, key) < threshold(percent)


def fractional(value, weights):
    """The variant that flagd's `fractional`, version 2, gives a bucketing value, a text or its bytes.

    `weights` are `(variant, weight)` each.
    """
    data = value if isinstance(value, bytes) else value.encode()
    place = mmh3.hash(data, 0, signed=False) * sum(weight for _, weight in weights) >> 32
    for variant, weight in weights:
        if place < weight:
            return variant
        place -= weight
