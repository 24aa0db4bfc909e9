"""Keys of calls: the same for the same function and arguments in every run of a script.

Pickles will not do: that of `(a, a)` differs from that of `(a, b)` with equal a and b, and that of a set of strings
from run to run.
"""

from __future__ import annotations

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
    """The key of a call of a function with this fingerprint. Raises TypeError for arguments that have none."""
    return _digest(function, _encode(args, (), {}), _encode(kwargs, (), {}))


def of_function(function: Callable[..., Any]) -> bytes:
    """The fingerprint of a function: its name and code, its defaults, what it has closed over, the plain constants of
    its module that it names, lists and the like of such, and the functions of its module that it names, likewise; of
    classes of the script the methods' code. Comments do not count."""
    return _encode(function, (), {})


#: Functions that were met, by id, and what stands for them from then on: their digest or, while that is worked out,
#: their name. Helpers of a module that all name each other would else be gone through in every order.
_Met = dict[int, tuple[types.FunctionType, bytes]]


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


def _encode(value: Any, outer: tuple[int, ...], met: _Met) -> bytes:
    """A value as bytes; `outer` are the ids of the objects that it is in."""
    kind = type(value)
    atom = _ATOMS.get(kind)
    if atom is not None:
        data = atom(value)
        return data if len(data) <= 64 else b"h" + data[:1] + _digest(data)
    if id(value) in outer:
        return b"^%d" % outer.index(id(value))
    outer = (*outer, id(value))
    if kind is tuple or kind is list:
        return b"t" + kind.__name__.encode() + _digest(*[_encode(element, outer, met) for element in value])
    if kind is dict:
        pairs = [(_encode(key, outer, met), _encode(element, outer, met)) for key, element in value.items()]
        return b"d" + _digest(*sorted(_digest(*pair) for pair in pairs))
    if kind is set or kind is frozenset:
        return b"S" + _digest(*sorted(_encode(element, outer, met) for element in value))
    if kind is Future:
        return _encode(value.result(0), outer, met)
    value = _unwrapped(value)
    if isinstance(value, types.FunctionType):
        return _encode_function(value, outer, met)
    if isinstance(value, type):
        return _encode_class(value)
    if isinstance(value, types.ModuleType):
        return b"M" + value.__name__.encode()
    return _encode_object(value, outer, met)


def _encode_object(value: Any, outer: tuple[int, ...], met: _Met) -> bytes:
    """Any other object, by what pickle would make of it."""
    reduced = value.__reduce_ex__(5)
    if isinstance(reduced, str):
        return b"g" + _digest(f"{value.__module__}:{reduced}".encode())
    make, args, state, elements, items = (*reduced, None, None, None)[:5]
    parts = [_encode(make, outer, met), _encode(args, outer, met), _encode(state, outer, met)]
    parts += [_encode(element, outer, met) for element in elements or ()]
    parts += [_encode(item, outer, met) for item in items or ()]
    return b"o" + _digest(*parts)


def _encode_function(function: types.FunctionType, outer: tuple[int, ...], met: _Met) -> bytes:
    full_name = f"{function.__module__}:{function.__qualname__}".encode()
    if _is_installed(function.__module__):
        return b"g" + full_name
    if id(function) in met:
        return met[id(function)][1]
    met[id(function)] = function, b"^" + full_name
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    named = [(name, function.__globals__.get(name)) for name in sorted(_names(function.__code__))]
    named = [(name, _unwrapped(value)) for name, value in named]
    near = [(name, value) for name, value in named if _is_constant(value, ()) or _is_near(value, function.__module__)]
    parts = [full_name, _encode_code(function.__code__)]
    parts += [_encode(part, outer, met) for part in (function.__defaults__, function.__kwdefaults__, closure, near)]
    met[id(function)] = function, b"F" + _digest(*parts)
    return met[id(function)][1]


def _encode_class(cls: type) -> bytes:
    name = f"{cls.__module__}:{cls.__qualname__}".encode()
    if cls.__module__ != "__main__":
        return b"C" + name
    members = [member for _, member in sorted(vars(cls).items())]
    methods = [function for member in members for function in _functions_of(member)]
    bases = [_encode_class(base) for base in cls.__bases__]
    return b"C" + _digest(name, *[_encode_code(method.__code__) for method in methods], *bases)


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
    constants = [_encode_code(c) if isinstance(c, types.CodeType) else _encode(c, (), {}) for c in code.co_consts]
    names = [*code.co_names, "/", *code.co_varnames, "/", *code.co_freevars]
    version = b"%d.%d" % sys.version_info[:2]  # another one has other code for the same function
    return _digest(version, code.co_code, b"%d" % code.co_flags, " ".join(names).encode(), *constants)


def _names(code: types.CodeType) -> set[str]:
    inner: Iterable[types.CodeType] = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _unwrapped(value: Any) -> Any:
    """The function in what `task`, `resource`, `functools.cache` and the like make of one."""
    within = getattr(value, "__wrapped__", None)
    return within if isinstance(within, types.FunctionType) and not isinstance(value, types.FunctionType) else value


_CONTAINERS = (list, tuple, set, frozenset)


def _is_constant(value: Any, outer: tuple[int, ...]) -> bool:
    """Whether a value is plain, or a container of such; `outer` are the ids of those that it is in."""
    if type(value) in _ATOMS or id(value) in outer:
        return True
    if not isinstance(value, dict) and type(value) not in _CONTAINERS:
        return False
    elements = (*value, *value.values()) if isinstance(value, dict) else value
    return all(_is_constant(element, (*outer, id(value))) for element in elements)


def _is_near(value: Any, module: str) -> bool:
    """Whether a value is a function or class that the module itself defines."""
    return isinstance(value, types.FunctionType | type) and value.__module__ == module


def _is_installed(module: str | None) -> bool:
    """Whether a module is part of a library, whose functions go by their names."""
    path = getattr(sys.modules.get(module or ""), "__file__", None)
    return module != "__main__" and (path is None or "site-packages" in path or path.startswith(sys.base_prefix))
