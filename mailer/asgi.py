"""The ASGI entry, for `gunicorn -k mailer.api.server.Worker mailer.asgi:app` and the like."""

from __future__ import annotations

import os
from pathlib import Path

from mailer import reporting
from mailer.api.server import application
from mailer.settings import load

settings = load(os.environ, Path(".env"))
reporting.start(settings, "api")
app = application(settings)
