"""The ceiling: what gunicorn and Falcon leave over for an application that does nothing."""

from __future__ import annotations

import falcon


class Empty:
    """The least that an endpoint can do."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b"{}"


def empty_app() -> falcon.App[falcon.Request, falcon.Response]:
    """An application for gunicorn, with an endpoint that does nothing."""
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
    app.add_route("/", Empty())
    app.add_route("/ready", Empty())
    return app
