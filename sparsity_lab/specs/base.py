"""The base of every spec: frozen, closed to unknown fields, finite, and printable as a JSON Schema."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Generic, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from ruamel.yaml import YAML

from sparsity_lab.errors import SCHEMES, holds_password, lost_slash, shown

Values = TypeVar("Values", bound=tuple[Hashable, ...])
Value = TypeVar("Value", bound=Hashable)
NO_NUMBERS, NOT_FINITE = frozenset({"bool", "bool_", "str", "bytes"}), ("Infinity", "-Infinity", "NaN")
"""names of types that pydantic would turn into numbers; what JSON writes for numbers that it has no digits for"""
LARGEST = 2**63 - 1
"""integer: tables and tensors hold no larger one, and floats none beyond 10³⁰⁸"""
KEPT = frozenset({"type", "cls", "metadata", "config"})
"""parts of schemas that hold no schemas"""
ENDINGS = (
    *(".json", ".parquet", ".yaml", ".yml", ".dvc"),
    *(".csv", ".tsv", ".jsonl", ".ndjson", ".feather", ".arrow", ".gz", ".zst"),
)
"""of files that lie beside the folders of studies, and of those that commands take where they take a study"""


def misfit(message: str, *at: str) -> PydanticCustomError:
    """An error of a field that only a validator of the whole model can see; `at` names the field from the model on."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "at": at})


def of_one_length(*names: str) -> Any:
    """A validator of models whose lists belong together, place by place."""

    def check(model: Any) -> Any:
        lengths = {name: len(getattr(model, name)) for name in names}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise misfit(f"lists must be of one length: {told}", min(lengths, key=lambda name: lengths[name]))
        return model

    return model_validator(mode="after")(check)


def _distinct(values: Values) -> Values:
    if len(set(values)) != len(values):
        raise ValueError(f"values must differ from one another, found {shown(list(values))}")
    return values


