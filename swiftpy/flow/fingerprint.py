"""Keys of calls: the same for the same function and arguments in every run of a script.

Pickles will not do: that of `(a, a)` differs from that of `(a, b)` with equal a and b, and that of a set of strings
from run to run.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from swiftpy.flow.future import Future

#: Bytes of a key.
SIZE = 16


def key_of_call(function: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The key of a call of a function with this fingerprint. Raises TypeError for arguments that have none.

    Classes, of objects or as arguments themselves, count with all that `of_function` says: in `class Settings: rate =
    0.1`, nothing but the class has the value.
    """
    return _digest(function, _encode(args, 0, _Walk()), _encode(kwargs, 0, _Walk()))


def of_function(function: Callable[..., Any]) -> bytes:
    """The fingerprint of a function: its name and code, its defaults, what it has closed over, and the globals that it
    names, as they are now: values, classes with what is in them, and functions, likewise, with their attributes. Of a
    module that lies beside the script, what the function names of it counts so, too; of libraries, functions and
    classes go by their names.
    What cannot be encoded (a lock, an open file) does not count, nor do comments."""
    return _encode(function, 0, _Walk(of_function=True))


class _Walk:
    """The objects that were met, by id, and what stands for each from then on: while it is worked out, how deep it lies
    or, for a function, its name; then its encoding. Objects that all know each other would else be gone through in
    every order.

    `of_function`: futures are waited for, as the function is sent with their values. `strict`: a function that has
    closed over what cannot be encoded cannot be, either: it is an argument, and the call is not compared.
    """

    def __init__(self, of_function: bool = False) -> None:
        self.of_function = of_function
        self.strict = not of_function
        self.met: dict[int, tuple[Any, bytes]] = {}


def _digest(*parts: bytes) -> bytes:
    hasher = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


_ATOMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i%d" % value,
    float: lambda value: b"f" + struct.pack("<d", value),
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: lambda value: b"s" + value.encode("utf-8", "surrogatepass"),
    bytes: lambda value: b"b" + value,
    type(Ellipsis): lambda value: b"E",
    pickle.PickleBuffer: lambda value: b"B" + _digest(value.raw()),
}


def _encode(value: Any, depth: int, walk: _Walk) -> bytes:
    """A value as bytes; `depth`: in how many objects it is."""
    atom = _ATOMS.get(type(value))
    if atom is not None:
        data = atom(value)
        return data if len(data) <= 64 else b"h" + data[:1] + _digest(data)
    value = _unwrapped(value)
    if id(value) in walk.met:
        return walk.met[id(value)][1]
    walk.met[id(value)] = value, b"^" + (_full_name(value) if isinstance(value, types.FunctionType) else b"%d" % depth)
    try:
        data = _encode_new(value, depth + 1, walk)
    except BaseException:
        del walk.met[id(value)]
        raise
    walk.met[id(value)] = value, data
    return data


def _encode_new(value: Any, depth: int, walk: _Walk) -> bytes:
    kind = type(value)
    if kind is tuple or kind is list:
        return _sequence(kind, [_encode(element, depth, walk) for element in value])
    if kind is dict:
        pairs = [(_encode(key, depth, walk), _encode(element, depth, walk)) for key, element in value.items()]
        return b"d" + _digest(*sorted(_digest(*pair) for pair in pairs))
    if kind is set or kind is frozenset:
        return b"S" + _digest(*sorted(_encode(element, depth, walk) for element in value))
    if kind is Future:  # a function is sent with its value, and waits for it as well
        return _encode(value.result(None if walk.of_function else 0), depth, walk)
    if isinstance(value, types.FunctionType):
        return _encode_function(value, depth, walk)
    if isinstance(value, type):
        return _encode_class(value, depth, walk)
    if isinstance(value, types.ModuleType):
        return b"M" + value.__name__.encode()
    return _encode_object(value, depth, walk)


def _sequence(kind: type, parts: list[bytes]) -> bytes:
    return b"t" + kind.__name__.encode() + _digest(*parts)


def _encode_object(value: Any, depth: int, walk: _Walk) -> bytes:
    """Any other object, by what pickle would make of it."""
    reduce = copyreg.dispatch_table.get(type(value))  # as for compiled regular expressions, often globals of a script
    reduced = reduce(value) if reduce is not None else value.__reduce_ex__(5)
    if isinstance(reduced, str):
        module = pickle.whichmodule(value, reduced)  # type: ignore[attr-defined]  # not in typeshed
        return b"g" + _digest(f"{module}:{reduced}".encode())  # numpy.add does not say it before numpy 2
    make, args, state, elements, items = (*reduced, None, None, None)[:5]
    parts = [make, args, state, *(elements or ()), *(items or ())]
    return b"o" + _digest(*[_encode(part, depth, walk) for part in parts])


