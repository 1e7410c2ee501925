"""fp32 arithmetic on parameters of a narrower type: each module's are widened while it runs.

A model that stays in its files (`model.mapped`) then takes the memory of one layer, and computes
what it computes when all of it is loaded in fp32, bit by bit: widening is exact.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers.models.siglip.modeling_siglip import SiglipVisionEmbeddings
from transformers.models.t5.modeling_t5 import T5DenseActDense, T5DenseGatedActDense

# What looks at parameters of its children, to cast what it gives them to their type: all of it is
# widened at once, as is whatever has parameters of its own (torch's attention, which computes with
# those of its child).
_AT_ONCE = (
    SiglipVisionEmbeddings,
    T5DenseActDense,
    T5DenseGatedActDense,
)


def widen_while_running(model: nn.Module) -> None:
    """Give the modules of a frozen model fp32 parameters whenever they run, and take them back.

    A parameter that is fp32 already, or was put there as such (`torch.func.functional_call`, a hook
    that came later), is left alone. A lookup is widened behind the table, which may be large. Not
    thread-safe: one forward at a time.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(_widened_rows)
        elif _is_widened(module):
            widened = _Widened(module)
            module.register_forward_pre_hook(widened.enter)
            module.register_forward_hook(widened.leave, always_call=True)


def widest_bytes(model: nn.Module) -> int:
    """The most that is widened at a time."""
    widened = [module for module in model.modules() if _is_widened(module)]
    return max(sum(4 * it.numel() for it in module.parameters()) for module in widened)


def _is_widened(module: nn.Module) -> bool:
    own = next(module.parameters(recurse=False), None) is not None
    return not isinstance(module, nn.Embedding) and (own or isinstance(module, _AT_ONCE))


def _widened_rows(_module: nn.Module, _inputs: object, rows: Tensor) -> Tensor:
    return rows.float()


class _Widened:
    """The parameters of a module, and of those inside it, that are fp32 for the moment."""

    def __init__(self, module: nn.Module) -> None:
        self._modules = tuple(module.modules())
        self._stored: list[tuple[nn.Module, str, nn.Parameter]] = []

    def enter(self, *_: object) -> None:
        for module in self._modules:
            for name, parameter in module.named_parameters(recurse=False):
                wide = parameter.float()
                if wide is not parameter:
                    self._stored.append((module, name, parameter))
                    setattr(module, name, nn.Parameter(wide, requires_grad=False))

    def leave(self, *_: object) -> None:
        while self._stored:
            module, name, parameter = self._stored.pop()
            setattr(module, name, parameter)
