"""Commands of a node: what arguments each takes, and how a call is matched with them."""

from petiole import manifest
from petiole.errors import LocalError
from petiole_node.errors import BadArguments

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Handler, Json

_WORDS = {"f": "a number", "i": "a whole number", "b": "true or false", "s": "a text", "x": "bytes", "a": "anything"}


def fits(value: object, type: str) -> bool:
    """Whether a value is of a manifest type: f i b s x a."""
    if type == "a":
        return True
    if type == "b":
        return isinstance(value, bool)
    if type == "s":
        return isinstance(value, str)
    if type == "x":
        return isinstance(value, (bytes, bytearray))
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (type == "f" and isinstance(value, float))


def parse(text: str) -> "list[tuple[str, str, bool]]":
    """`"r:i g:i b:i? name:s?"` to (name, type, required). Raises LocalError."""
    arguments = []
    for word in text.split():
        name, _, type = word.partition(":")
        is_required = not type.endswith("?")
        if not is_required:
            type = type[:-1]
        check(name, type)
        arguments.append((name, type, is_required))
    return arguments


def check(name: str, type: str) -> None:
    manifest.check_token("argument", name)
    if len(type) != 1 or type not in manifest.TYPES:
        raise LocalError("argument " + name, "its type is one of f i b s x a, got " + repr(type))


class Command:
    """`arguments`: (name, type, required) each; None if nothing is known, then the handler itself decides."""

    def __init__(
        self, number: int, name: str, handler: "Handler", arguments: "list[tuple[str, str, bool]] | None"
    ) -> None:
        self.number = number
        self.name = name
        self.handler = handler
        self.arguments = arguments

    def entry(self) -> "list[object]":
        """As in the manifest."""
        return [self.number, self.name, [list(argument) for argument in self.arguments or ()]]

    def call(self, given: "Json") -> object:
        """Call the handler with what came over the link. Raises BadArguments, or what the handler raises."""
        if given is None:
            given = []
        if not isinstance(given, (list, dict)):
            raise BadArguments("arguments are a list or a map")
        if self.arguments is not None:
            return self.handler(**self._bind(given, self.arguments))
        try:
            if isinstance(given, list):
                return self.handler(*given)
            return self.handler(**{str(name): given[name] for name in given})  # any order
        except TypeError as error:
            # Of an undeclared handler this is all that is known about its arguments.
            raise BadArguments(str(error))

    def _bind(self, given: "Json", arguments: "list[tuple[str, str, bool]]") -> "dict[str, Json]":
        if isinstance(given, list):
            if len(given) > len(arguments):
                raise BadArguments("at most " + str(len(arguments)) + " arguments, got " + str(len(given)))
            given = {arguments[position][0]: value for position, value in enumerate(given)}
        bound = {}
        for name, type, is_required in arguments:
            if name in given:
                # A double that is too large for the floats of a board has become infinite, which nobody has sent.
                is_endless = isinstance(given[name], float) and given[name] - given[name] != 0
                if is_endless or not fits(given[name], type):
                    raise BadArguments("argument " + name + ": " + _WORDS[type] + " is wanted")
                bound[name] = given[name]
            elif is_required:
                raise BadArguments("argument " + name + " is missing")
        for name in sorted([str(name) for name in given]):
            if name not in bound:
                raise BadArguments("argument " + name + " is not known")
        return bound
