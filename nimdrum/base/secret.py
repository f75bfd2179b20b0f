"""A string that does not print itself."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote

MASK = "********"

SECRET_NAME = re.compile(
    r"(^|_)(API_?KEY|ACCESS_KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)", re.IGNORECASE
)
"""Names of environment variables whose values are secret: NGC_API_KEY is one, TOKENIZERS_PARALLELISM is not."""


MASKED_NAME = re.compile(
    r"(^|_)(\w*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|SIGNATURE)S?|PASS|PWD?|PW|CREDS?|PATS?|"
    r"AUTH|AUTHORIZATION|BEARER|JWT|SAS|SIG|DSN|CERT|CONN(ECTION)?_?STR(ING)?)(_|$)",
    re.IGNORECASE,
)
"""Names of values that no log shows: more than SECRET_NAME, because the engine still gets these."""
SHORTEST = 6
"""A shorter value is masked only with what stands before it: masked everywhere it would spoil every log line."""
PLAIN = re.compile(r"true|false|none|null|disabled?|enabled?|default|[\d.]{1,9}|/[\w./-]*", re.IGNORECASE)
URL_USER = re.compile(r"[a-z][\w+.-]*://([^/\s@]+)@", re.IGNORECASE)
NAMED_PART = re.compile(
    r"(?:[\w.-]*(?:key|token(?!i)|secret|passw(?:or)?d|pwd|signature|credential|auth(?!or\b))[\w.-]*|\bsig|\bsas|\bpass)"
    r"[\"']?\s*[:=]\s*(?:\"([^\"]+)\"|'([^']+)'|((?:bearer |basic )?[^&;,\s\"']+))",
    re.IGNORECASE,
)


def secrets_among(variables: Mapping[str, str]) -> tuple[str, ...]:
    """What must not be printed of `variables`, by name and by value: passwords in URLs, signatures of links, parts of
    connection strings and of JSON; each also in the spellings in which programs print it. Pure."""
    found: dict[str, None] = {}
    for name, value in variables.items():
        for secret in _secrets_of(name, value):
            for spelling in (secret, unquote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]):
                found |= dict.fromkeys(line for line in spelling.splitlines() if len(line.strip()) >= SHORTEST)
    return tuple(found)


def _secrets_of(name: str, value: str) -> Iterator[str]:
    if MASKED_NAME.search(name) and not PLAIN.fullmatch(value):
        yield value
    for user in URL_USER.findall(value):
        yield user
        yield user.partition(":")[2]
        yield base64.b64encode(unquote(user).encode()).decode()
    for part in map("".join, NAMED_PART.findall(value)):
        if not PLAIN.fullmatch(part):
            yield part
            yield part.partition(" ")[2]


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
