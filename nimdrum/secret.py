"""A string that does not print itself."""

from collections.abc import Iterable
from dataclasses import dataclass

MASK = "********"


@dataclass(frozen=True, repr=False)
class Secret:
    """Holds a credential. `str`, `repr` and formatting give a mask; only `reveal` gives the value."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return MASK

    __repr__ = __str__


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every occurrence of a secret replaced by a mask: engines sometimes print their environment."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return text
