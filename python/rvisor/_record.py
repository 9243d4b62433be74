"""Values with named fields, as `dataclasses` makes them: as much of that as there is need of.

The package's own values are not made by `dataclasses`, which imports `inspect` and writes and compiles code for each
class: together that took 20 of the 120 ms in which a container on the shared kernel was created.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn, TypeVar, dataclass_transform

    Made = TypeVar("Made", bound="Record")
else:

    def dataclass_transform(**_said):
        """For type checkers only; to import the one of `typing` takes milliseconds."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Record:
    """A value that does not change.

    Its fields are what the class annotates, in that order; what the class sets one to is its default. Two are equal if
    they are of one class and all their fields are.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, object]] = {}
    _needed: ClassVar[frozenset[str]] = frozenset()
    _known: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *cls.__annotations__)
        cls._defaults = {name: getattr(cls, name) for name in cls._fields if hasattr(cls, name)}
        cls._known = frozenset(cls._fields)
        cls._needed = cls._known - cls._defaults.keys()

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self._fields, values, strict=False), **named)
        if len(given) != len(values) + len(named) or not self._needed <= given.keys() <= self._known:
            raise TypeError(f"{type(self).__name__} has {', '.join(self._fields)}: {len(values)} values, {[*named]}")
        self.__dict__.update(self._defaults)
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} does not change")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if self.__class__ is other.__class__ else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(map(self.__dict__.__getitem__, self._fields)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in items(self))})"


def items(record: Record) -> list[tuple[str, Any]]:
    """Names and values of the fields, in their order."""
    return [(name, getattr(record, name)) for name in record._fields]


def replace(record: Made, **changes: Any) -> Made:
    """The same, but for these fields."""
    return type(record)(**{**vars(record), **changes})
