"""What the linear models of scikit-learn refuse. This module must not import scikit-learn."""

from bb_ir.errors import BytesAndBrainsError

__all__ = ["SklearnError"]


class SklearnError(BytesAndBrainsError, ValueError):
    """A configuration, a batch, a state or parameters do not fit the linear model.

    Met when the model is built, when it is given data or parameters of another shape or with NaN
    in them, and when training diverges. The error says what the model takes.
    """
