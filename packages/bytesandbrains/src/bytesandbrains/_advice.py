"""What to do about an error of a component, where its own words do not say it."""

from __future__ import annotations

__all__ = ["fix_of"]


def fix_of(error: BaseException) -> str:
    """Return what the author of a component can do about what it raised; may be empty."""
    # In the words of numpy, whose ValueError it is.
    if isinstance(error, ValueError) and "read-only" in str(error):
        return "parameters and inputs are lent, not given: change a copy of them, array.copy()"
    return str(getattr(error, "fix", ""))
