"""The ASGI entry, for `gunicorn -k mailer.api.server.Worker mailer.asgi:app` and the like."""

from __future__ import annotations

import os
from pathlib import Path

from mailer import plugins, reporting
from mailer.api.server import application

settings = plugins.settings(plugins.load(), os.environ, Path(".env"))
reporting.start(settings, "api")
app = application(settings)
