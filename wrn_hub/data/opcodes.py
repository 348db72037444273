"""What a pickle holds, read from its opcodes as plain values: nothing that it names is imported, called or built."""
import pickletools
from dataclasses import dataclass
from typing import Any

__all__ = ["Inert", "plain_values"]

_MOST = 400_000  # opcodes; CIFAR-100's training split has 200,362
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass
class Inert:
    """What a pickle would have imported (a name alone) or called: none of it has happened.

    Attributes:
        name: "module.name".
        arguments: What it would have been called with; None where it isn't called.
        state: What the result would have been given then.
    """

    name: str
    arguments: Any = None
    state: Any = None


def plain_values(content: bytes) -> Any:
    """The value of a pickle of protocol 2 to 4: dicts by text, lists, tuples, numbers, text, bytes and :class:`Inert`.

    Bytes of Python 2 are text, each byte the character of its number (Latin-1). Time and memory grow with the length
    of the content alone: what it refers to many times is there once.

    Raises:
        ValueError: it is damaged, too long, of another protocol, or holds other things than these.
    """
    try:
        return _run(content)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:  # the stack lacks what is needed
        raise ValueError(f"its opcodes don't fit together: {type(error).__name__} {error}") from None


def _run(content: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if number == _MOST:
            raise ValueError(f"it has more than {_MOST:,} opcodes")
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            values = since_mark() if name == "APPENDS" else [stack.pop()]
            _of(list, stack).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            if not all(isinstance(key, str) for key in values[::2]):
                raise ValueError("it has a dict whose keys are no text")
            _of(dict, stack).update(zip(values[::2], values[1::2], strict=True))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            length = int(name[-1])
            stack[-length:] = [tuple(stack[-length:])]
        elif name == "GLOBAL":
            stack.append(Inert(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [Inert(".".join(stack[-2:]))]
        elif name == "REDUCE":
            arguments = stack.pop()
            stack[-1] = Inert(_of(Inert, stack).name, arguments)
        elif name == "BUILD":
            state = stack.pop()
            _of(Inert, stack).state = state
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it has the opcode {name}")
    return stack.pop()


def _of(kind: type, stack: list[Any]) -> Any:
    if not isinstance(stack[-1], kind):
        raise TypeError(f"on a {type(stack[-1]).__name__}")
    return stack[-1]
