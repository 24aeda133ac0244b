"""What the parts of a recipe are made of: checked numbers, durations, sections, and a plugin with its options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from attune import plugins
from attune.errors import RecipeError

__all__ = [
    "Section",
    "PluginChoice",
    "Whole",
    "Number",
    "Share",
    "Positive",
    "Duration",
    "OffIsNull",
    "known",
    "seconds",
    "budget_seconds",
]

# Strict: `seed: true` is no number, `epochs: "3"` is text, `batch_size: 2.5` is no whole number.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Positive = Annotated[int, Field(strict=True, ge=1)]

OffIsNull = BeforeValidator(lambda value: None if value is False else value)

DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd]\s*)+")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """A duration such as `90s`, `10m`, `2h` or `1h30m`, in seconds.

    Raises: ValueError if it is not one, or not above zero.
    """
    if not DURATION.fullmatch(text.strip()):
        raise ValueError("is not a duration; write 90s, 10m, 2h or 1h30m")
    total = sum(float(amount) * UNITS[unit] for amount, unit in re.findall(r"(\d+(?:\.\d+)?)([smhd])", text))
    if not 0 < total < float("inf"):
        raise ValueError("must be longer than zero")
    return total


def _duration(text: str) -> str:
    seconds(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]
"""A length of time as text: 90s, 10m, 2h, 1h30m."""


def budget_seconds(budget: str | None) -> float | None:
    """A budget given on the command line, in seconds; None where none is given.

    Raises: RecipeError if it is no duration.
    """
    if budget is None:
        return None
    try:
        return seconds(budget)
    except ValueError as error:
        what = str(error).split(";")[0]
        raise RecipeError(f"the budget '{budget}' {what}", fix="write 90s, 10m, 2h or 1h30m") from error


def _unknown(kind: str, name: object, choices: list[str]) -> PydanticCustomError:
    text = f"unknown {kind} '{name}'{plugins.nearest(str(name), choices)}"
    return PydanticCustomError("unknown_plugin", "{text}", {"text": text, "known": ", ".join(choices)})


def known(kind: str, *extra: str):
    """A check that every name is a plugin of that kind (or one of `extra`), naming the nearest."""

    def check(value: Any) -> Any:
        for name in [value] if isinstance(value, str) else value or []:
            if name not in extra and name not in plugins.names(kind):
                raise _unknown(kind, name, [*extra, *plugins.names(kind)])
        return value

    return check


class Section(BaseModel):
    """Base of every part of a recipe: frozen, an unknown key is an error, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class PluginChoice(BaseModel):
    """A plugin by name with its own options, written flat: `{type: lora, r: 8}`, or just `lora`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: ClassVar[str]
    """Kind of plugin, as in `plugins.ROOMS`."""
    key: ClassVar[str]
    """The key that holds the plugin's name in the file."""
    fallback: ClassVar[str]
    """The plugin where none is named."""
    nested: ClassVar[bool] = False
    """Whether options are written below the name, `{pii: {action: mask}}`, as suits an item of a list."""

    name: str
    """The plugin's name."""
    options: SerializeAsAny[plugins.Options]
    """Its options, complete: the plugin's `Config`."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {cls.key: value}
        if not isinstance(value, Mapping):
            raise PydanticCustomError(
                "plugin_type", f"must be a name ({', '.join(cls.names())}), or a name and options"
            )
        if isinstance(value.get("options"), plugins.Options):
            return value
        given = dict(value)
        if cls.nested and cls.key not in given:
            if len(given) != 1:
                raise PydanticCustomError("plugin_type", "must be a name, or one name with its options below it")
            ((name, options),) = given.items()
            if not isinstance(options, Mapping | None):
                raise PydanticCustomError("plugin_type", f"must give the options of {name} by name")
            given = {**(options or {}), cls.key: name}
        name = given.pop(cls.key, cls.fallback)
        if name == "auto" and cls.fallback == "auto":
            if given:
                raise PydanticCustomError("plugin_auto", f"has options, so it needs a {cls.key} too (not auto)")
            return {"name": "auto", "options": plugins.Options()}
        if not isinstance(name, str) or name not in plugins.find(cls.kind):
            raise _unknown(cls.kind, name, cls.names())
        # A ValidationError raised here keeps the places of its own errors, below this one's.
        return {"name": name, "options": plugins.get(cls.kind, name).Config.model_validate(given)}  # type: ignore[attr-defined]

    @model_serializer
    def _flat(self) -> dict[str, Any] | str:
        options = self.options.model_dump(mode="json")
        if self.nested:
            return {self.name: options} if options else self.name
        return {self.key: self.name, **options}

    @classmethod
    def names(cls) -> list[str]:
        """What may be chosen."""
        return [*plugins.names(cls.kind), *(["auto"] if cls.fallback == "auto" else [])]

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """One entry per plugin, told apart by its name; editors complete from it."""
        forms: list[dict[str, Any]] = [{"enum": cls.names()}]
        for name, plugin in plugins.find(cls.kind).items():
            core = plugin.Config.__pydantic_core_schema__  # type: ignore[attr-defined]
            schema = dict(handler.resolve_ref_schema(handler(core)))
            if cls.nested:
                about = plugins.summary(plugin)
                forms.append({"type": "object", "properties": {name: schema}, "required": [name], "title": name,
                              "additionalProperties": False, "description": about})  # fmt: skip
                continue
            schema["properties"] = {cls.key: {"const": name}, **schema.get("properties", {})}
            schema["required"] = [*([] if name == cls.fallback else [cls.key]), *schema.get("required", [])]
            schema["title"] = name
            schema["description"] = plugins.summary(plugin)
            forms.append(schema)
        return {"oneOf": forms}
