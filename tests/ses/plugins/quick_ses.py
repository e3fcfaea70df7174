"""The ses transport with time-outs short enough for tests, as the transport `quick_ses`.

Found by child processes through the `dist-info` beside it, when this directory is on PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mailer_ses.account import Account
from mailer_ses.transport import SesTransport

from mailer.hookspecs import Transport, hookimpl
from mailer.settings import Settings

READ_TIMEOUT_S = 1.5


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    if settings.transport_name != "quick_ses":
        return {}
    account = Account.required(settings)
    quick = replace(account, connect_timeout_s=1.0, read_timeout_s=READ_TIMEOUT_S)
    return {"quick_ses": SesTransport(quick)}
