"""The options of a method, network or data set, as the parameters of its signature declare them."""

import inspect
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic

from experiment.core.errors import UserError

Parameter = inspect.Parameter


def options_model(part: Callable, title: str, given: tuple[str, ...]) -> type[pydantic.BaseModel]:
    """A pydantic model of the options of a class or function.

    The annotation of a parameter may state a range: `Annotated[int, pydantic.Field(ge=1)]`. `title`
    is what messages call the part; `given` are parameters that are not options. Raises
    UserError if the part has a parameter without a default that no option can set.
    """
    # Types and defaults. The values are `Any` because mypy compares unpacked fields also with the
    # keywords of create_model itself, such as `__doc__`.
    fields: dict[str, Any] = {}
    extra: Literal["allow", "forbid"] = "forbid"
    for parameter in _signature(part, title).parameters.values():
        if parameter.kind is Parameter.VAR_KEYWORD:
            extra = "allow"
        elif _is_option(parameter, title) and parameter.name not in given:
            required = parameter.default is Parameter.empty
            default = ... if required else parameter.default
            fields[parameter.name] = (_option_type(parameter.annotation), default)
    settings = pydantic.ConfigDict(
        extra=extra,
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )
    with warnings.catch_warnings():
        # Options may be called `copy` or `json`, although pydantic's models have such attributes.
        warnings.simplefilter("ignore", UserWarning)
        return pydantic.create_model(f"{title} options", __config__=settings, **fields)


def is_plain(value: Any) -> bool:
    """Whether a value consists of what a YAML file can hold."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _signature(part: Callable, title: str) -> inspect.Signature:
    """A part's signature; annotations that are strings without a meaning stay strings.

    Raises UserError for a class of Python's own that has none.
    """
    try:
        return inspect.signature(part, eval_str=True)
    except ValueError:
        raise UserError(
            f"{title} does not tell which arguments it takes: name a class or function that is "
            f"written in Python"
        ) from None
    except Exception:  # what a string says may be no annotation
        return inspect.signature(part)


def _is_option(parameter: Parameter, title: str) -> bool:
    """Whether a parameter can be set in a file, where the key `name` says which part it is."""
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return False
    reserved = parameter.name == "name" or parameter.name.startswith("_")
    if not reserved and parameter.kind is not Parameter.POSITIONAL_ONLY:
        return True
    if parameter.default is Parameter.empty:
        raise UserError(
            f"{title} needs an argument '{parameter.name}', which no option can give: 'name' and "
            f"names that start with '_' are not options; neither are positional-only arguments. "
            f"Give it a default or another name"
        )
    return False


def _option_type(annotation: Any) -> Any:
    """The type that an option is checked against."""
    try:
        pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # not a type: there is nothing to check against
        return Any
    if annotation is Parameter.empty or isinstance(annotation, str):
        return Any
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if plain is tuple or get_origin(plain) is tuple:
        # YAML has no tuples: accept a list instead.
        return Annotated[annotation, pydantic.Field(strict=False)]
    return annotation
