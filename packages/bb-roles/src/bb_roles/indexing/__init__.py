"""For indexes of vectors: what comes from outside is checked once, and refused in one way.

An index hands what it was given to `check_vectors`, `check_ids` and, as it loads a state, to
`ids_are_sound`, and raises what `unknown_id` and `bad_state` return. Importing this imports numpy,
so a plugin's light module must not.
"""

from bb_roles.indexing._checks import (
    Lengths,
    bad_state,
    check_ids,
    check_vectors,
    ids_are_sound,
    squares_of,
    unknown_id,
)

__all__ = [
    "Lengths",
    "bad_state",
    "check_ids",
    "check_vectors",
    "ids_are_sound",
    "squares_of",
    "unknown_id",
]
