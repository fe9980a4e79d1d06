"""deploy/ray/serve.yaml as these drills deploy it: two planners, places on this machine, the rest as it is."""

from pathlib import Path
from typing import Any

import yaml

from benchmarks.compose.engine import ROOT
from umi.roles import Role

CONFIG = ROOT / "deploy" / "ray" / "serve.yaml"
SCRIPTED = "benchmarks.ray.scripted:role"
PATIENCE = 900
"""Seconds: for so long a run waits for a role whose engine is started elsewhere, on a machine that does much else."""


def settings(folder: Path, port: int, database: str, is_scripted: bool) -> dict[str, Any]:
    """The Serve config. `folder` has secrets/ and registry/; the proxies listen on `port` of this machine."""
    config = yaml.safe_load(CONFIG.read_text())
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    places = {"UMI_SETTINGS_DIRECTORY": str(folder / "secrets"), "UMI_REGISTRY": str(folder / "registry")}
    engine = {"UMI_BACKBONE": str(ROOT / "var" / "backbone"), "UMI_KV_CACHE_MIB": "256", "UMI_MAX_NUM_SEQS": "8"}
    urls = {f"UMI_{role.upper()}_URL": f"http://127.0.0.1:{port}/{role}" for role in Role}
    gateway = {"UMI_DATABASE": database, "UMI_TOOL_ALLOW": "127.0.0.1", "UMI_ROLE_PATIENCE_SECONDS": str(PATIENCE)}
    for app in config["applications"]:
        is_gateway = app["name"] == "gateway"
        env = {**app["runtime_env"]["env_vars"], **places, **(gateway | urls if is_gateway else engine)}
        app["runtime_env"] = {"env_vars": env}
        if is_scripted and not is_gateway:
            app["import_path"] = SCRIPTED
        (deployment,) = app["deployments"]
        least = deployment["autoscaling_config"]["min_replicas"]
        deployment["autoscaling_config"] = {**deployment["autoscaling_config"], "max_replicas": least}
        deployment["max_surge_percent"] = 0  # there is no memory for one more engine
        if app["name"] in (Role.CALLER, Role.SUMMARIZER):  # placement by node: the only ones, on the node that stays
            options = deployment["ray_actor_options"]
            deployment["ray_actor_options"] = {**options, "label_selector": {"umi": "cpu", "node": "first"}}
    return config
