"""gunicorn's threaded worker, quick to stop: it would wait for clients that merely keep a connection open."""

from time import monotonic

from gunicorn.workers.gthread import ThreadWorker

# An idle connection on which a client may just have sent a request is left open this long at a stop, in seconds.
LINGER = 1.0


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not typed
    """At a stop, closes idle connections soon instead of when they time out."""

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for something to happen, but at a stop not for longer than idle connections may linger."""
        super().wait_for_and_dispatch_events(timeout if self.alive else min(timeout, LINGER / 4))

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting; gunicorn calls this first thing at a stop."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for connection in [*self.keepalived_conns, *self.pending_conns]:
                connection.timeout = min(connection.timeout, monotonic() + LINGER)
