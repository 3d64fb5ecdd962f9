"""The shipped KubeRay file, held against what ray.io/v1 documents of a RayCluster and Kubernetes of its pods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
TEXT: dict[str, Any] = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$"}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def several(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


TEXTS = {"type": "object", "additionalProperties": TEXT}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
CONTAINER = closed(
    ["name", "image", "resources"],
    name=TEXT,
    image=TEXT,
    ports=several(closed(["containerPort"], containerPort=NUMBER, name=TEXT)),
    env=several(closed(["name", "value"], name=TEXT, value=TEXT)),
    envFrom=several(closed(["secretRef"], secretRef=closed(["name"], name=TEXT, optional={"type": "boolean"}))),
    resources=closed([], requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=several(closed(["name", "mountPath"], name=TEXT, mountPath=TEXT)),
)
VOLUME = closed(["name", "emptyDir"], name=TEXT, emptyDir=closed([], sizeLimit=QUANTITY))
TEMPLATE = closed(["spec"], spec=closed(["containers"], containers=several(CONTAINER), volumes=several(VOLUME)))
WORKERS = closed(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    groupName=TEXT,
    replicas=NUMBER,
    minReplicas=NUMBER,
    maxReplicas=NUMBER,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=closed(["name"], name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 50}),
    spec=closed(
        ["rayVersion", "headGroupSpec"],
        rayVersion=TEXT,
        enableInTreeAutoscaling={"type": "boolean"},
        autoscalerOptions=closed([], idleTimeoutSeconds=NUMBER),
        headGroupSpec=closed(["rayStartParams", "template"], rayStartParams=TEXTS, template=TEMPLATE),
        workerGroupSpecs=several(WORKERS),
    ),
)


@pytest.fixture
def cluster() -> Any:
    return YAML(typ="safe").load(ROOT / "docs" / "kuberay.yaml")


def test_the_file_is_what_the_operator_documents(cluster: Any) -> None:
    jsonschema.Draft202012Validator(CLUSTER).validate(cluster)
    cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="0 is not of type 'string'"):
        jsonschema.Draft202012Validator(CLUSTER).validate(cluster)


def test_it_is_consistent_with_itself_and_with_what_is_pinned(cluster: Any) -> None:
    spec = cluster["spec"]
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert spec["rayVersion"] == pinned.group(1)
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    assert {container["image"].rpartition(":")[2] for pod in pods for container in pod["containers"]} == {
        spec["rayVersion"]
    }
    for pod in pods:
        mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
