"""recipe.yaml: its schema, how it is read, and what its keys mean.

`schema` says what may be asked for; `yaml`, `names`, `errors` and `file` read it; `help` explains it.
"""

from attune.recipe.schema import Adapter, Data, EarlyStopping, Evaluate, Model, Objective, Recipe, Search, Split, Train

__all__ = ["Adapter", "Data", "EarlyStopping", "Evaluate", "Model", "Objective", "Recipe", "Search", "Split", "Train"]
