"""Planning: what to tune, how, what it will take, and whether tuning is the right answer at all.

The package can be called too: `attune.plan(...)` is `plan.plan`, imported or not.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from attune.plan.plan import plan

        return plan(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
