"""Calls that plugins add: checked, documented and answered like our own, and no danger to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec import Struct

from mailer import plugins
from mailer.api.backend import Backend
from mailer.api.routes import routes
from mailer.clock import SystemClock
from mailer.endpoints import Call, Endpoint, Parameter, Scope
from mailer.errors import PluginError
from mailer.hookspecs import Shelf, hookimpl
from mailer.settings import Settings
from mailer.store import Store
from tests.api.service import Answer, Service
from tests.installation import Installation, install_plugin

KEY = "k" * 32
AS_US = {"X-API-KEY": KEY}

NOTES = '''
import json, msgspec, sys
from msgspec import Struct
from mailer.endpoints import Endpoint, Parameter, Scope
from mailer.errors import Conflict, NotFound
from mailer.hookspecs import hookimpl

class Note(Struct, forbid_unknown_fields=True):
    text: str
    stars: int = 0

class Problem(Struct):
    """Of the same name as one of ours."""
    notes: list[Note]
    size: int
    now_ms: int

def notes(call, shelf):
    found = [json.loads(value) for _, value in shelf.read(limit=call.query["limit"])]
    return Problem([Note(**n) for n in found], len(found), call.now_ms)

def one(call, shelf):
    value = shelf.get(call.path["name"])
    if value is None:
        raise NotFound("there is no such note")
    return Note(**json.loads(value))

def put(call, shelf):
    if call.path["name"] == "taken":
        raise Conflict("taken")
    shelf.put(call.path["name"], msgspec.json.encode(call.body))
    match call.body.text:
        case "raise":
            raise KeyError("hunter2")
        case "exit":
            sys.exit(3)
        case "nothing":
            return None
        case "unwritable":
            return Note(object())
    return call.body

def sly(call, shelf):
    shelf.put("sly", b"{}")
    return Note("")

LIMIT = Parameter("limit", "", {"type": "integer", "minimum": 1, "maximum": 9, "default": 5})

@hookimpl
def mailer_routes(settings):
    common = {"scope": Scope.ADMIN, "answer": Note}
    listing = {"scope": Scope.READ, "answer": Problem, "parameters": (LIMIT,)}
    name = "/v1/notes/{name}"
    return [
        Endpoint(method="GET", path="/v1/notes", summary="Notes", handler=notes, **listing),
        Endpoint(method="GET", path=name, summary="Note", handler=one, **common),
        Endpoint(method="PUT", path=name, summary="Write", handler=put, body=Note, **common),
        Endpoint(method="GET", path=name + "/sly", summary="", handler=sly, **common),
    ]
'''


@pytest.fixture(scope="module")
def noting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("notes")
    install_plugin(directory / "site", "notes", NOTES)
    service = Service(directory, {"API_KEY": KEY}, python_path=[directory / "site"])
    yield service
    assert service.stop() == 0


def put(service: Service, name: str, text: object, **more: object) -> Answer:
    body = json.dumps({"text": text, **more})
    headers = {**AS_US, "Content-Type": "application/json"}
    return service.request("PUT", f"/v1/notes/{name}", body, headers)


def test_what_is_put_is_stored_and_read(noting: Service) -> None:
    assert put(noting, "a", "first", stars=3).json == {"text": "first", "stars": 3}
    assert noting.get("/v1/notes/a", **AS_US).json == {"text": "first", "stars": 3}
    listed = noting.get("/v1/notes?limit=1", **AS_US).json
    assert (listed["size"], listed["notes"]) == (1, [{"text": "first", "stars": 3}])
    assert listed["now_ms"] > 1_700_000_000_000
    noting.stop()
    noting.restart()
    assert noting.get("/v1/notes/a", **AS_US).json == {"text": "first", "stars": 3}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/notes/none", None, 404),
        ("PUT", "/v1/notes/taken", b'{"text": "x"}', 409),
        ("DELETE", "/v1/notes/a", None, 405),
        ("GET", "/v1/notes?limit=10", None, 422),
        ("GET", "/v1/notes?other=1", None, 422),
        ("PUT", "/v1/notes/a", b'{"text": 1, "more": 2}', 422),
        ("PUT", "/v1/notes/a", b"{", 400),
        ("GET", "/v1/notes/a/sly", None, 500),
    ],
)
def test_what_is_wrong_is_answered_as_our_own_calls_do(
    noting: Service, method: str, path: str, body: bytes | None, status: int
) -> None:
    answer = noting.request(method, path, body, {**AS_US, "Content-Type": "application/json"})
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status


def test_every_fault_of_a_body_is_named(noting: Service) -> None:
    faults = put(noting, "a", 1, more=2).json["errors"]
    assert {fault["path"] for fault in faults} == {"text", "more"}


def test_reading_can_not_change_the_shelf(noting: Service) -> None:
    noting.get("/v1/notes/a/sly", **AS_US)
    assert noting.get("/v1/notes/sly", **AS_US).status == 404


@pytest.mark.parametrize("text", ["raise", "exit", "nothing", "unwritable"])
def test_one_that_fails_is_a_500_stores_nothing_and_harms_no_other(
    noting: Service, text: str
) -> None:
    answer = put(noting, text, text)
    assert answer.status == 500
    assert answer.json["detail"] == "an error of the plugin notes; it has been reported"
    log = noting.log_path.read_text()
    assert "PUT /v1/notes/{name} of plugin notes" in log
    assert "hunter2" not in log + answer.body.decode()
    assert noting.get(f"/v1/notes/{text}", **AS_US).status == 404
    assert put(noting, "b", "after").status == 200


def test_its_scope_is_asked_for(noting: Service) -> None:
    assert noting.get("/v1/notes").status == 401


def test_it_is_described_and_answers_as_described(noting: Service) -> None:
    document = noting.get("/openapi.json").json
    described = document["paths"]["/v1/notes"]["get"]
    assert described["description"] == "Scope: `read`."
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(
        noting.get("/v1/notes", **AS_US).json, {**schema, "components": document["components"]}
    )
    problem = described["responses"]["404"]["content"]["application/problem+json"]["schema"]
    assert problem != schema


class Nothing(Struct):
    pass


def handler(call: Call, shelf: Shelf) -> Nothing:
    return Nothing()


GOOD = Endpoint(
    method="GET",
    path="/v1/birds",
    summary="Birds",
    scope=Scope.READ,
    answer=Nothing,
    handler=handler,
)


class Offers:
    """A plugin with these calls."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self._endpoints = endpoints

    @hookimpl
    def mailer_routes(self, settings: Settings) -> Sequence[Endpoint]:
        return self._endpoints


