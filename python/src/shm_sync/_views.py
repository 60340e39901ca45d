"""Views of the values in a segment: they read and write its memory in place.

A view checks each value that it writes, because a Rust program may assume that a
``bool`` is 0 or 1 and that an enum has one of its variants.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, overload

from . import _types
from ._errors import CorruptSegment, NotFound, NotHeld
from ._types import Field, Type

#: The C type of each integer and float by its name in Rust.
_NUMBERS: dict[str, Any] = {
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "usize": ctypes.c_uint64,
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "isize": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}


class Access:
    """The right to use a part of a segment's memory."""

    def __init__(self, memory: Any, *, writable: bool = False) -> None:
        #: A segment's memory, or a :class:`Buffer`.
        self.segment = memory
        self._writable = writable

    def check_read(self) -> None:
        """Raises an exception if the memory can't be read any more."""
        self.segment.check_open()

    def check_write(self, what: str) -> None:
        """Raises an exception if the memory can't be written."""
        self.check_read()
        if not self._writable:
            raise NotHeld(
                f"{what} is in no mutex whose lock is held, so it can't be changed: "
                "put it into a ShmMutex, or use an atomic"
            )


class Buffer:
    """Private memory for a value, with the methods of a segment's memory."""

    len = 0

    def __init__(self, size: int, data: bytes = b"") -> None:
        self.data = bytearray(data[:size] or size)

    def check_open(self) -> None:
        """Does nothing: it is always there."""

    def read(self, offset: int, size: int) -> bytes:
        """Returns a copy of the bytes at ``offset``."""
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Replaces the bytes at ``offset``."""
        self.data[offset : offset + len(data)] = data


class View:
    """The base of the views. ``offset`` is in bytes from the start of the value."""

    __slots__ = ("_access", "_offset", "_type")

    _type: Type
    _offset: int
    _access: Access

    def __init__(self, type_: Type, offset: int, access: Access) -> None:
        object.__setattr__(self, "_type", type_)
        object.__setattr__(self, "_offset", offset)
        object.__setattr__(self, "_access", access)

    def __setattr__(self, name: str, value: Any) -> None:
        # A new attribute would look like a change of the segment.
        if name.startswith("_") or isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
            return
        raise AttributeError(f"{name!r} can't be assigned: {self._how_to_change()}")

    def _how_to_change(self) -> str:
        return f"a {self._type.kind} has no such attribute"


class Cell(View):
    """A value that is assigned as a whole, such as the number in a ``ShmMutex<u64>``."""

    @property
    def value(self) -> Any:
        """The value."""
        return get(self._type, self._offset, self._access)

    @value.setter
    def value(self, value: Any) -> None:
        write(self._type, self._offset, self._access, value)

    def __repr__(self) -> str:
        return f"<{self._type.kind} {self.value!r}>"


class Struct(View):
    """A struct or a tuple: its fields are attributes. Those of tuples are ``[0]``, …

    The value of a field that is a number, a text or an enum is the attribute itself.
    Assigning to the attribute writes to the segment.
    """

    def __getattr__(self, name: str) -> Any:
        field = self._type.field(name)
        if field is None:
            raise AttributeError(self._no_field(name))
        return get(field.type, self._offset + field.offset, self._access)

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._type.field(name)
        if field is None:
            raise AttributeError(self._no_field(name))
        write(field.type, self._offset + field.offset, self._access, value)

    def __getitem__(self, key: str | int) -> Any:
        return self.__getattr__(self._name_of(key))

    def __setitem__(self, key: str | int, value: Any) -> None:
        self.__setattr__(self._name_of(key), value)

    def __iter__(self) -> Iterator[Any]:
        return (self[field.name] for field in self._type.fields)

    def __len__(self) -> int:
        return len(self._type.fields)

    def __dir__(self) -> list[str]:
        return [field.name for field in self._type.fields]

    def __repr__(self) -> str:
        parts = (f"{field.name}={self[field.name]!r}" for field in self._type.fields)
        return f"<{self._type.kind} {', '.join(parts)}>"

    def _name_of(self, key: str | int) -> str:
        name = str(key)
        if self._type.field(name) is None:
            raise (IndexError if isinstance(key, int) else KeyError)(self._no_field(name))
        return name

    def _no_field(self, name: str) -> str:
        names = ", ".join(field.name for field in self._type.fields)
        return f"there is no field {name!r}; the fields are: {names}"


class Array(View, Sequence[Any]):
    """An array, a slice or a ``ShmVec``: a sequence."""

    __slots__ = ("_count", "_stride")

    def __init__(self, type_: Type, offset: int, access: Access, count: int, stride: int) -> None:
        super().__init__(type_, offset, access)
        self._count = count
        self._stride = stride

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        return get(self._type, self._at(index), self._access)

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if not isinstance(index, slice):
            write(self._type, self._at(index), self._access, value)
            return
        positions = range(*index.indices(self._count))
        items = [encode(self._type, item) for item in value]
        if len(items) != len(positions):
            raise ValueError(f"{len(items)} values can't replace {len(positions)} elements")
        self._access.check_write("this array")
        for position, item in zip(positions, items):
            self._access.segment.write(self._at(position), item)

    def _at(self, index: int) -> int:
        position = index + self._count if index < 0 else index
        if not 0 <= position < self._count:
            raise IndexError(f"index {index} of an array of {self._count}")
        return self._offset + position * self._stride

    def __repr__(self) -> str:
        shown = [repr(item) for item in self[:8]]
        if self._count > 8:
            shown.append(f"… {self._count} in all")
        return f"[{', '.join(shown)}]"


class Vec(Array):
    """A ``ShmVec``: a sequence whose length changes."""

    __slots__ = ("_vec",)

    def __init__(self, type_: Type, offset: int, access: Access) -> None:
        elements = part_of(type_, "elements")
        array = elements.type.fields[0]
        self._vec = (type_, offset, array.offset)
        super().__init__(array.type, offset + elements.offset, access, 0, array.type.size)

    def __len__(self) -> int:
        type_, offset, capacity = self._vec
        length = part_of(type_, "len")
        return min(int(read(length.type, offset + length.offset, self._access)), capacity)

    def __getitem__(self, index: Any) -> Any:
        self._count = len(self)
        return super().__getitem__(index)

    def __setitem__(self, index: int | slice, value: Any) -> None:
        self._count = len(self)
        super().__setitem__(index, value)

    @property
    def capacity(self) -> int:
        """The greatest number of elements."""
        return self._vec[2]

    def append(self, value: Any) -> None:
        """Appends an element.

        The length changes last, so a process that is killed meanwhile leaves the old
        elements.

        :raises IndexError: the vec is full.
        """
        length = len(self)
        if length == self.capacity:
            raise IndexError(f"the ShmVec is full: it has {length} elements")
        write(self._type, self._offset + length * self._stride, self._access, value)
        self._set_len(length + 1)

    def pop(self) -> Any:
        """Removes the last element, and returns it.

        :raises IndexError: the vec is empty.
        """
        length = len(self)
        if length == 0:
            raise IndexError("the ShmVec is empty")
        value = detached(self[length - 1])
        self._set_len(length - 1)
        return value

    def clear(self) -> None:
        """Removes all elements."""
        self._set_len(0)

    def _set_len(self, length: int) -> None:
        type_, offset, _ = self._vec
        field = part_of(type_, "len")
        write(field.type, offset + field.offset, self._access, length)


class Atomic(View):
    """An atomic number, which may be used without a lock."""

    @property
    def _number(self) -> Type:
        return Type(self._type.kind[len("Atomic") :].lower(), self._type.size, 1, (), (), 1, 1)

    def _how_to_change(self) -> str:
        return f"call store to change an {self._type.kind}"

    def load(self) -> Any:
        """Returns the value."""
        self._access.check_read()
        return _from_bits(
            self._number,
            self._access.segment.atomic("load", self._offset, self._type.size),
        )

    def store(self, value: Any) -> None:
        """Replaces the value."""
        self.swap(value)

    def swap(self, value: Any) -> Any:
        """Replaces the value, and returns the old one."""
        self._access.check_read()
        bits = _to_bits(self._number, value)
        old = self._access.segment.atomic("swap", self._offset, self._type.size, bits)
        return _from_bits(self._number, old)

    def fetch_add(self, value: int) -> int:
        """Adds to the value, which wraps around, and returns the old one."""
        self._access.check_read()
        if self._type.kind == "AtomicBool":
            raise TypeError("an AtomicBool has no sum: use swap")
        bits = value & ((1 << 8 * self._type.size) - 1)
        old = self._access.segment.atomic("add", self._offset, self._type.size, bits)
        return int(_from_bits(self._number, old))

    def __repr__(self) -> str:
        return f"<{self._type.kind} {self.load()!r}>"


class Variant(View):
    """A value of an enum whose variants have fields.

    Its fields are attributes. To replace it, assign a pair of the name of a variant and
    its fields, as a dict or a sequence: ``job.shape = ("Circle", {"radius": 2.0})``.
    """

    @property
    def variant(self) -> str:
        """The name of the variant. (A field of this name is ``["variant"]``.)"""
        return self._variant.name

    @property
    def _variant(self) -> _types.Variant:
        tag = int(read(self._type.fields[0].type, self._offset, self._access))
        for variant in self._type.variants:
            if variant.discriminant == tag:
                return variant
        raise CorruptSegment(f"{tag} is no variant of the enum")

    def __getattr__(self, name: str) -> Any:
        field = self._field(name)
        return get(field.type, self._offset + field.offset, self._access)

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._field(name)
        write(field.type, self._offset + field.offset, self._access, value)

    def _field(self, name: str) -> Field:
        variant = self._variant
        for field in variant.fields:
            if field.name == name:
                return field
        raise AttributeError(f"the variant {variant.name} has no field {name!r}")

    def __getitem__(self, key: str | int) -> Any:
        field = self._field(str(key))
        return get(field.type, self._offset + field.offset, self._access)

    def __dir__(self) -> list[str]:
        return [field.name for field in self._variant.fields]

    def __repr__(self) -> str:
        variant = self._variant
        parts = (f"{field.name}={self[field.name]!r}" for field in variant.fields)
        return f"<{variant.name} {', '.join(parts)}>"


class Opaque(View):
    """A part of a value whose type this package does not read, such as padding."""

    def __bytes__(self) -> bytes:
        self._access.check_read()
        return bytes(self._access.segment.read(self._offset, self._type.size))

    def __repr__(self) -> str:
        return f"<{self._type.kind} of {self._type.size} bytes>"


def get(type_: Type, offset: int, access: Access) -> Any:
    """Returns the value of a scalar, and a view of every other value."""
    kind = type_.kind
    if _is_scalar(type_):
        return read(type_, offset, access)
    if kind in ("struct", "tuple"):
        return Struct(type_, offset, access)
    if kind == "with tail":
        return Struct(type_, offset, access)
    if kind == "array":
        element = type_.fields[0]
        return Array(element.type, offset, access, element.offset, element.type.size)
    if kind == "slice":
        element = type_.fields[0]
        return Array(element.type, offset, access, access.segment.len, element.type.size)
    if kind == "ShmVec":
        return Vec(type_, offset, access)
    if kind == "CachePadded":
        inside = type_.fields[0]
        return get(inside.type, offset + inside.offset, access)
    if kind.startswith("Atomic"):
        return Atomic(type_, offset, access)
    if kind == "enum":
        return Variant(type_, offset, access)
    if kind.startswith(("Shm", "Published", "Lifelines", "PthreadCondvar")):
        return access.segment.object(type_, offset)
    return Opaque(type_, offset, access)


def view(type_: Type, offset: int, access: Access) -> Any:
    """Returns a view of any value: of a scalar or an enum, a :class:`Cell`."""
    is_whole = _is_scalar(type_) or type_.kind == "enum"
    return Cell(type_, offset, access) if is_whole else get(type_, offset, access)


def _is_scalar(type_: Type) -> bool:
    if type_.kind == "enum":
        return not any(variant.fields for variant in type_.variants)
    return type_.kind in _NUMBERS or type_.kind in (
        "u128",
        "i128",
        "bool",
        "char",
        "()",
        "NonZero",
        "ShmString",
        "ShmOption",
    )


def detached(value: Any) -> Any:
    """Returns a copy of a value that does not change with the segment.

    Structs become dicts, arrays lists, and enums with fields pairs of a name and a dict.
    """
    if isinstance(value, Struct):
        return {name: detached(value[name]) for name in dir(value)}
    if isinstance(value, Variant):
        return value.variant, {name: detached(value[name]) for name in dir(value)}
    if isinstance(value, Array):
        return [detached(item) for item in value]
    if isinstance(value, Atomic):
        return value.load()
    if isinstance(value, Cell):
        return detached(value.value)
    if isinstance(value, Opaque):
        return bytes(value)
    return value


def read(type_: Type, offset: int, access: Access) -> Any:
    """Reads a scalar."""
    access.check_read()
    kind = type_.kind
    if kind == "ShmString":
        length, text = part_of(type_, "len"), part_of(type_, "bytes")
        count = min(int(read(length.type, offset + length.offset, access)), text.type.size)
        data = access.segment.read(offset + text.offset, count)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            return data[: error.start].decode()
    if kind == "ShmOption":
        inside = part_of(type_, "value")
        if access.segment.read(offset, 1) == b"\0":
            return None
        return get(inside.type, offset + inside.offset, access)
    size = type_.fields[0].type.size if kind == "enum" else type_.size
    return _from_bits(type_, int.from_bytes(access.segment.read(offset, size), "little"))


def write(type_: Type, offset: int, access: Access, value: Any) -> None:
    """Replaces a value. An invalid value changes nothing."""
    if type_.kind.startswith("Atomic"):
        raise TypeError(f"an {type_.kind} can't be assigned: call store({value!r})")
    access.check_write(f"this {type_.kind}")
    data = encode(type_, value)
    if type_.kind == "ShmString":
        # The length is 0 while the bytes change, so that a killed process leaves a text.
        length, text = part_of(type_, "len"), part_of(type_, "bytes")
        access.segment.write(offset + length.offset, bytes(length.type.size))
        access.segment.write(offset + text.offset, data[text.offset :][: text.type.size])
        _write_part(length, offset, access, data)
    elif type_.kind == "ShmOption":
        # There is no value while its bytes change.
        access.segment.write(offset, b"\0")
        if data[0] != 0:
            _write_part(part_of(type_, "value"), offset, access, data)
            access.segment.write(offset, b"\1")
    else:
        access.segment.write(offset, data)


def _write_part(field: Field, offset: int, access: Access, data: bytes) -> None:
    part = data[field.offset : field.offset + field.type.size]
    access.segment.write(offset + field.offset, part)


def encode(type_: Type, value: Any) -> bytes:
    """Returns the bytes of a value. Padding is zero.

    :raises TypeError: the value is of another kind.
    :raises ValueError: the type has no such value.
    """
    kind = type_.kind
    memory = bytearray(type_.size)

    def put(field: Field, item: Any) -> None:
        memory[field.offset : field.offset + field.type.size] = encode(field.type, item)

    if kind == "ShmString":
        length, text = part_of(type_, "len"), part_of(type_, "bytes")
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is no text, as ShmString needs")
        data = value.encode()
        if len(data) > text.type.size:
            raise ValueError(
                f"the text has {len(data)} bytes, and this ShmString has room for {text.type.size}"
            )
        memory[text.offset : text.offset + len(data)] = data
        put(length, len(data))
    elif kind == "ShmOption":
        if value is not None:
            memory[0] = 1
            put(part_of(type_, "value"), value)
    elif kind == "ShmVec":
        elements = part_of(type_, "elements")
        element, capacity = elements.type.fields[0].type, elements.type.fields[0].offset
        items = list(value)
        if len(items) > capacity:
            raise ValueError(f"a ShmVec of {capacity} can't have {len(items)} elements")
        for index, item in enumerate(items):
            put(Field("", elements.offset + index * element.size, element), item)
        put(part_of(type_, "len"), len(items))
    elif kind == "array":
        element, count = type_.fields[0].type, type_.fields[0].offset
        items = list(value)
        if len(items) != count:
            raise ValueError(f"an array of {count} can't have {len(items)} elements")
        for index, item in enumerate(items):
            put(Field("", index * element.size, element), item)
    elif kind in ("struct", "tuple", "CachePadded"):
        for field, item in _pair(type_.fields, value, f"a {kind}"):
            put(field, item)
    elif kind == "enum" and not _is_scalar(type_):
        name, fields = (value, ()) if isinstance(value, str) else value
        for variant in type_.variants:
            if variant.name == name:
                break
        else:
            raise ValueError(_no_variant(type_, name))
        tag = type_.fields[0]
        bits = _to_bits(tag.type, variant.discriminant)
        memory[: tag.type.size] = bits.to_bytes(tag.type.size, "little")
        for field, item in _pair(variant.fields, fields, f"the variant {name}"):
            put(field, item)
    elif _is_scalar(type_):
        # The padding of an enum is no part of its number.
        size = type_.fields[0].type.size if kind == "enum" else type_.size
        memory[:size] = _to_bits(type_, value).to_bytes(size, "little")
    else:
        raise TypeError(f"a value of the type {kind} can't be assigned: change its parts")
    return bytes(memory)


def _pair(fields: tuple[Field, ...], value: Any, what: str) -> list[tuple[Field, Any]]:
    """Pairs fields with the items of a dict or a sequence, and none may be missing."""
    names = [field.name for field in fields]
    if isinstance(value, (Struct, Variant)):
        value = {name: value[name] for name in dir(value)}
    if isinstance(value, dict):
        if set(value) != set(names):
            raise ValueError(f"{what} has the fields {names}, not {list(value)}")
        return [(field, value[field.name]) for field in fields]
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError(f"{what} is a dict or a sequence of {names}, not {value!r}")
    if len(value) != len(names):
        raise ValueError(f"{what} has the fields {names}, not {len(value)} of them")
    return list(zip(fields, value))


def _no_variant(type_: Type, name: object) -> str:
    names = ", ".join(variant.name for variant in type_.variants)
    return f"there is no variant {name!r}; the variants are: {names}"


def _from_bits(type_: Type, bits: int) -> Any:
    kind = type_.kind
    if kind in _NUMBERS:
        return _NUMBERS[kind].from_buffer_copy(bits.to_bytes(type_.size, "little")).value
    if kind in ("u128", "i128"):
        return bits - (1 << 128) if kind == "i128" and bits >> 127 else bits
    if kind == "bool":
        if bits > 1:
            raise CorruptSegment(f"{bits} is no bool")
        return bits == 1
    if kind == "char":
        if bits > 0x10FFFF or 0xD800 <= bits < 0xE000:
            raise CorruptSegment(f"{bits:#x} is no char")
        return chr(bits)
    if kind == "()":
        return None
    if kind == "NonZero":
        return _from_bits(type_.fields[0].type, bits)
    members = enumeration(type_)
    signed = _from_bits(type_.fields[0].type, bits)
    try:
        return members(signed)
    except ValueError:
        raise CorruptSegment(f"{signed} is no variant of the enum") from None


def _to_bits(type_: Type, value: Any) -> int:
    kind = type_.kind
    if kind in ("f32", "f64"):
        data = bytes(_NUMBERS[kind](value))
        return int.from_bytes(data, "little")
    if kind == "bool":
        if not isinstance(value, bool):
            raise TypeError(f"{value!r} is no bool")
        return int(value)
    if kind == "char":
        if not isinstance(value, str) or len(value) != 1 or 0xD800 <= ord(value) < 0xE000:
            raise TypeError(f"{value!r} is no single character")
        return ord(value)
    if kind == "()":
        return 0
    if kind == "NonZero":
        bits = _to_bits(type_.fields[0].type, value)
        if bits == 0:
            raise ValueError("0 is no NonZero number")
        return bits
    if kind == "enum":
        members = enumeration(type_)
        try:
            member = members[value] if isinstance(value, str) else members(value)
        except (KeyError, ValueError):
            raise ValueError(_no_variant(type_, value)) from None
        return _to_bits(type_.fields[0].type, int(member))
    try:
        value = int(operator.index(value))
    except TypeError:
        raise TypeError(f"{value!r} is no integer, as {kind} needs") from None
    bits = 8 * type_.size
    low, high = (-(1 << bits - 1), 1 << bits - 1) if kind.startswith("i") else (0, 1 << bits)
    if not low <= value < high:
        raise OverflowError(f"{value} is no {kind}: it is not in {low}..{high}")
    return int(value) & ((1 << bits) - 1)


@functools.cache
def _enumeration(variants: tuple[tuple[str, int], ...]) -> Any:
    try:
        return enum.IntEnum("Enum", list(variants))
    except ValueError:  # a name that `enum` reserves, such as `mro`
        return enum.IntEnum("Enum", [(f"{name}_", number) for name, number in variants])


def enumeration(type_: Type) -> Any:
    """Returns the members of an enum whose variants have no fields."""
    return _enumeration(tuple((variant.name, variant.discriminant) for variant in type_.variants))


def part_of(type_: Type, name: str) -> Field:
    """Returns the field of a type of the library."""
    field = type_.field(name)
    if field is None:
        raise CorruptSegment(f"the type {type_.kind} has no field {name!r}")
    return field


def find(type_: Type, path: str, access: Access) -> tuple[Type, int]:
    """Returns the type and the offset of the part at ``path``: ``workers[3].lock``.

    :raises NotFound: the value has no such part.
    """
    offset = 0
    rest = path if path.startswith((".", "[")) or not path else f".{path}"
    while True:
        while type_.kind == "CachePadded":
            offset, type_ = offset + type_.fields[0].offset, type_.fields[0].type
        if not rest:
            return type_, offset
        if rest.startswith("["):
            digits, bracket, rest = rest[1:].partition("]")
            if type_.kind not in ("array", "slice") or not bracket or not digits.isdecimal():
                raise NotFound(f"{path!r}: there is no element [{digits}]")
            element = type_.fields[0]
            count = element.offset if type_.kind == "array" else access.segment.len
            if int(digits) >= count:
                raise NotFound(f"{path!r}: the array has {count} elements")
            type_, offset = element.type, offset + int(digits) * element.type.size
            continue
        name = rest[1:].split(".", 1)[0].split("[", 1)[0]
        rest = rest[1 + len(name) :]
        field = type_.field(name)
        if field is None or type_.kind not in ("struct", "tuple", "with tail"):
            raise NotFound(f"{path!r}: there is no field {name!r}")
        type_, offset = field.type, offset + field.offset
