"""`python -m tests.api.migrate FILE`: make a database, in whatever name space this is run."""

from __future__ import annotations

import sys
from pathlib import Path

from mailer.store.migrate import migrate

migrate(Path(sys.argv[1]))
