"""What stands in deploy/ for those who watch: alerts that fire when they should, a dashboard of
metrics that there are, and a runbook of commands that there are.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailer.metrics import METRICS
from tests.docs import tables
from tests.metrics.scrape import ALL_NAMES, promtool

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text()

RULES: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]
}
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
SECTIONS = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
PROGRAMS = {"cat", "df", "du", "grep", "journalctl", "ls", "lslocks", "mailer", "systemctl"}


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES.values())
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def used() -> set[str]:
    return {name for expr in expressions() for name in re.findall(r"\bmailer_\w+", expr)}


# An hour of one sample a minute: all is well. Each alert is shown one thing that is otherwise.
Series = Mapping[str, str]
STEADY, BUSY = "+0x120", "+60x120"
WELL: Series = {
    'up{job="mailer"}': "1" + STEADY,
    "mailer_senders": "2" + STEADY,
    "mailer_held": "0" + STEADY,
    'mailer_queue_mails{queue="ses",lane="bulk"}': "5000" + STEADY,
    'mailer_oldest_due_age_seconds{queue="ses",lane="bulk"}': "600" + STEADY,
    'mailer_oldest_due_age_seconds{queue="ses",lane="interactive"}': "1" + STEADY,
    'mailer_accepted_mails_total{queue="ses",lane="bulk"}': "0" + BUSY,
    'mailer_mails_total{queue="ses",lane="bulk",state="sent"}': "0" + BUSY,
    'mailer_mails_total{queue="ses",lane="bulk",state="bounced"}': "0+2x120",
    'mailer_mails_total{queue="ses",lane="bulk",state="complained"}': "1" + STEADY,
    'mailer_mails_total{queue="ses",lane="bulk",state="failed"}': "0+1x120",
    'mailer_attempts_total{transport="ses",outcome="accepted"}': "0" + BUSY,
    'mailer_transport_condition{transport="ses",condition="halted"}': "0" + STEADY,
    'mailer_transport_condition{transport="ses",condition="paused"}': "0" + STEADY,
    'mailer_quota_mails{transport="ses"}': "50000" + STEADY,
    'mailer_quota_left_mails{transport="ses"}': "20000" + STEADY,
    "mailer_uncertain_mails": "3" + STEADY,
    'mailer_event_lag_seconds_bucket{source="ses",le="10"}': "0" + BUSY,
    'mailer_event_lag_seconds_bucket{source="ses",le="3600"}': "0" + BUSY,
    'mailer_event_lag_seconds_bucket{source="ses",le="+Inf"}': "0" + BUSY,
    'mailer_plugin_lag_seconds{plugin="webhook"}': "2" + STEADY,
    'mailer_dead_letters{plugin="webhook"}': "0" + STEADY,
    'mailer_plugin_troubles{plugin="webhook"}': "0" + STEADY,
    'mailer_refusals_total{status="422"}': "0" + BUSY,
    'mailer_refusals_total{status="429"}': "3" + STEADY,
    'mailer_refusals_total{status="503"}': "3" + STEADY,
    'mailer_process_starts_total{process="sender 0"}': "4" + STEADY,
    "mailer_wal_bytes": "1000000" + STEADY,
    'mailer_lock_wait_seconds_bucket{le="0.5"}': "0" + BUSY,
    'mailer_lock_wait_seconds_bucket{le="10"}': "0" + BUSY,
    'mailer_lock_wait_seconds_bucket{le="+Inf"}': "0" + BUSY,
    "mailer_disk_free_bytes": "50000000000" + STEADY,
    "mailer_disk_reserve": "1" + STEADY,
    "mailer_last_backup_timestamp_seconds": "0" + STEADY,
    'mailer_info{version="1"}': "1" + STEADY,
}

TROUBLE: tuple[tuple[str, Series], ...] = (
    ("MailerDown", {'up{job="mailer"}': "0" + STEADY}),
    ("MailerNotSending", {"mailer_senders": "0" + STEADY}),
    (
        "MailerQueueNotMoving",
        {'mailer_attempts_total{transport="ses",outcome="accepted"}': "9x120"},
    ),
    (
        "MailerInteractiveLate",
        {'mailer_oldest_due_age_seconds{queue="ses",lane="interactive"}': "130" + STEADY},
    ),
    ("MailerBulkLate", {'mailer_oldest_due_age_seconds{queue="ses",lane="bulk"}': "30000x120"}),
    (
        "MailerTransportHalted",
        {'mailer_transport_condition{transport="ses",condition="halted"}': "1" + STEADY},
    ),
    (
        "MailerTransportTroubled",
        {'mailer_transport_condition{transport="ses",condition="paused"}': "1" + STEADY},
    ),
    ("MailerQuotaNearlyUsed", {'mailer_quota_left_mails{transport="ses"}': "4000" + STEADY}),
    ("MailerBounces", {'mailer_mails_total{queue="ses",lane="bulk",state="bounced"}': "0+4x120"}),
    (
        "MailerComplaints",
        {'mailer_mails_total{queue="ses",lane="bulk",state="complained"}': "0+1x120"},
    ),
    ("MailerFailures", {'mailer_mails_total{queue="ses",lane="bulk",state="failed"}': "0+9x120"}),
    ("MailerUncertain", {"mailer_uncertain_mails": "500" + STEADY}),
    ("MailerEventsLate", {'mailer_event_lag_seconds_bucket{source="ses",le="10"}': "0+9x120"}),
    ("MailerPluginBehind", {'mailer_plugin_lag_seconds{plugin="webhook"}': "700" + STEADY}),
    ("MailerDeadLetters", {'mailer_dead_letters{plugin="webhook"}': "1" + STEADY}),
    ("MailerPluginTroubled", {'mailer_plugin_troubles{plugin="webhook"}': "1" + STEADY}),
    ("MailerRefusing", {'mailer_refusals_total{status="503"}': "0" + BUSY}),
    ("MailerQueueFull", {'mailer_refusals_total{status="429"}': "0" + BUSY}),
    ("MailerRestarts", {'mailer_process_starts_total{process="sender 0"}': "0+1x120"}),
    ("MailerWalGrows", {"mailer_wal_bytes": "300000000" + STEADY}),
    ("MailerLockWaits", {'mailer_lock_wait_seconds_bucket{le="0.5"}': "0+9x120"}),
    ("MailerDiskLow", {"mailer_disk_free_bytes": "900000000" + STEADY}),
    ("MailerDiskFull", {"mailer_disk_reserve": "0" + STEADY}),
    ("MailerBackupOld", {"mailer_last_backup_timestamp_seconds": "-200000" + STEADY}),
    ("MailerBackupOld", {"mailer_last_backup_timestamp_seconds": ""}),
    ("MailerHeld", {"mailer_held": "1" + STEADY}),
)


def case(name: str, series: Series, fires: str | None) -> dict[str, Any]:
    """After two hours exactly this alert fires."""
    firing = [{"labels": f'{{alertname="{fires}"}}', "value": 1}] if fires else []
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": s, "values": values} for s, values in series.items() if values],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "110m",
                "exp_samples": firing,
            }
        ],
    }


def outcome(tmp_path: Path, *cases: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "cases.yml"
    content = {"rule_files": [str(ALERTS)], "evaluation_interval": "5m", "tests": list(cases)}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return promtool("test", "rules", file)


def test_each_alert_fires_for_its_trouble_and_none_when_all_is_well(tmp_path: Path) -> None:
    cases = [case(alert, {**WELL, **trouble}, alert) for alert, trouble in TROUBLE]
    done = outcome(tmp_path, case("all is well", WELL, None), *cases)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {alert for alert, _ in TROUBLE} == set(RULES)


def test_an_alert_that_does_not_fire_would_be_found(tmp_path: Path) -> None:
    """The control."""
    assert outcome(tmp_path, case("x", WELL, "MailerDown")).returncode == 1


def test_prometheus_takes_the_rules_and_the_sample() -> None:
    checked = promtool("check", "rules", ALERTS)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    sample = promtool("check", "config", "--syntax-only", ALERTS.with_name("prometheus.yml"))
    assert sample.returncode == 0, sample.stdout + sample.stderr


def test_alerts_and_dashboard_use_what_there_is_and_leave_nothing_unseen() -> None:
    assert used() <= ALL_NAMES
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name in used()}
    assert {metric.name for metric in METRICS} <= shown | used()


def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    asked = [expr.replace("$__rate_interval", "5m") for expr in expressions()]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint=none", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken)), "panels overlap"


def test_each_alert_has_its_place_in_the_runbook() -> None:
    assert list(SECTIONS) == list(RULES)
    for alert, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{alert.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        words = re.findall(r"^(Means|Do|Don't): \S", SECTIONS[alert], re.MULTILINE)
        assert words == ["Means", "Do", "Don't"], alert
        for other in re.findall(r"\bMailer[A-Z]\w+", SECTIONS[alert]):
            assert other in RULES, (alert, other)


@pytest.mark.parametrize("alert", RULES)
def test_the_runbook_s_first_commands_are_three_that_there_are(alert: str) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", SECTIONS[alert], re.DOTALL)
    commands = [line.removeprefix("sudo ") for line in block.splitlines()]
    assert len(commands) == 3
    assert {command.split()[0] for command in commands} <= PROGRAMS


def test_every_command_of_mailer_in_the_runbook_is_one() -> None:
    known = dict(tables.visible_commands())
    named = re.findall(r"(?:sudo |`)(mailer [^`\n…]+)", RUNBOOK)
    assert len(named) > 40
    for line in named:
        words = line.split()
        names = [name for name in known if words[: len(name.split())] == name.split()]
        assert names, line
        name = max(names, key=len)
        options = {option for o in tables.options(known[name]) for option in o.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