class FrozenMapping(Mapping[str, Value], Generic[Value]):
    """Values by name that never change: equal ones hash equally, whatever their order."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


def _plain_word(name: str) -> str:
    """A study `a.json` would put its folder where study `a` has a file; DVC passes over a study 1.5 without a word.

    Raises:
        ValueError: the name ends like a file, or YAML reads it as something else than text.
    """
    if name.lower().endswith(ENDINGS):
        raise ValueError(f"must not end like a file ({', '.join(ENDINGS)})")
    if YAML(typ="safe", pure=True).load(name) != name:
        raise ValueError(f"must be a word, not what YAML reads as a number, a date or a constant: v{name} would do")
    return name


def _without_password(location: str) -> str:
    """Specs are shared and kept for ever.

    Raises:
        ValueError: the location is a URL with a password.
    """
    if holds_password(location):
        raise ValueError("holds a password, which belongs in no spec: see docs/security.md")
    return location


def without_home(path: str) -> str:
    """A folder of the name ~ would be made: a spec is not read by a shell.

    Raises:
        ValueError: it begins with one.
    """
    if path.startswith("~"):
        raise ValueError(f"is not written whole: ~ is no home here (found {shown(path)})")
    return path


def _with_both_slashes(location: str) -> str:
    """A URL that lost a slash would be a folder of that name.

    Raises:
        ValueError: it did.
    """
    if scheme := lost_slash(location):
        raise ValueError(f"is no path and no URL (found {shown(location)}, expected {scheme}://…)")
    return location


def _no_url(path: str) -> str:
    """Of what is opened on this machine, or a node, alone.

    Raises:
        ValueError: it is a URL.
    """
    if "://" in path or path.partition(":/")[0] in SCHEMES:
        raise ValueError(f"is a URL, where only files and folders of a machine are used (found {shown(path)})")
    return path


PathOrUrl = Annotated[str, Field(min_length=1), AfterValidator(_without_password), AfterValidator(without_home)]
"""a path or a URL, without a password"""
FolderUri = Annotated[PathOrUrl, AfterValidator(_with_both_slashes)]
"""a folder, or a URI that pyarrow.fs reads"""
LocalPath = Annotated[str, AfterValidator(_no_url)]
"""a path that is no URL"""
FrozenNumbers = Annotated[
    Mapping[str, float], AfterValidator(FrozenMapping[float]), PlainSerializer(dict, return_type=dict[str, float])
]
FrozenSpans = Annotated[
    Mapping[str, tuple[float, float]],
    AfterValidator(FrozenMapping[tuple[float, float]]),
    PlainSerializer(dict, return_type=dict[str, tuple[float, float]]),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Sparsity = Annotated[
    float, Field(ge=0, lt=1, description="fraction of prunable weights that are exactly zero, 0 <= S < 1")
]
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
SpecName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100), AfterValidator(_plain_word)]
"""of a spec file, without its ending: also what folders, stages and searches are called"""
NAME_RULE = (
    "up to 100 of A-Z, a-z, 0-9, dot, underscore and dash, a letter or digit first, no ending such as .json, "
    "and no number, date, true, false or null"
)
Distinct = AfterValidator(_distinct)
"""for tuples whose values must differ from one another"""


def _number(value: Any, name: str = "number") -> Any:
    """What may become a number: neither true nor text, but for the words that JSON has for what is not finite."""
    if type(value).__name__ in NO_NUMBERS and value not in NOT_FINITE:
        raise PydanticCustomError("number_type", "Input should be a valid {name}", {"name": name})
    if name == "integer" and isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise PydanticCustomError("number_size", "Input should be an integer of at most 64 bits")
    return value


def _strict(schema: Any, not_finite: bool, model: type[BaseModel]) -> Any:
    """A model's core schema whose numbers take numbers only; other models inside it have seen to theirs.

    A model with validators of its own lies inside their schemas.

    JSON is checked by pydantic itself, at no cost, but for what is not finite where that is written as words.
    """
    match schema:
        case {"type": "int" | "float" as kind}:
            check = partial(_number, name="integer") if kind == "int" else _number
            checked = core_schema.no_info_before_validator_function(check, schema)
            plain = {**schema, "strict": True}
            if kind == "int" and not schema.keys() & {"lt", "le"}:
                plain["le"] = LARGEST
            if kind == "int" and not schema.keys() & {"gt", "ge"}:
                plain["ge"] = -LARGEST
            words = {"custom_error_type": "number_type", "custom_error_message": "Input should be a valid number"}
            union = {"type": "union", "mode": "left_to_right", "choices": [plain, checked], **words}
            from_json = union if kind == "float" and not_finite else plain
            made: Any = {"type": "json-or-python", "json_schema": from_json, "python_schema": checked}
        case {"type": "literal", "expected": [int(), *_]}:
            made = core_schema.no_info_before_validator_function(_number, schema)
        case {"type": "model", "cls": cls} if cls is not model and issubclass(cls, StrictModel):
            made = schema
        case {"type": "json-or-python"}:
            made = schema
        case dict():
            made = {key: value if key in KEPT else _strict(value, not_finite, model) for key, value in schema.items()}
        case list() | tuple():
            made = type(schema)(_strict(value, not_finite, model) for value in schema)
        case _:
            made = schema
    return made


class StrictModel(BaseModel):
    """A model whose numbers are numbers: `true` is not 1, and `"16"` not 16."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's schema of the model, strict in its numbers."""
        words = cls.model_config.get("ser_json_inf_nan") == "strings"
        return cast("CoreSchema", _strict(handler(source), words, cls))


class Spec(StrictModel):
    """A value a user writes: two specs with equal fields are equal, hash equally and never change."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,  # validators are built when a class is first used: a command uses a few of fifty
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic's, with what the source says under each field as its description.

        Pydantic would read the source of every class as it is made, which takes a query of a law a tenth of its time.
        """
        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for name, said in _said_of_fields(cls).items():
            if name in properties:
                properties[name].setdefault("description", said)
        return made


def _said_of_fields(cls: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a class and of those it comes from."""
    said: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if not issubclass(one, Spec):
            continue
        try:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        except OSError:  # a class that was typed, and stands in no file
            continue
        for statement, after in pairwise(getattr(body, "body", ())):
            match statement, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    said[name] = inspect.cleandoc(text)
    return said


class SpecFile(Spec):
    """A spec that is a file of its own: carries the format version and the kind."""

    version: int = Field(ge=1, le=1, description="format version of this kind of file")
