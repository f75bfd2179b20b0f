"""What every step is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datarobot.client import RESTClientObject

from nimdrum.base.secret import Secret
from nimdrum.platform.waiting import Patience, Screen
from nimdrum.platform.wanted import Wanted

T = TypeVar("T")


@dataclass(frozen=True)
class Upload:
    """One upload: to whom, from where, what, and with whose key."""

    client: RESTClientObject
    code_dir: Path
    wanted: Wanted
    key: Secret | None
    patience: Patience
    screen: Screen


def there(thing: T | None) -> T:
    """A thing that the earlier steps of the plan have made sure of."""
    if thing is None:
        raise AssertionError("a step came before the one that it needs")
    return thing
