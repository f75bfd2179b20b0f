"""A string that does not print itself."""

import re
from collections.abc import Iterable

MASK = "********"


SECRET_NAME = re.compile(
    r"(^|_)(API_?KEY|ACCESS_KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)", re.IGNORECASE
)
"""Names of environment variables whose values are secret: NGC_API_KEY is one, TOKENIZERS_PARALLELISM is not."""


class Secret:
    """Holds a credential. `str`, `repr` and formatting give a mask; only `reveal` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return MASK

    __repr__ = __str__


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every occurrence of a secret replaced by a mask: engines sometimes print their environment."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may be the beginning of another
        if secret:
            text = text.replace(secret, MASK)
    return text
