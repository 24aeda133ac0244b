"""What an adapter is: which weights of the base may change, and how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Adapter"]


class Adapter(ABC):
    """Decides which parameters train. `attach` may wrap the model (PEFT) or only set `requires_grad`."""

    name: ClassVar[str]

    class Config(Options):
        """No options."""

    def __init__(self, options: Any = None):
        self.options: Any = options if options is not None else self.Config()

    @abstractmethod
    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        """The model that trains. `head` as in `Objective.head`: a new head always trains."""
