"""The values in a pickle, of which nothing is imported and nothing called.

A pickle is a program that may call whatever it names. Here it is run by an interpreter that makes containers, texts
and numbers by itself and asks its caller about all else: what the caller doesn't know becomes a :class:`StandIn`, which
remembers what was asked for and does nothing. So weights and images can be read that lie beside anything. Time and
memory grow with the length of the pickle alone: what it refers to many times is there once, and nothing that it holds
is hashed, compared or printed that could be as deep or as long as it likes.
"""
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

__all__ = ["StandIn", "as_key", "unpickle"]

_MOST = 20_000_000  # opcodes: half a minute, and a list of losses for each of ten million steps
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}


@dataclass(slots=True, eq=False, repr=False)
class StandIn:
    """What a pickle names, calls or makes, and nobody here does.

    Attributes:
        name: "module.name" of it.
        args: What it was to be called with; None of what was named only.
        state: What was to be set in it.
        entries: What was to be put into it by key.
    """

    name: str
    args: tuple | None = None
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def as_key(value: Any) -> Any:
    """A value as the key of a dict or the element of a set; a stand-in for one that isn't short and flat.

    The hash of a tuple is computed anew each time and of all that lies in it, however often and however deep.
    """
    parts = value if isinstance(value, tuple) and len(value) <= 16 else (value,)
    if all(isinstance(part, str | bytes | float | StandIn | None)
           or (isinstance(part, int) and part.bit_length() <= 64) for part in parts):
        return value
    return StandIn("a key")


def unpickle(
    file: BinaryIO,
    make: Callable[[str, tuple], Any] = StandIn,
    persistent: Callable[[Any], Any] = lambda key: StandIn("something outside the pickle"),
    most: int = _MOST,
    text_keys: bool = False,
) -> Any:
    """Read one pickle of any protocol from where a file stands to the pickle's end.

    Bytes of Python 2 are text, each byte the character of its number (Latin-1).

    Args:
        file: The file.
        make: What stands for the call of "module.name" with arguments.
        persistent: What stands for an id of something outside the pickle.
        most: How many opcodes it may have.
        text_keys: Whether dicts have to be by text.

    Raises:
        Exception: of any kind where the file is damaged; a ValueError where it has too many opcodes, one that nothing
            uses that is read here, or other keys.
    """
    machine = _Machine(make, persistent, text_keys)
    stack, memo = machine.stack, machine.memo
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number == most:
            raise ValueError(f"it has more than {most:,} opcodes")
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _PUTS:
            memo[argument] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name == "STOP":
            return stack.pop()
        else:
            machine.step(name, argument)
    raise ValueError("its end is missing")


class _Machine:
    """The stack and the memo of the machine that pickles are programs for."""

    def __init__(self, make: Callable[[str, tuple], Any], persistent: Callable[[Any], Any], text_keys: bool) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[Any, Any] = {}
        self.make, self.persistent, self.text_keys = make, persistent, text_keys

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        stack = self.stack
        if name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in _LITERALS:
            stack.append(_LITERALS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "POP":
            (self.marks if self.marks and self.marks[-1] == len(stack) else stack).pop()
        elif name == "POP_MARK":
            self._since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME") and not self._contain(name) and not self._call(name, argument):
            raise ValueError(f"it has the opcode {name}")

    def _since_mark(self) -> list[Any]:
        place = self.marks.pop()
        items = self.stack[place:]
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
                stack.append(frozenset(map(as_key, self._since_mark())))
            case "DICT":
                items = self._since_mark()
                stack.append({})
                self._set(items)
            case "APPEND":
                items = [stack.pop()]
                self._extend(items)
            case "APPENDS" | "ADDITEMS":
                items = self._since_mark()
                self._extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set([key, value])
            case "SETITEMS":
                items = self._since_mark()
                self._set(items)
            case _:
                return False
        return True

    def _call(self, name: str, argument: Any) -> bool:
        """Do an instruction that names something, calls it or sets what it made; False for any other."""
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(StandIn(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(StandIn(".".join((module, attribute))))
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
                stack.append(self.make(argument.replace(" ", ".", 1), tuple(self._since_mark())))
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

    def _extend(self, items: list[Any]) -> None:
        container = self.stack[-1]
        if isinstance(container, list):
            container.extend(items)
        elif isinstance(container, set):
            container.update(map(as_key, items))

    def _set(self, items: list[Any]) -> None:
        container = self.stack[-1]
        keys, values = items[::2], items[1::2]
        if self.text_keys and not all(isinstance(key, str) for key in keys):
            raise ValueError("it has a dict whose keys are no text")
        entries = container.entries if isinstance(container, StandIn) else container
        if isinstance(entries, dict):
            entries.update(zip(map(as_key, keys), values, strict=True))
