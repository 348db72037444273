"""The values in a pickle, of which nothing is imported and nothing called.

A pickle is a program that may call whatever it names. Here it is run by an interpreter that makes containers, texts
and numbers by itself and asks its caller about all else: what the caller doesn't know becomes a :class:`StandIn`, which
remembers what was asked for and does nothing. So weights can be read that lie beside anything.
"""
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

__all__ = ["StandIn", "unpickle"]


class StandIn:
    """What a pickle names, calls or makes, and nobody here does.

    Attributes:
        name: "module.name" of it.
        args: What it was to be called with; None of what was named only.
        state: What was to be set in it.
        entries: What was to be put into it by key.
    """

    __slots__ = ("args", "entries", "name", "state")

    def __init__(self, name: str, args: tuple | None = None) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.entries: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.name}>"


_MARK = object()
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8"}


def unpickle(
    file: BinaryIO, make: Callable[[str, tuple], Any], persistent: Callable[[Any], Any] = lambda key: StandIn("id")
) -> Any:
    """Read one pickle from where a file stands to the pickle's end.

    Args:
        file: The file.
        make: What stands for the call of "module.name" with arguments.
        persistent: What stands for an id of something outside the pickle.

    Raises:
        Exception: of any kind where the file is damaged.
    """
    machine = _Machine(make, persistent)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise ValueError("its end is missing")


class _Machine:
    """The stack and the memo of the machine that pickles are programs for."""

    def __init__(self, make: Callable[[str, tuple], Any], persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self.memo: dict[Any, Any] = {}
        self.make, self.persistent = make, persistent

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _LITERALS:
            stack.append(_LITERALS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME") and not self._contain(name) and not self._call(name, argument):
            raise ValueError(f"it uses {name}, which no checkpoint does")

    def _since_mark(self) -> list[Any]:
        place = next(i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _contain(self, name: str) -> bool:
        """Do an instruction that makes a container or fills one; False for any other."""
        stack = self.stack
        match name:
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "LIST":
                stack.append(self._since_mark())
            case "FROZENSET":
                stack.append(frozenset(self._since_mark()))
            case "DICT":
                items = self._since_mark()
                stack.append(dict(zip(items[::2], items[1::2], strict=True)))
            case "APPEND":
                items = [stack.pop()]
                _extend(stack[-1], items)
            case "APPENDS" | "ADDITEMS":
                items = self._since_mark()
                _extend(stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [key, value])
            case "SETITEMS":
                items = self._since_mark()
                _set(stack[-1], items)
            case _:
                return False
        return True

    def _call(self, name: str, argument: Any) -> bool:
        """Do an instruction that names something, calls it or sets what it made; False for any other."""
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(StandIn(str(argument).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(StandIn(f"{module}.{attribute}"))
            case "REDUCE" | "NEWOBJ":
                args, function = stack.pop(), stack.pop()
                stack.append(self._made(function, args))
            case "NEWOBJ_EX":
                _, args, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(self._made(function, args))
            case "OBJ":
                function, *args = self._since_mark()
                stack.append(self._made(function, tuple(args)))
            case "INST":
                stack.append(self.make(str(argument).replace(" ", ".", 1), tuple(self._since_mark())))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], StandIn):  # attributes of containers and tensors hold no weights
                    stack[-1].state = state
            case "PERSID":
                stack.append(self.persistent(argument))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case _:
                return False
        return True

    def _made(self, function: Any, args: Any) -> Any:
        if isinstance(function, StandIn) and function.args is None and isinstance(args, tuple):
            return self.make(function.name, args)
        return StandIn("the result of a call")


def _extend(container: Any, items: list[Any]) -> None:
    if isinstance(container, list):
        container.extend(items)
    elif isinstance(container, set):
        container.update(items)


def _set(container: Any, items: list[Any]) -> None:
    entries = container.entries if isinstance(container, StandIn) else container
    if isinstance(entries, dict):
        entries.update(zip(items[::2], items[1::2], strict=True))