def put_together(**offered: Offers) -> list[str]:
    def no_store() -> Store:
        raise AssertionError("putting the API together opens no database")

    manager = plugins.load(offered)
    settings = plugins.settings(manager, {})
    backend = Backend(settings, SystemClock(), manager, frozenset(), no_store)
    return [route.template for route in routes(backend)]


def test_two_plugins_stand_side_by_side() -> None:
    paths = put_together(a=Offers(GOOD), b=Offers(replace(GOOD, path="/v1/nests/{nest}/birds")))
    assert {"/v1/birds", "/v1/nests/{nest}/birds"} <= set(paths)


def test_a_path_of_another_plugin_stops_the_start() -> None:
    with pytest.raises(PluginError, match=r"plugin b: .*/v1/birds is a's"):
        put_together(a=Offers(GOOD), b=Offers(replace(GOOD, path="/v1/birds/{bird}")))


def change(**changes: Any) -> Callable[[], Offers]:
    return lambda: Offers(replace(GOOD, **changes))


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (change(path="/v1/topics"), "/v1/topics is mailer's"),
        (change(path="/v1/mails/{request_id}/birds"), "/v1/mails is mailer's"),
        (change(path="/health"), "its path is not"),
        (change(path="/v1/{anything}"), "its path is not"),
        (change(path="/v1/birds/{bird:path}"), "its path is not"),
        (change(path="/v2/birds"), "its path is not"),
        (change(method="HEAD"), "its method is none of"),
        (change(answer=dict), "have to be msgspec Structs"),
        (change(body=bytes, method="POST"), "have to be msgspec Structs"),
        (change(parameters=(Parameter("X", "", place="header"),)), "have to be in the query"),
        (lambda: Offers(GOOD, replace(GOOD)), "it is there twice"),
        (
            lambda: Offers(replace(GOOD, path="/v1/b/{a}"), replace(GOOD, path="/v1/b/{b}")),
            "/v1/b/{b} can't be served",
        ),
        (lambda: Offers(None), "mailer_routes"),  # type: ignore[arg-type]
    ],
)
def test_a_call_that_can_not_be_served_stops_the_start(
    plugin: Callable[[], Offers], words: str
) -> None:
    with pytest.raises(PluginError, match=rf"plugin birds: .*{words}"):
        put_together(birds=plugin())


def test_nothing_starts_and_doctor_tells_why(installation: Installation, tmp_path: Path) -> None:
    install_plugin(tmp_path / "site", "notes", NOTES.replace("/v1/notes", "/v1/topics"))
    installation.environ["PYTHONPATH"] = str(tmp_path / "site")
    installation.mailer("migrate")
    why = "plugin notes: its call GET /v1/topics can't be served: /v1/topics is mailer's"
    for command in ("serve", "run"):
        done = installation.mailer(command)
        assert (done.returncode, f"Error: {why}" in done.stderr) == (1, True), command
    done = installation.mailer("doctor", "--json")
    assert (done.returncode, why in done.stdout) == (1, True)
