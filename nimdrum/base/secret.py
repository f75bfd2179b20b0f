"""A string that does not print itself."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
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


KNOWN_FORM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{8,}\.[\w-]{4,}\."
    r"|\b(nvapi-|hf_|sk-|gh[opsu]_|github_pat_|glpat-|xox[abpr]-|AKIA|ASIA|AIza|ya29\.)[\w-]{8,}"
)
"""Private keys, signed tokens, and keys of makers who give theirs the same first letters."""


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is not to be handed on: by its name, or by what is in it. Pure."""
    parts = (part.strip("{}[]() ") for part in _secrets_of(name, value))
    return bool(SECRET_NAME.search(name) or KNOWN_FORM.search(value)) or any(
        p and not PLAIN.fullmatch(p) for p in parts
    )


def credential_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The secret texts in runtime parameters of type credential, which DRUM has in its environment."""
    found: list[object] = []
    for name, text in environ.items():
        with suppress(ValueError, AttributeError, KeyError, TypeError):
            if name.startswith("MLOPS_RUNTIME_PARAM_") and '"credential"' in text:
                found += [value for key, value in json.loads(text)["payload"].items() if key != "credentialType"]
    return tuple(value for value in found if isinstance(value, str) and len(value) >= SHORTEST)


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
