"""Which requests share a prefix: exactly, by chains of block hashes, or nearly, by MinHash.

The tokens of many sequences come as one array, and `offsets` say where each begins: those of
sequence `i` are `tokens[offsets[i]:offsets[i + 1]]`. What comes out is a column of numbers, equal
for what belongs together: a `prefix_id` or `pcluster` of `bb_roles.CacheTables`.

An exact chain is what to cluster by: pages can be shared only where all tokens up to their end are
equal. MinHash finds what is alike and may be worth being looked at together.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from bb_planner_kvcache._columns import I64, starts
from bb_planner_kvcache.errors import BadColumn

__all__ = ["block_hashes", "clusters", "near_clusters", "prefix_ids", "signatures"]

_U64 = NDArray[np.uint64]
_MULTIPLY: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio, odd
_MIX: Final = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # of MurmurHash3
_MOST_TOKEN: Final = (1 << 32) - 1
_PROBES: Final = 64
_CHUNK: Final = 1024


def block_hashes(
    tokens: I64, offsets: I64, *, block: int = 16, root: bytes = b""
) -> tuple[_U64, I64]:
    """Return the chained hash of each whole block of tokens, and where each sequence's begin.

    The hash of a block is the BLAKE3 of its parent's hash (32 bytes; for the first one that of
    `root`) and of its token ids as little-endian uint32: two are equal when all tokens up to the
    end of the block are. The first 8 bytes are returned, little-endian. Tokens after the last
    whole block have no hash.

    Args:
        tokens: Token ids of all sequences, shape (t,), each from 0 to 2**32 - 1.
        offsets: Where sequences begin, and the end of the last one, shape (n + 1,).
        block: Tokens of a block.
        root: What else sets prefixes apart: the model, the tenant.

    Returns:
        Hashes, shape (b,), and offsets into them, shape (n + 1,).

    Raises:
        BadColumn: Tokens or offsets are none, or `block` is less than 1.
    """
    raw, begins = _checked(tokens, offsets)
    if block < 1:
        raise BadColumn(f"block is {block}", expected="1 token or more")
    first = blake3(root).digest()
    width = 4 * block
    found: list[bytes] = []
    ends = [0]
    for begin, end in pairwise(begins):
        parent = first
        for at in range(4 * begin, 4 * end - width + 1, width):
            parent = blake3(parent + raw[at : at + width]).digest()
            found.append(parent[:8])
        ends.append(len(found))
    return np.frombuffer(b"".join(found), "<u8").astype(np.uint64), np.array(ends, np.int64)


def prefix_ids(
    tokens: I64, offsets: I64, *, block: int = 16, depth: int = 8, root: bytes = b""
) -> I64:
    """Return a number for the prefix of each sequence, shape (n,): equal for equal prefixes.

    The prefix is the first `depth` whole blocks, or as many as there are; of a sequence without a
    whole block it is all of its tokens. By default these are the first 128 tokens.

    Args:
        tokens: Token ids of all sequences, shape (t,).
        offsets: Where sequences begin, and the end of the last one, shape (n + 1,).
        block: Tokens of a block.
        depth: Blocks of the prefix.
        root: What else sets prefixes apart.

    Raises:
        BadColumn: Tokens or offsets are none, or `block` or `depth` is less than 1.
    """
    raw, begins = _checked(tokens, offsets)
    if block < 1 or depth < 1:
        raise BadColumn(f"block is {block} and depth is {depth}", expected="1 or more")
    first = blake3(root).digest()
    found: list[bytes] = []
    for begin, end in pairwise(begins):
        whole = min((end - begin) // block, depth) * block
        stop = begin + whole if whole else end
        parent = first
        for at in range(begin, stop, block):
            parent = blake3(parent + raw[4 * at : 4 * min(at + block, stop)]).digest()
        found.append(parent[:8])
    return np.frombuffer(b"".join(found), "<i8").astype(np.int64)


def signatures(
    tokens: I64, offsets: I64, *, hashes: int = 32, gram: int = 4, seed: int = 0
) -> _U64:
    """Return MinHash signatures, shape (n, hashes): the share of equal entries tells likeness.

    Two sequences have an entry in common with a probability near the Jaccard similarity of their
    sets of `gram` tokens in a row. Each token is hashed once, into one of `hashes` bins, and empty
    bins take the value of another one (Shrivastava, "Optimal Densification for Fast and Accurate
    Minwise Hashing", ICML 2017). A sequence of fewer tokens is one gram; an empty one has zeros.

    Args:
        tokens: Token ids of all sequences, shape (t,).
        offsets: Where sequences begin, and the end of the last one, shape (n + 1,).
        hashes: Entries of a signature, a power of two.
        gram: Tokens in a row that are looked at together.
        seed: Other seeds give other signatures.

    Raises:
        BadColumn: Tokens or offsets are none, `hashes` is no power of two from 2 to 4096, or
            `gram` is less than 1.
    """
    _checked(tokens, offsets)
    if not 2 <= hashes <= 4096 or hashes & (hashes - 1):
        raise BadColumn(f"hashes is {hashes}", expected="a power of two from 2 to 4096")
    if gram < 1:
        raise BadColumn(f"gram is {gram}", expected="1 token or more")
    parts = [np.zeros((0, hashes), np.uint64)]
    offsets = offsets.astype(np.int64)
    for low in range(0, len(offsets) - 1, _CHUNK):  # as many as stay in a processor's cache
        part = offsets[low : low + _CHUNK + 1]
        parts.append(
            _signed(tokens[int(part[0]) : int(part[-1])], part - part[0], hashes, gram, seed)
        )
    return np.concatenate(parts)


def _signed(tokens: I64, offsets: I64, hashes: int, gram: int, seed: int) -> _U64:
    size = len(offsets) - 1
    owner, values = _grams(tokens, offsets, gram, seed)
    bits = np.uint64(hashes.bit_length() - 1)
    slot = owner * hashes + (values >> (np.uint64(64) - bits)).astype(np.int64)
    table = np.full(size * hashes, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(table, slot, values << bits)
    filled = np.zeros(size * hashes, np.bool_)
    filled[slot] = True
    return _densified(table.reshape(size, hashes), filled.reshape(size, hashes))


def near_clusters(
    tokens: I64, offsets: I64, *, hashes: int = 32, bands: int = 8, gram: int = 4, seed: int = 0
) -> I64:
    """Return a number for each sequence, shape (n,), equal for those that are nearly alike.

    Signatures are cut into bands; two sequences belong together when they agree in *any* whole
    band, and so do those that are linked by others. The number is the position of the first
    sequence of the cluster.

    Args:
        tokens: Token ids of all sequences, shape (t,).
        offsets: Where sequences begin, and the end of the last one, shape (n + 1,).
        hashes: Entries of a signature, a power of two.
        bands: Into how many bands they are cut; divides `hashes`.
        gram: Tokens in a row that are looked at together.
        seed: Other seeds give other signatures.

    Raises:
        BadColumn: As `signatures`, or `bands` does not divide `hashes`.
    """
    if bands < 1 or hashes % bands:
        raise BadColumn(f"bands is {bands}", expected=f"a number that divides {hashes}")
    signed = signatures(tokens, offsets, hashes=hashes, gram=gram, seed=seed)
    rows = hashes // bands
    keys = np.zeros((bands, len(signed)), np.uint64)
    for at in range(rows):
        keys = _mixed(keys * _MULTIPLY + signed[:, at::rows].T)
    return clusters(keys)


def clusters(keys: NDArray[Any]) -> I64:
    """Return the connected components of items that share a key in any row.

    Args:
        keys: Keys, shape (bands, n); two items with one key in one row belong together.

    Returns:
        For each item the position of the first item of its component, shape (n,).

    Raises:
        BadColumn: It is no array of two dimensions.
    """
    given: Any = keys
    if not isinstance(given, np.ndarray) or given.ndim != 2:
        raise BadColumn(f"keys are {given!r:.60}", expected="an array of shape (bands, n)")
    size = keys.shape[1]
    parent = np.arange(size)
    if not size:
        return parent
    groups = [_groups(row) for row in keys]
    while True:
        before = parent
        for order, begin, counts in groups:
            least = np.repeat(np.minimum.reduceat(parent[order], begin), counts)
            target = parent.copy()
            np.minimum.at(target, parent[order], least)  # roots hook on to smaller ones
            parent = _shortened(target)
        if (parent == before).all():
            return parent


def _groups(row: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], I64]:
    order = np.argsort(row, kind="stable")
    begin = np.flatnonzero(starts(row[order]))
    return order, begin, np.diff(begin, append=len(row))


def _shortened(parent: I64) -> I64:
    """Return the roots of a forest."""
    while True:
        higher = parent[parent]
        if (higher == parent).all():
            return parent
        parent = higher


def _grams(tokens: I64, offsets: I64, gram: int, seed: int) -> tuple[I64, _U64]:
    """Return hashes of all grams, with their sequences."""
    lengths = np.diff(offsets)
    counts = np.where(lengths > 0, np.maximum(lengths - gram + 1, 1), 0)
    owner = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(offsets[:-1], counts) + nth
    last = np.repeat(offsets[1:], counts)
    mask = (1 << 64) - 1
    values = np.full(len(first), np.uint64((seed * int(_MULTIPLY) + 1) & mask), np.uint64)
    for step in range(gram):
        at = first + step
        inside = at < last
        token = tokens[np.where(inside, at, 0)].astype(np.uint64) + np.uint64(1)
        values *= _MULTIPLY
        values += np.where(inside, token, np.uint64(0))
    return owner, _mixed(values)


def _mixed(values: _U64) -> _U64:
    """Return values whose every bit depends on every bit, as MurmurHash3 finishes."""
    shift = np.uint64(33)
    values = values ^ (values >> shift)
    for factor in _MIX:
        values = values * factor
        values ^= values >> shift
    return values


def _densified(table: _U64, filled: NDArray[np.bool_]) -> _U64:
    """Give empty bins the value of a filled one, the same for all sequences that lack them."""
    hashes = table.shape[1]
    table[~filled.any(axis=1)] = 0
    row, slot = np.nonzero(~filled & filled.any(axis=1, keepdims=True))
    found = table.copy()
    for probe in range(_PROBES):
        if not len(row):
            return found
        mixed = _mixed(slot.astype(np.uint64) * _MULTIPLY + np.uint64(probe + 1))
        other = (mixed % np.uint64(hashes)).astype(np.intp)
        good = filled[row, other]
        found[row[good], slot[good]] = table[row[good], other[good]]
        row, slot = row[~good], slot[~good]
    # What no probe met takes the first filled bin.
    found[row, slot] = table[row, np.argmax(filled[row], axis=1)]
    return found


def _checked(tokens: Any, offsets: Any) -> tuple[bytes, list[int]]:
    """Return token ids as bytes, and offsets."""
    for name, array in (("tokens", tokens), ("offsets", offsets)):
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
            raise BadColumn(f"{name} is {array!r:.60}", expected="a one-dimensional integer array")
    told = offsets.tolist()
    rises = all(one <= other for one, other in pairwise(told))
    if not told or told[0] != 0 or told[-1] != len(tokens) or not rises:
        raise BadColumn(
            f"offsets are {told[:1]} to {told[-1:]} for {len(tokens)} tokens",
            expected="0, then where each sequence ends, up to the number of tokens",
        )
    if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) > _MOST_TOKEN):
        raise BadColumn(
            f"token ids are {tokens.min()} to {tokens.max()}", expected=f"0 to {_MOST_TOKEN}"
        )
    return tokens.astype("<u4").tobytes(), told
