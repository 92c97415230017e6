"""Randomness as a function: every draw comes from a generator made of (run seed, purpose, indices).

Nothing in condense reads or writes torch's, numpy's or Python's global random state. A generator is made where it
is needed and thrown away after, so a run can be resumed, split or reordered without changing any number. Generators
live on the CPU on every device, so the same seed means the same draws on a GPU.
"""

from __future__ import annotations

import hashlib
import json

import torch


def derive_seed(seed: int, purpose: str, *indices: int | str) -> int:
    """A 63-bit seed that depends on all arguments and on nothing else (blake2b of their canonical JSON).

    >>> derive_seed(0, "network", 3) == derive_seed(0, "network", 3)
    True
    >>> derive_seed(0, "network", 3) == derive_seed(0, "network", 4)
    False
    """
    text = json.dumps([seed, purpose, *indices], separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, purpose: str, *indices: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`.

    >>> first, second = (torch.rand(1, generator=generator(0, "example")) for _ in range(2))
    >>> torch.equal(first, second)
    True
    """
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))


def uniforms(count: int, seed: int, purpose: str, *indices: int | str) -> list[float]:
    """So many numbers of [0, 1) that depend on the other arguments and on nothing else, whatever library is installed.

    For draws that a file asks for again years later. Each is 53 bits of blake2b of canonical JSON.

    >>> uniforms(2, 0, "example", 7) == uniforms(3, 0, "example", 7)[:2]
    True
    """
    numbers: list[float] = []
    block = 0
    while len(numbers) < count:
        text = json.dumps([seed, purpose, *indices, block], separators=(",", ":"))
        digest = hashlib.blake2b(text.encode()).digest()  # 64 bytes: eight numbers
        numbers += [(int.from_bytes(digest[start : start + 8]) >> 11) * 2**-53 for start in range(0, 64, 8)]
        block += 1
    return numbers[:count]
