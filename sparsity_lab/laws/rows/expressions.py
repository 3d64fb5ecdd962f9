"""Expressions over the columns of a table, as users write them: `tokens / 1e9`, `sparsity <= 0.75 and seed == 0`.

Python's syntax, and nothing of Python's reach: names are columns (in backticks where they are no Python names, as in
`` `val/loss` ``), and there are numbers, texts, + - * / **, comparisons, `in`, `and`, `or`, `not`, and the functions
log, exp, sqrt and abs. Anything else is refused. A missing cell equals nothing and is neither larger nor smaller than
anything.
"""

from __future__ import annotations

import ast
import operator
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.errors import RecordError, refusing
from sparsity_lab.laws.rows.tables import InputTable

LONGEST = 2000
ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = MappingProxyType(
    {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power}
)
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
    }
)
FUNCTIONS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"log": np.log, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs}
)


def numbers(text: str, table: InputTable, field: str) -> NDArray[np.float64]:
    """(rows,) of numbers: the column that `text` names, or what it says of the columns.

    Args:
        text: a column's name, or an expression.
        table: the columns.
        field: what the expression is for, in errors.

    Raises:
        RecordError: the expression cannot be read, names no column, or gives no numbers.
    """
    if text in table.columns:
        return table.numbers(text)
    found = _Reader(text, table, field).read(quantity=True)
    if found.dtype != np.float64:
        raise RecordError(f"gives no numbers: {text}", where=table.path, field=field)
    return np.broadcast_to(found, len(table))


def condition(text: str, table: InputTable, field: str) -> NDArray[np.bool_]:
    """(rows,) of truth values.

    Raises:
        RecordError: the expression cannot be read, names no column, or is no condition.
    """
    found = _Reader(text, table, field).read()
    if found.dtype != np.bool_:
        raise RecordError(f"is no condition: {text}", field=field, expected="a comparison, as in 'sparsity <= 0.75'")
    return np.broadcast_to(found, len(table))


@dataclass(frozen=True, eq=False)
class _Reader:
    text: str
    table: InputTable
    field: str

    def read(self, *, quantity: bool = False) -> NDArray[Any]:
        """What the text says; of a `quantity`, which is calculated with, true is no number."""
        quoted: list[str] = []

        def name(match: re.Match[str]) -> str:
            quoted.append(match[1])
            return f"quoted_{len(quoted) - 1}_"

        if len(self.text) > LONGEST:
            raise RecordError("is too long", field=self.field, expected=f"at most {LONGEST} characters")
        with (
            refusing(None, RecordError, field=self.field, found=self.text),
            warnings.catch_warnings(action="ignore"),  # of Python's parser, on what it finds odd
            np.errstate(all="ignore"),  # what is not finite is refused where it is used, with its row
        ):
            tree = ast.parse(re.sub(r"`([^`]*)`", name, self.text).strip(), mode="eval")
            names = {f"quoted_{number}_": column for number, column in enumerate(quoted)}
            match tree.body:
                case ast.Name(id=whole) if quantity and names.get(whole, whole) in self.table.columns:
                    return self.table.numbers(names.get(whole, whole))  # which names the cell that is no number
                case body:
                    return np.asarray(self._value(body, names))

    def _value(self, node: ast.expr, names: Mapping[str, str]) -> Any:
        found: Any
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                found = np.float64(value if value <= sys.float_info.max else np.inf)
            case ast.Constant(value=str(text)):
                found = np.array(text, dtype=object)
            case ast.Name(id=name):
                found = self._column(names.get(name, name))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                found = ARITHMETIC[type(op)](self._number(left, names), self._number(right, names))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                found = -self._number(operand, names)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                found = ~self._truth(operand, names)
            case ast.BoolOp(op=op, values=values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                found = join.reduce(np.broadcast_arrays(*(self._truth(value, names) for value in values)))
            case ast.Compare(left=left, ops=ops, comparators=others):
                found = self._comparison([left, *others], ops, names)
            case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]) if function in FUNCTIONS:
                found = FUNCTIONS[function](self._number(argument, names))
            case _:
                raise self._refusal(node)
        return found

    def _comparison(self, parts: list[ast.expr], ops: list[ast.cmpop], names: Mapping[str, str]) -> NDArray[np.bool_]:
        truths = []
        for left, op, right in zip(parts[:-1], ops, parts[1:], strict=True):
            one = self._value(left, names)
            match op:
                case ast.In() | ast.NotIn():
                    if not isinstance(right, ast.Tuple | ast.List):
                        raise self._refusal(right)
                    among = [self._compared(ast.Eq(), one, self._value(other, names)) for other in right.elts]
                    found = np.logical_or.reduce(np.broadcast_arrays(False, *among))
                    truths.append(~found if isinstance(op, ast.NotIn) else found)
                case _:
                    truths.append(self._compared(op, one, self._value(right, names)))
        return np.asarray(np.logical_and.reduce(np.broadcast_arrays(*truths)), dtype=bool)

    def _compared(self, op: ast.cmpop, one: Any, other: Any) -> Any:
        if type(op) not in COMPARISONS:
            raise RecordError("cannot be read: no such comparison", field=self.field, found=self.text)
        texts = {np.asarray(side).dtype == object for side in (one, other)}
        if len(texts) > 1:
            raise RecordError("compares a number with a text", field=self.field, found=self.text)
        if texts == {True} and not isinstance(op, ast.Eq | ast.NotEq):
            raise RecordError("asks which of two texts is larger", field=self.field, found=self.text)
        return np.asarray(COMPARISONS[type(op)](one, other), dtype=bool)

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self.table.columns:
            known = ", ".join(self.table.columns) or "none"
            raise RecordError("no such column", where=self.table.path, field=self.field, found=name, expected=known)
        if self.table.holds(name, str):
            return np.array(self._texts(name), dtype=object)
        if self.table.holds(name, bool):  # to be compared with True or 1; nothing to calculate with
            return np.array([np.nan if cell is None else float(cell) for cell in self.table.cells(name)])
        return self.table.numbers(name)

    def _texts(self, name: str) -> list[str | None]:
        return [None if cell is None else str(cell) for cell in self.table.cells(name)]

    def _number(self, node: ast.expr, names: Mapping[str, str]) -> Any:
        if isinstance(node, ast.Name) and names.get(node.id, node.id) in self.table.columns:
            return self.table.numbers(names.get(node.id, node.id))  # which names the cell that is no number
        value = self._value(node, names)
        if np.asarray(value).dtype == object:
            raise RecordError("calculates with a text", field=self.field, found=self.text)
        return np.asarray(value, dtype=np.float64)

    def _truth(self, node: ast.expr, names: Mapping[str, str]) -> Any:
        value = np.asarray(self._value(node, names))
        if value.dtype != np.bool_:
            raise RecordError("joins something that is no condition", field=self.field, found=self.text)
        return value

    def _refusal(self, node: ast.expr) -> RecordError:
        return RecordError(
            f"is not understood: {ast.unparse(node)}",
            field=self.field,
            found=self.text,
            expected="columns, numbers, texts, + - * / **, comparisons, in, and, or, not, log, exp, sqrt, abs",
        )
