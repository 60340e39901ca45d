"""Reads the type table of a segment: the names, offsets and types of its fields.

``docs/format.md`` describes the bytes. The parser is total: any bytes give a table or
:class:`~shm_sync.CorruptSegment`.
"""

from __future__ import annotations

import dataclasses
import struct

from ._errors import CorruptSegment

_TYPE, _FIELD, _VARIANT = 1, 2, 3

#: The depth of nested types, beyond which a table is refused.
_MAX_DEPTH = 200

#: The greatest number of parts of a type, counted with those of its fields. Beyond it a
#: table is refused, because a stranger can describe 2**150 parts in a few lines.
_MAX_PARTS = 100_000

#: The longest message in words. A longer one would not be the work of a compiler.
_MAX_WORDS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a type."""

    name: str
    #: In bytes from the start of the type. Of the field ``0`` of an array, it is the
    #: number of elements, and of that of a slice the size of an element.
    offset: int
    type: Type


@dataclasses.dataclass(frozen=True)
class Variant:
    """A variant of an enum."""

    name: str
    discriminant: int
    fields: tuple[Field, ...]


@dataclasses.dataclass(frozen=True)
class Type:
    """A type of a value in a segment."""

    #: Such as ``struct``, ``u64``, ``array`` or ``ShmMutex``.
    kind: str
    size: int
    align: int
    fields: tuple[Field, ...]
    variants: tuple[Variant, ...]
    depth: int = dataclasses.field(compare=False)
    #: The number of parts. The elements of an array count once.
    parts: int = dataclasses.field(compare=False)
    #: The hash of the entry in the type table.
    fingerprint: int = dataclasses.field(default=0, compare=False)

    def field(self, name: str) -> Field | None:
        """Returns the field of this name."""
        for field in self.fields:
            if field.name == name:
                return field
        return None


def parse(table: bytes, fingerprint: int) -> Type:
    """Returns the type of a segment's value, from its type table.

    ``fingerprint`` is the one in the header of the segment.
    """
    words = _Words(table)
    types: dict[int, Type] = {}
    last = None
    while words.remaining():
        last = words.wide()
        length = words.one()
        if length > min(words.remaining(), _MAX_WORDS):
            raise CorruptSegment("a type in the type table is longer than the table")
        end = words.remaining() - length
        types[last] = _read_type(words, types, last)
        if words.remaining() != end:
            raise CorruptSegment("a type in the type table has another length than it says")
    if last is None:
        raise CorruptSegment("the segment has no type table")
    if last != fingerprint:
        raise CorruptSegment("the type table describes another type than the header")
    return types[last]


def _read_type(words: _Words, types: dict[int, Type], fingerprint: int) -> Type:
    kind = words.text(_TYPE)
    size, align = words.one(), words.one()
    field_count, variant_count = words.one(), words.one()
    fields = _read_fields(words, field_count, types)
    variants = []
    for _ in range(words.count(variant_count)):
        name = words.text(_VARIANT)
        discriminant = words.wide()
        if discriminant >> 127:
            discriminant -= 1 << 128
        inside = _read_fields(words, words.one(), types)
        variants.append(Variant(name, discriminant, inside))
    parts = list(fields)
    for variant in variants:
        parts.extend(variant.fields)
    depth = 1 + max((part.type.depth for part in parts), default=0)
    if depth > _MAX_DEPTH:
        raise CorruptSegment(f"the types are nested more than {_MAX_DEPTH} deep")
    count = 1 + sum(part.type.parts for part in parts)
    if count > _MAX_PARTS:
        raise CorruptSegment(f"the value has more than {_MAX_PARTS} parts")
    type_ = Type(kind, size, align, fields, tuple(variants), depth, count, fingerprint)
    if not _is_possible(type_):
        raise CorruptSegment(f"the type table has a {kind!r} that can't exist")
    return type_


#: The sizes of the numbers, in bytes.
SIZES = {
    **{f"{sign}{8 * size}": size for sign in "ui" for size in (1, 2, 4, 8, 16)},
    **{"usize": 8, "isize": 8, "f32": 4, "f64": 8, "bool": 1, "char": 4, "()": 0},
}

#: The fields that a type of the library needs here, and the kind of each, if it matters.
_NEEDED: dict[str, dict[str, str | None]] = {
    "ShmString": {"len": "u32", "bytes": "array"},
    "ShmVec": {"len": "u32", "elements": "array"},
    "ShmOption": {"is_some": "u8", "value": None},
    "ShmMutex": {"data": None},
    "ShmChannel": {"senders": "Side", "receivers": "Side", "slots": "array"},
    "ShmPipe": {"channel": "ShmChannel"},
    "Side": {"seats": "array"},
    "CachePadded": {"value": None},
}


def _is_possible(type_: Type) -> bool:
    """Returns whether a type has the parts on which the rest of this package relies."""
    kind = type_.kind
    if kind in SIZES:
        return type_.size == SIZES[kind]
    if kind.startswith("Atomic"):
        return type_.size == SIZES.get(kind[len("Atomic") :].lower())
    parts = list(type_.fields)
    for variant in type_.variants:
        parts.extend(variant.fields)
    if kind in ("array", "slice", "NonZero"):
        if len(parts) != 1:
            return False
        inside = parts[0].type
        if kind == "NonZero":
            return inside.kind in SIZES and inside.size == type_.size
        # Elements of size 0 can be any number. A program that visits each must end.
        is_countable = inside.size or parts[0].offset < 2**32
        return kind == "slice" or (
            bool(is_countable) and parts[0].offset * inside.size == type_.size
        )
    # A type of size 0 has a length that the creator of the segment chose.
    if type_.size and any(part.offset + part.type.size > type_.size for part in parts):
        return False
    if kind == "enum":
        tag = type_.fields[0].type.kind if len(type_.fields) == 1 else ""
        return tag[:1] in ("u", "i") and tag in SIZES and bool(type_.variants)
    needed = _NEEDED.get(kind, {})
    found = {field.name: field.type.kind for field in type_.fields}
    return all(name in found and of in (None, found[name]) for name, of in needed.items())


def _read_fields(words: _Words, count: int, types: dict[int, Type]) -> tuple[Field, ...]:
    fields = []
    for _ in range(words.count(count)):
        name = words.text(_FIELD)
        offset = words.one()
        type_ = types.get(words.wide())
        if type_ is None:
            raise CorruptSegment(f"the type of the field {name!r} is not in the type table")
        fields.append(Field(name, offset, type_))
    return tuple(fields)


class _Words:
    """Reads little-endian 64-bit words, one after the other."""

    def __init__(self, table: bytes) -> None:
        if len(table) % 8:
            raise CorruptSegment("the length of the type table is no multiple of 8")
        self._table = table
        self._at = 0

    def remaining(self) -> int:
        return (len(self._table) - self._at) // 8

    def one(self) -> int:
        word = self._bytes(1)
        return int(struct.unpack("<Q", word)[0])

    def wide(self) -> int:
        """Reads a number of two words, the lower one first."""
        low = self.one()
        return low | self.one() << 64

    def count(self, count: int) -> int:
        """Checks a count of items, each of which has at least one word."""
        if count > self.remaining():
            raise CorruptSegment("a count in the type table exceeds the table")
        return count

    def text(self, tag: int) -> str:
        head = self.one()
        if head & 0xFF != tag:
            raise CorruptSegment(f"the type table has the tag {head & 0xFF} instead of {tag}")
        length = head >> 8
        padded = self._bytes(-(-length // 8))
        try:
            return padded[:length].decode()
        except UnicodeDecodeError as error:
            raise CorruptSegment("a name in the type table is not UTF-8") from error

    def _bytes(self, words: int) -> bytes:
        if words > self.remaining():
            raise CorruptSegment("the type table ends within a type")
        start = self._at
        self._at += 8 * words
        return self._table[start : self._at]
