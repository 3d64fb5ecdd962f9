"""Configurations of `transformers`: a tree of fields as a value, and rules that make fields of a model's size."""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from sparsity_lab.errors import shown

Tree = dict[str, Any]
NAMES = ("width", "heads", "ff", "layers")
"""of what a rule may be made of: the model's size, chosen as for every family"""


def _canonical(value: Any) -> str:
    """One text for one tree.

    Raises:
        ValueError: a value is none of JSON's, or a number is not finite.
    """
    tree = json.loads(value) if isinstance(value, str) else value
    try:
        return json.dumps(dict(tree), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be a mapping of fields as a config.json has them: {error}") from None


ConfigTree = Annotated[
    str,
    BeforeValidator(_canonical),
    PlainSerializer(json.loads, return_type=Tree),
    WithJsonSchema({"type": "object"}),
]
"""fields of a `config.json`, as one text: equal trees are equal and hash equally"""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """The fields of both, those of `over` where both have one; sections are merged field by field."""
    result = dict(base)
    for field, value in over.items():
        inner = result.get(field)
        result[field] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def at(field: str, value: object) -> Tree:
    """The tree of one field, whose name is dotted where it lies in a section."""
    head, dot, rest = field.partition(".")
    return {head: at(rest, value) if dot else value}


def nearest_multiple(value: float, of: float) -> float:
    """The multiple of `of` nearest to `value`, at least one of it."""
    return max(1, int(value / of + 0.5)) * of


_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max, "round": round, "multiple": nearest_multiple}


def evaluated(rule: str, values: Mapping[str, float]) -> float:
    """A rule's value.

    Args:
        rule: arithmetic (+ - * / //) of numbers and names, with min, max, round and multiple(value, of).
        values: of the names.

    Raises:
        ValueError: it is no such rule.
        ArithmeticError: it divides by zero.
    """

    def value_of(node: ast.AST) -> float:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.Name(id=name) if name in values:
                return values[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                return float(_OPERATIONS[type(op)](value_of(left), value_of(right)))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
                return float(_FUNCTIONS[name](*map(value_of, arguments)))
            case _:
                raise ValueError(f"{ast.unparse(node)} is neither a number nor one of {', '.join(values)}")

    try:
        return value_of(ast.parse(rule, mode="eval").body)
    except (SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError("is no arithmetic") from None


def _known(rules: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    for field, rule in rules:
        try:
            evaluated(rule, dict.fromkeys(NAMES, 64.0))
        except ArithmeticError:
            pass
        except ValueError as error:
            message = f"{field}: {error}; expected arithmetic of {', '.join(NAMES)}, such as 4 * width"
            raise ValueError(f"{message}, found {shown(rule)}") from None
    return rules


def _pairs(value: object) -> object:
    return tuple(sorted((key, _text(rule)) for key, rule in value.items())) if isinstance(value, Mapping) else value


def _text(rule: object) -> object:
    return str(rule) if isinstance(rule, int | float) and not isinstance(rule, bool) else rule


SizeRules = Annotated[
    tuple[tuple[str, str], ...],
    BeforeValidator(_pairs),
    AfterValidator(_known),
    PlainSerializer(dict, return_type=dict[str, str]),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number"]}}),
]
"""fields of a configuration (dotted in sections) and the rules that make them"""
