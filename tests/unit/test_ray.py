"""What deploy/ray promises, read from its files; `make test-ray` runs it, and this where Ray is installed."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.locks import RAY, WHOLE, ray_lock
from deploy.ray.manifest import CONFIG, MANIFEST, rendered
from gateway.settings import Settings
from services.settings import RoleSettings
from umi.roles import Role

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra: make test-ray")
SERVE: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
APPS: dict[str, dict[str, Any]] = {app["name"]: app for app in SERVE["applications"]}
SERVICE: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
CLUSTER: dict[str, Any] = SERVICE["spec"]["rayClusterConfig"]
GROUPS: list[dict[str, Any]] = CLUSTER["workerGroupSpecs"]

# Fields of ray.io/v1 that are used here, of the types they have in KubeRay's reference.
SPEC = {"serveConfigV2": str, "rayClusterConfig": dict}
CLUSTER_SPEC = {
    "rayVersion": str,
    "authOptions": dict,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": dict,
    "headGroupSpec": dict,
    "workerGroupSpecs": list,
}
HEAD = {"rayStartParams": dict, "template": dict}
WORKERS = {
    **HEAD,
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "labels": dict,
}


def deployment(name: str) -> dict[str, Any]:
    (only,) = APPS[name]["deployments"]
    return only


def environment(name: str) -> dict[str, str]:
    return APPS[name]["runtime_env"]["env_vars"]


def test_each_role_and_the_gateway_is_an_application_under_a_path_of_its_own() -> None:
    assert {name: app["route_prefix"] for name, app in APPS.items()} == {
        **{str(role): f"/{role}" for role in Role},
        "gateway": "/",
    }
    for role in Role:
        assert APPS[role]["args"] == {"role": role} and deployment(role)["name"] == role


def test_the_gateway_asks_the_roles_where_they_are_served() -> None:
    port = SERVE["http_options"]["port"]
    for role in Role:
        url = environment("gateway")[f"UMI_{role.upper()}_URL"]
        assert url == f"http://127.0.0.1:{port}{APPS[role]['route_prefix']}"
    assert SERVE["proxy_location"] == "EveryNode"  # or there is nobody at that address


@pytest.mark.parametrize("name", [*Role, "gateway"])
def test_every_setting_is_one_that_the_service_has(name: str) -> None:
    known = (Settings if name == "gateway" else RoleSettings).model_fields
    named = {variable for variable in environment(name) if variable != "UMI_SETTINGS_DIRECTORY"}
    assert named and {variable.removeprefix("UMI_").lower() for variable in named} <= set(known)
    assert not re.search(r"(?i)password|token|_key\b", " ".join(named)), "secrets are files"


@pytest.mark.parametrize("name", [*Role, "gateway"])
def test_replicas_are_scaled_placed_checked_drained_and_replaced_without_a_gap(name: str) -> None:
    one = deployment(name)
    scaling, options = one["autoscaling_config"], one["ray_actor_options"]
    assert 1 <= scaling["min_replicas"] < scaling["max_replicas"] and scaling["target_ongoing_requests"] > 0
    assert scaling["target_ongoing_requests"] <= one["max_ongoing_requests"]
    assert options["num_cpus"] > 0 and options["memory"] > 0 and options["label_selector"]
    assert one["health_check_period_s"] <= 10 and one["graceful_shutdown_timeout_s"] >= 30
    assert one["max_surge_percent"] > 0


@pytest.mark.parametrize("role", Role)
def test_serve_turns_requests_away_before_a_role_has_to(role: Role) -> None:
    one = deployment(role)
    assert one["max_ongoing_requests"] <= int(environment(role)["UMI_MAX_QUEUE"])
    assert one["backpressure_config"] == {"status_code": 503, "retry_after_s": 1}


def test_several_gateways_share_postgresql_and_wait_longer_than_an_engine_takes_to_start() -> None:
    assert deployment("gateway")["autoscaling_config"]["min_replicas"] > 1
    assert environment("gateway")["UMI_DATABASE"].startswith("postgresql://")
    assert float(environment("gateway")["UMI_ROLE_PATIENCE_SECONDS"]) >= 120


def test_the_manifest_holds_the_serve_config() -> None:
    text, config = MANIFEST.read_text(), CONFIG.read_text()
    assert rendered(text, config) == text, "it is old: run .venv/bin/python -m deploy.ray.manifest"
    assert yaml.safe_load(SERVICE["spec"]["serveConfigV2"]) == SERVE
    assert "&" not in SERVICE["spec"]["serveConfigV2"]
    changed = rendered(text, config.replace("max_replicas: 6", "max_replicas: 7"))
    assert changed != text and yaml.safe_load(changed)["spec"]["rayClusterConfig"] == CLUSTER


def test_the_manifest_has_the_fields_of_kuberays_types_and_says_that_it_was_not_run() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("ray.io/v1", "RayService") and SERVICE["metadata"]["name"]
    parts = [(SERVICE["spec"], SPEC), (CLUSTER, CLUSTER_SPEC), (CLUSTER["headGroupSpec"], HEAD)]
    for found, wanted in [*parts, *((group, WORKERS) for group in GROUPS)]:
        assert {field: type(value) for field, value in found.items()} == wanted
    assert "NOT RUN ON A LIVE CLUSTER" in MANIFEST.read_text()
    assert CLUSTER["authOptions"] == {"mode": "token"}
    for group in (CLUSTER["headGroupSpec"], *GROUPS):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert re.search(r":\d+\.\d+", container["image"])
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}


def test_every_replica_finds_a_group_of_nodes_that_is_large_enough() -> None:
    labels = {tuple(group["labels"].items()): group for group in GROUPS}
    assert len(labels) == len(GROUPS)
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for name in APPS:
        options = deployment(name)["ray_actor_options"]
        group = labels[tuple(options["label_selector"].items())]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert options["num_cpus"] <= int(limits["cpu"]) and options["memory"] <= int(limits["memory"][:-2]) * 2**30
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_what_the_manifest_mounts_is_where_the_settings_look() -> None:
    (container,) = GROUPS[0]["template"]["spec"]["containers"]
    mounted = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    for name in APPS:
        for variable in ("UMI_SETTINGS_DIRECTORY", "UMI_REGISTRY", "UMI_BACKBONE"):
            if (place := environment(name).get(variable)) is not None:
                assert any(Path(place).is_relative_to(folder) for folder in mounted), variable


def test_rays_lock_pins_what_is_not_in_the_whole_lock_already() -> None:
    lines = RAY.read_text().split()
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.+]+", line) for line in lines) and lines == sorted(lines)
    names = {line.partition("==")[0] for line in lines}
    assert not names & {line.partition("==")[0] for line in WHOLE.read_text().split()}
    ray = next(line for line in lines if line.startswith("ray=="))
    assert f'"{ray.replace("==", "[serve]==")}"' in (WHOLE.parents[1] / "pyproject.toml").read_text()
    assert CLUSTER["rayVersion"] == ray.partition("==")[2]


@needs_ray
def test_rays_lock_is_whole() -> None:
    assert RAY.read_text() == ray_lock()


@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's own
def test_ray_takes_the_serve_config() -> None:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    taken = ServeDeploySchema.model_validate(SERVE)
    assert [app.name for app in taken.applications] == list(APPS)
    for name in APPS:
        AutoscalingConfig(**deployment(name)["autoscaling_config"])
        assert set(deployment(name)) <= set(type(taken.applications[0].deployments[0]).model_fields)
