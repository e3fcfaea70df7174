"""The ASGI entry, for `gunicorn -k mailer.api.server.Worker mailer.asgi:app` and the like.

With `--logger-class mailer.api.server.Log` the lines of gunicorn's workers look like all others.
"""

from __future__ import annotations

import os
from pathlib import Path

from mailer import plugins, privileges, reporting
from mailer.api.server import application

settings = plugins.settings(plugins.load(), os.environ, Path(".env"))
privileges.refuse_root(allowed=settings.allow_root)
reporting.start(settings, "api")
app = application(settings)
