"""The search for settings. The package can be called too: `attune.search(...)` is `search.search.search`."""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from attune.search.search import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
