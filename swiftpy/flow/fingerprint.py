"""Keys of calls: the same for the same function and arguments in every run of a script.

Pickles will not do: that of `(a, a)` differs from that of `(a, b)` with equal a and b, and that of a set of strings
from run to run.
"""

from __future__ import annotations

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
    return _digest(function, _encode(args, ()), _encode(kwargs, ()))


def of_function(function: Callable[..., Any]) -> bytes:
    """The fingerprint of a function: its name and code, its defaults, what it has closed over, the plain constants of
    its module that it names, lists and the like of such, and the functions of its module that it names, likewise; of
    classes of the script the methods' code. Comments do not count."""
    return _encode(function, ())


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


def _encode(value: Any, outer: tuple[int, ...]) -> bytes:
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
        return b"t" + kind.__name__.encode() + _digest(*[_encode(element, outer) for element in value])
    if kind is dict:
        return b"d" + _digest(*sorted(_digest(_encode(k, outer), _encode(v, outer)) for k, v in value.items()))
    if kind is set or kind is frozenset:
        return b"S" + _digest(*sorted(_encode(element, outer) for element in value))
    if kind is Future:
        return _encode(value.result(0), outer)
    value = _unwrapped(value)
    if isinstance(value, types.FunctionType):
        return _encode_function(value, outer)
    if isinstance(value, type):
        return _encode_class(value, outer)
    if isinstance(value, types.ModuleType):
        return b"M" + value.__name__.encode()
    return _encode_object(value, outer)


def _encode_object(value: Any, outer: tuple[int, ...]) -> bytes:
    """Any other object, by what pickle would make of it."""
    reduced = value.__reduce_ex__(5)
    if isinstance(reduced, str):
        return b"g" + _digest(f"{value.__module__}:{reduced}".encode())
    make, args, state, elements, items = (*reduced, None, None, None)[:5]
    parts = [_encode(make, outer), _encode(args, outer), _encode(state, outer)]
    parts += [_encode(element, outer) for element in elements or ()]
    parts += [_encode(item, outer) for item in items or ()]
    return b"o" + _digest(*parts)


def _encode_function(function: types.FunctionType, outer: tuple[int, ...]) -> bytes:
    full_name = f"{function.__module__}:{function.__qualname__}".encode()
    if _is_installed(function.__module__):
        return b"g" + full_name
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    named = [(name, function.__globals__.get(name)) for name in sorted(_names(function.__code__))]
    named = [(name, _unwrapped(value)) for name, value in named]
    near = [(name, value) for name, value in named if _is_constant(value) or _is_near(value, function.__module__)]
    outer = (*outer, id(function))
    parts = [full_name, _encode_code(function.__code__)]
    parts += [_encode(part, outer) for part in (function.__defaults__, function.__kwdefaults__, closure, near)]
    return b"F" + _digest(*parts)


def _encode_class(cls: type, outer: tuple[int, ...]) -> bytes:
    name = f"{cls.__module__}:{cls.__qualname__}".encode()
    if cls.__module__ != "__main__":
        return b"C" + name
    methods = [member for _, member in sorted(vars(cls).items()) if isinstance(member, types.FunctionType)]
    return b"C" + _digest(name, *[_encode_code(method.__code__) for method in methods])


def _encode_code(code: types.CodeType) -> bytes:
    constants = [_encode_code(c) if isinstance(c, types.CodeType) else _encode(c, ()) for c in code.co_consts]
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


def _is_constant(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_constant, (*value, *value.values())))
    return type(value) in _ATOMS or (type(value) in _CONTAINERS and all(map(_is_constant, value)))


def _is_near(value: Any, module: str) -> bool:
    """Whether a value is a function or class that the module itself defines."""
    return isinstance(value, types.FunctionType | type) and value.__module__ == module


def _is_installed(module: str | None) -> bool:
    """Whether a module is part of a library, whose functions go by their names."""
    path = getattr(sys.modules.get(module or ""), "__file__", None)
    return module != "__main__" and (path is None or "site-packages" in path or path.startswith(sys.base_prefix))
