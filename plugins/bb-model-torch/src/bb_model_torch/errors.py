"""What PyTorch models refuse. This module must not import torch."""

from bb_ir.errors import BytesAndBrainsError

__all__ = ["DeviceAbsent", "LossNotFinite", "TorchError", "UnknownName"]


class TorchError(BytesAndBrainsError, ValueError):
    """A configuration, a batch, a state or parameters do not fit the module.

    Met when the model is built, and when it is given data or parameters of another shape. The
    error says what the module takes, or what PyTorch said about it.
    """


class UnknownName(TorchError):
    """A name in the configuration leads to no module, optimizer or loss.

    Met when the model is built and when a program is compiled with its configuration. Install the
    package that has it on this machine, or correct the name; it is written `package.module:Name`.
    """


class DeviceAbsent(TorchError):
    """The model is to run on a device that PyTorch does not see on this machine.

    Met when the model is built. Set `device` to `cpu`, or to `auto`, which takes a GPU only where
    there is one.
    """


class LossNotFinite(TorchError):
    """Training diverged: the mean loss of a fit is infinite or no number.

    The parameters are what training made of them, so load others before going on. Lower the
    learning rate, scale the inputs, or bound the gradient with `max_grad_norm`.
    """
