"""recipe.yaml: its schema, how it is read, and what its keys mean.

`schema` says what may be asked for; `yaml`, `names`, `errors` and `file` read it; `help` explains it.
"""

from attune.recipe.data import Data, Source, Split
from attune.recipe.schema import Adapter, Evaluate, Model, Objective, Recipe, Search
from attune.recipe.train import EarlyStopping, Train

__all__ = [
    "Adapter",
    "Data",
    "EarlyStopping",
    "Evaluate",
    "Model",
    "Objective",
    "Recipe",
    "Search",
    "Source",
    "Split",
    "Train",
]
