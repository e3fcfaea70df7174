"""What lies in deploy/ and is run elsewhere is at least what its own linter takes for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted([*ROOT.glob("deploy/*.sh"), ROOT / "systemd" / "mailer.sh", ROOT / ".ci" / "run"])


def lint(program: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT / "deploy",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts(script: Path) -> None:
    lint("shellcheck", "--external-sources", "--source-path=SCRIPTDIR", script)


def test_dockerfile() -> None:
    lint("hadolint", "Dockerfile")


def test_litestream_s_sample() -> None:
    lint("litestream", "databases", "-config", "litestream.yml")


def test_the_script_of_cloud_init(tmp_path: Path) -> None:
    cloud_init = (ROOT / "deploy" / "cloud-init.yaml").read_text()
    assert cloud_init.startswith("#cloud-config\n")
    (script,) = yaml.safe_load(cloud_init)["runcmd"]
    (tmp_path / "run").write_text(script)
    lint("shellcheck", "--shell=sh", tmp_path / "run")


def test_compose_runs_the_dockerfile_without_rights() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    PyCompose.from_yaml(text).validate()  # raises for what is not in the Compose specification
    service = yaml.safe_load(text)["services"]["mailer"]
    build = service["build"]
    assert (ROOT / "deploy" / build["context"] / build["dockerfile"]).resolve().is_file()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
