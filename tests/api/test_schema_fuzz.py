"""The published OpenAPI document, taken at its word by a tool that makes requests from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.api.service import Service

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def fuzzed(service: Service, document: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("schemathesis")
    url = f"http://{service.host}:{service.port}"
    checks = ("--checks", ",".join(CHECKS), "--max-examples", "20", "--no-color")
    return subprocess.run(
        [command, "run", document, "--url", url, *checks, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=service.directory,
    )


def test_no_request_the_document_leads_to_is_answered_otherwise_than_it_says(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    document = service.get("/openapi.json").body.decode()
    impatient, waits = re.subn(r'(?<="maximum":)50(?=,"default":0)', "0", document)
    assert waits == 1  # of `wait`: nobody has the time
    (service.directory / "impatient.json").write_text(impatient)
    done = fuzzed(service, str(service.directory / "impatient.json"))
    assert done.returncode == 0, done.stdout + service.log_path.read_text()[-2000:]
    assert re.search(r"Selected: (\d+)/\1\s+Tested: \1\s", done.stdout), done.stdout


def test_the_check_above_can_fail(serve: Callable[..., Service]) -> None:
    """The control: a document that promises what is not given."""
    service = serve()
    document = service.get("/openapi.json").json
    document["components"]["schemas"] = {
        name: {**schema, "required": ["a field nobody gives"]}
        for name, schema in document["components"]["schemas"].items()
    }
    lie = service.directory / "lie.json"
    lie.write_text(json.dumps(document))
    done = fuzzed(service, str(lie), "--include-path", "/health")
    assert done.returncode == 1, done.stdout
    assert "a field nobody gives" in done.stdout
