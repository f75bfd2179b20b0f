"""Progress bars on standard error, only where a person looks at it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def bars() -> Iterator[Callable[[str, int | None], Callable[[int], object]]]:
    """Gives a function that begins a bar with a title and a total in bytes. All bars are closed at the end."""
    from tqdm import tqdm

    with ExitStack() as open_bars:

        def begin(title: str, total: int | None) -> Callable[[int], object]:
            open_bars.close()
            bar = tqdm(desc=title, total=total, unit="B", unit_scale=True, disable=None)
            return open_bars.enter_context(bar).update

        yield begin