def _if_possible(value: Any, depth: int, walk: _Walk) -> bytes:
    """b"" for what cannot be encoded."""
    try:
        return _encode(value, depth, walk)
    except Exception:
        return b""


def _full_name(value: types.FunctionType | type) -> bytes:
    return f"{value.__module__}:{value.__qualname__}".encode()


def _encode_function(function: types.FunctionType, depth: int, walk: _Walk) -> bytes:
    if _is_installed(function.__module__):
        return b"g" + _full_name(function)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    encode = _encode if walk.strict else _if_possible
    closure = _sequence(list, [encode(content, depth, walk) for content in cells])
    defaults = [encode(part, depth, walk) for part in (function.__defaults__, function.__kwdefaults__)]
    named = [(_encode(name, depth, walk), _if_possible(value, depth, walk)) for name, value in _named(function)]
    near = _sequence(list, [_sequence(tuple, list(pair)) for pair in named if pair[1]])
    own = [name.encode() + _if_possible(value, depth, walk) for name, value in sorted(vars(function).items())]
    return b"F" + _digest(_full_name(function), _encode_code(function.__code__), *defaults, closure, near, *own)


def _named(function: types.FunctionType) -> list[tuple[str, Any]]:
    """The globals that a function names, None for those that are not there (built-ins, attributes); in the place of a
    module of the script's own, what it has under any of these names: `tables.f` is `tables` and `f`."""
    names, read = sorted(_names(function.__code__)), _globals_read(function.__code__)
    named = [(name, function.__globals__.get(name) if name in read else None) for name in names]
    seen: set[str] = set()
    for path, value in named:  # which grows
        if isinstance(value, types.ModuleType) and not _is_installed(value.__name__) and value.__name__ not in seen:
            seen.add(value.__name__)
            named += [(f"{path}.{name}", vars(value)[name]) for name in names if name in vars(value)]
    return [(path, value) for path, value in named if not isinstance(value, types.ModuleType)]


def _encode_class(cls: type, depth: int, walk: _Walk) -> bytes:
    if _is_installed(cls.__module__):
        return b"C" + _full_name(cls)
    strict, walk.strict = walk.strict, False
    try:
        parts = [_full_name(cls), *(_encode(base, depth, walk) for base in (*cls.__bases__, type(cls)))]
        for name, member in sorted(vars(cls).items(), key=lambda pair: pair[0]):
            if methods := _functions_of(member):
                parts += [_encode(method, depth, walk) for method in methods]
            elif not name.startswith("__"):
                parts += [name.encode(), _if_possible(member, depth, walk)]
    finally:
        walk.strict = strict
    return b"C" + _digest(*parts)


def _functions_of(member: Any) -> list[types.FunctionType]:
    """Those that a member of a class is made of: a method, a static or class method, a (cached) property."""
    if isinstance(member, property):
        parts = [member.fget, member.fset, member.fdel]
    elif isinstance(member, functools.cached_property):
        parts = [member.func]
    else:
        parts = [member.__func__ if isinstance(member, staticmethod | classmethod) else member]
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _encode_code(code: types.CodeType) -> bytes:
    constants = [_encode_code(c) if isinstance(c, types.CodeType) else _encode(c, 0, _Walk()) for c in code.co_consts]
    names = [*code.co_names, "/", *code.co_varnames, "/", *code.co_freevars]
    version = b"%d.%d" % sys.version_info[:2]  # another one has other code for the same function
    return _digest(version, code.co_code, b"%d" % code.co_flags, " ".join(names).encode(), *constants)


def _names(code: types.CodeType) -> set[str]:
    return set(code.co_names).union(*map(_names, _inner(code)))


_READS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


@functools.lru_cache(maxsize=1024)
def _globals_read(code: types.CodeType) -> set[str]:
    """Those of its names that are globals, and not attributes."""
    read = {i.argval for i in dis.get_instructions(code) if i.opname in _READS}
    return read.union(*map(_globals_read, _inner(code)))


def _inner(code: types.CodeType) -> Iterable[types.CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, types.CodeType))


def _unwrapped(value: Any) -> Any:
    """The function in what `task`, `resource`, `functools.cache` and the like make of one."""
    within = getattr(value, "__wrapped__", None)
    return within if isinstance(within, types.FunctionType) and not isinstance(value, types.FunctionType) else value


def _is_installed(module: str | None) -> bool:
    """Whether a module is part of a library, whose functions and classes go by their names; so is ours."""
    found = sys.modules.get(module or "")
    path = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)
    library = path is None or "site-packages" in path or path.startswith(sys.base_prefix)
    return module != "__main__" and (library or str(module).partition(".")[0] == __name__.partition(".")[0])
