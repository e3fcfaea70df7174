"""A fake of Amazon SES (SESv2), a process that real boto3 talks to through AWS_ENDPOINT_URL_SESV2.

`python -m tests.ses.fake_ses --port 0 [--told JSON]` prints its port on the first line. It takes
mail as SES does (shapes, templates, identities, rate, quota) and misbehaves as it is told by
`POST /_fake/told`; `GET /_fake/mails` and `/_fake/calls` give its record. See `Told`.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.ses.events import Publisher
from tests.ses.fake_identity import identity
from tests.ses.fake_setup import ConfigurationSets
from tests.ses.fake_suppression import SuppressionList
from tests.ses.mailing import Mail, Refusal, Service
from tests.ses.model import ShapeError, checked, in_query, operation_at, operations


@dataclass
class Told:
    """How it behaves. `faults` are used up, one for each call that sends
    or is about the suppression list; an empty one is none.

    A fault: `status`, `code`, `message` (refuse); `delay_s`; `cut`: "before" (the mail is not
    taken) or "after" (it is, and nobody hears of it); `drip` (the answer comes byte by byte, for
    ever); `entries` (place → status, "" for no id); `drop`, `add` (results fewer or more);
    `same_ids`; `reverse` (results in the other order); `body` (an answer that is none).
    `claims_rate`: what GetAccount says of the rate, if not the truth. `suppressed`: address →
    reason.
    """

    escapes: bool = True
    max_send_rate: float = 1e6
    claims_rate: float | None = None
    max_24h: float = -1.0
    sent_24h: float = 0.0
    sending_enabled: bool = True
    production: bool = True
    enforcement: str = "HEALTHY"
    verified: list[str] = field(default_factory=lambda: ["example.org", "example.com"])
    unverified: list[str] = field(default_factory=list)
    configuration_sets: list[str] = field(default_factory=lambda: ["events"])
    inline_templates: bool = True
    bulk_denied: bool = False
    account_error: dict[str, Any] | None = None
    access_key_ids: list[str] | None = None
    denied: list[str] = field(default_factory=list)
    suppressed: dict[str, str] = field(default_factory=dict)
    suppression_page: int = 1000
    latency_s: float = 0.0
    keep_mails: bool = True
    events_url: str = ""
    faults: list[dict[str, Any]] = field(default_factory=list)


class Fake:
    """The service, its record, and the script."""

    def __init__(self, told: Told, publisher: Publisher | None) -> None:
        self.told = told
        self.service = Service()
        self.configuration_sets = ConfigurationSets()
        self.suppression_list = SuppressionList()
        self.publisher = publisher
        self.lock = threading.Lock()
        self.mails: deque[Mail] = deque()
        self.calls: list[dict[str, Any]] = []

    def answer(self, name: str, request: dict[str, Any], size: int, key_id: str) -> _Answer:
        """Raises Refusal, ShapeError."""
        told = self.told
        if told.access_key_ids is not None and key_id not in told.access_key_ids:
            words = "The security token included in the request is invalid."
            raise Refusal(403, "UnrecognizedClientException", words)
        if name == "GetAccount":
            if told.account_error:
                raise Refusal(**told.account_error)
            return _Answer(self.service.account(told))
        if name == "GetEmailIdentity":
            if name in told.denied:
                words = f"User: x is not authorized to perform: ses:{name}"
                raise Refusal(403, "AccessDeniedException", words)
            return _Answer(identity(request, told))
        with self.lock:
            if self.configuration_sets.answers(name):
                self.calls.append({"operation": name, "bytes": size, "at": time.monotonic()})
                return _Answer(self.configuration_sets.answer(name, request, told))
            sends = name in {"SendEmail", "SendBulkEmail"}
            if not sends and not self.suppression_list.answers(name):
                raise Refusal(404, "NotFoundException", f"the fake has no {name}")
            fault = told.faults.pop(0) if told.faults else {}
            record = {"operation": name, "bytes": size, "at": time.monotonic(), "throttled": False}
            self.calls.append(record)
            if fault.get("status"):
                raise Refusal(fault["status"], fault["code"], fault.get("message", "as told"))
            if fault.get("cut") == "before":
                return _Answer({}, fault)
            if self.suppression_list.answers(name):
                return _Answer(self.suppression_list.answer(name, request, told), fault)
            try:
                taken, result = self.service.take(name, request, size, told, fault)
            except Refusal as refusal:
                record["throttled"] = refusal.status == 429
                raise
            results = result.get("BulkEmailEntryResults", [])
            record["throttled"] = any(r.get("Status") == "ACCOUNT_THROTTLED" for r in results)
            if told.keep_mails:
                self.mails.extend(taken)
        if self.publisher and told.events_url:
            self.publisher.tell(told.events_url, taken)
        return _Answer(result, fault)


@dataclass
class _Answer:
    result: dict[str, Any]
    fault: dict[str, Any] = field(default_factory=dict)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: Fake

    def do_GET(self) -> None:
        if self.path == "/_fake/mails":
            self.give(200, [asdict(mail) for mail in list(self.fake.mails)])
        elif self.path == "/_fake/calls":
            self.give(200, self.fake.calls)
        elif self.path == "/_fake/count":
            self.give(200, len(self.fake.mails))
        else:
            self.serve(b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/_fake/told":
            self.fake.told = Told(**json.loads(body))
            self.give(200, {})
        elif self.path == "/_fake/forget":
            Handler.fake = Fake(Told(), self.fake.publisher)
            self.give(200, {})
        else:
            self.serve(body)

    def do_PUT(self) -> None:
        self.serve(self.rfile.read(int(self.headers["Content-Length"])))

    def do_DELETE(self) -> None:
        self.serve(b"{}")

    def serve(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        operation, in_path = operation_at(self.command, path)
        if operation is None:
            self.give(404, {"message": "no such operation"})
            return
        threading.Event().wait(self.fake.told.latency_s)
        try:
            request = json.loads(body or b"{}") | in_path | in_query(operation, query)
            if operation.input_shape:
                request = checked(operation.input_shape, request)
            answer = self.fake.answer(operation.name, request, len(body), self.key_id())
            if answer.fault.get("cut"):
                self.close_connection = True
                self.connection.close()
                return
            if operation.output_shape:
                checked(operation.output_shape, answer.result)
        except Refusal as refusal:
            self.give(refusal.status, {"message": refusal.words}, refusal.code)
        except ShapeError as error:
            self.give(400, {"message": f"shape: {error}"}, "BadRequestException")
        else:
            self.give(200, answer.result, fault=answer.fault)

    def key_id(self) -> str:
        return self.headers.get("Authorization", "").partition("Credential=")[2].split("/")[0]

    def give(
        self, status: int, answer: Any, code: str = "", fault: dict[str, Any] | None = None
    ) -> None:
        fault = fault or {}
        threading.Event().wait(fault.get("delay_s", 0))
        body = fault.get("body", "").encode() or json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("x-amzn-ErrorType", code)
        self.end_headers()
        while fault.get("drip"):
            self.wfile.write(b" ")
            threading.Event().wait(0.05)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--told", default="{}")
    parser.add_argument("--authority", help="a directory that Authority.make has filled")
    options = parser.parse_args()
    operations()
    publisher = Publisher.of(options.authority) if options.authority else None
    Handler.fake = Fake(Told(**json.loads(options.told)), publisher)
    server = Server(("127.0.0.1", options.port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
