"""The training room. The package can be called too: `attune.train(...)` is `flow.train`, imported or not."""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from attune.flow import train

        return train(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
