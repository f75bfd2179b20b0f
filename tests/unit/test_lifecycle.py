"""The thread that watches over the engine of a server."""

import threading
from typing import Any

from http_face import LIMIT_SEC, Face, face  # noqa: F401 - a fixture

from nimdrum.lifecycle import watch_engine
from nimdrum.session.attach import Attachment
from nimdrum.supervisor.state import Phase


class Stumbling(Attachment):
    """An attachment whose first look at the state goes wrong in a way that nobody thought of."""

    looks = 0

    def state(self) -> Any:
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("can't start new thread")
        return super().state()


def test_an_unforeseen_error_does_not_end_the_watch(face: Face) -> None:  # noqa: F811
    """Else a dead engine would no longer end the server, and a killed supervisor would not come back."""
    face.says(Phase.FATAL, cause="The disk is full.")
    hosting = type(face.model.hosting)(**{**vars(face.model.hosting), "error_server": True})
    attachment = Stumbling(face.attachment.plan, face.run_dir, None)
    watch_engine(hosting, attachment)
    (watching,) = (thread for thread in threading.enumerate() if thread.name == "nimdrum-watch")
    watching.join(LIMIT_SEC)  # with the error server on, the watch ends where it finds a dead engine
    assert not watching.is_alive()
    assert attachment.looks == 2
