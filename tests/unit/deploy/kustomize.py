"""Renders the part of kustomize that deploy/ uses, for machines without kubectl.

`test_kustomize.py` compares it with `kubectl kustomize`, where that is, on every folder. Knows resources, components,
configMapGenerator (envs, files, literals, merge), labels, images, namespace, strategic-merge patches, and replacements
of a part of a text; refuses anything else.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

KNOWN = {
    "apiVersion",
    "kind",
    "resources",
    "components",
    "configMapGenerator",
    "patches",
    "labels",
    "images",
    "namespace",
    "replacements",
}
#: What the merge of two lists goes by, tried in this order.
MERGE_KEYS = ("name", "mountPath", "containerPort")
CLUSTER_SCOPED = {"Namespace", "PriorityClass"}
WORKLOADS = {"Deployment", "StatefulSet"}


def render(folder: Path) -> list[Manifest]:
    """Every manifest of a kustomization, names of generated ConfigMaps with their hash."""
    manifests = _accumulate(folder, [])
    names = {}
    for manifest in manifests:
        if manifest.pop("_generated", False):
            name = manifest["metadata"]["name"]
            names[name] = f"{name}-{content_hash(manifest)}"
    return [_renamed(manifest, names) for manifest in manifests]


def _accumulate(folder: Path, manifests: list[Manifest]) -> list[Manifest]:
    spec = yaml.safe_load((folder / "kustomization.yaml").read_text())
    extra = set(spec) - KNOWN
    if extra:
        raise NotImplementedError(f"{folder}: {', '.join(extra)}")
    for name in spec.get("resources", []):
        path = folder / name
        manifests += _accumulate(path, []) if path.is_dir() else _documents(path)
    for name in spec.get("components", []):
        manifests = _accumulate(folder / name, manifests)
    for generator in spec.get("configMapGenerator", []):
        _generate(manifests, folder, generator)
    for patch in spec.get("patches", []):
        # One patch a file: kubectl 1.30 and older take no more.
        (document,) = _documents(folder / patch["path"])
        _patch(manifests, document, patch.get("target"))
    _transform(manifests, spec)
    return manifests


def _transform(manifests: list[Manifest], spec: dict[str, Any]) -> None:
    """Apply what a kustomization says of everything under it: labels, images, namespace, replacements."""
    for labels in spec.get("labels", []):
        for manifest in manifests:
            _label(manifest, labels)
    for image in spec.get("images", []):
        for manifest in manifests:
            tag = f"@{image['digest']}" if "digest" in image else f":{image['newTag']}"
            _retag(manifest, image["name"], f"{image['newName']}{tag}")
    if "namespace" in spec:
        for manifest in manifests:
            if manifest["kind"] == "Namespace":
                manifest["metadata"]["name"] = spec["namespace"]
            elif manifest["kind"] not in CLUSTER_SCOPED:
                manifest["metadata"]["namespace"] = spec["namespace"]
    for replacement in spec.get("replacements", []):
        _replace(manifests, replacement)


def _documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _generate(manifests: list[Manifest], folder: Path, generator: dict[str, Any]) -> None:
    """Add the ConfigMap of a generator, or its data to the one of that name (`behavior: merge`)."""
    data: dict[str, str] = {}
    for name in generator.get("envs", []):
        lines = (line.strip() for line in (folder / name).read_text().splitlines())
        data |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for name in generator.get("files", []):
        data[Path(name).name] = (folder / name).read_text()
    data |= dict(literal.split("=", 1) for literal in generator.get("literals", []))
    if generator.get("behavior") == "merge":
        _named(manifests, "ConfigMap", generator["name"])["data"] |= data
        return
    options = generator.get("options", {})
    metadata: dict[str, Any] = {"name": generator["name"]}
    if "labels" in options:
        metadata["labels"] = dict(options["labels"])
    manifests.append(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": data,
            "_generated": not options.get("disableNameSuffixHash", False),
        }
    )


def _named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name))


def _replace(manifests: list[Manifest], replacement: dict[str, Any]) -> None:
    """Put the source's field into one piece of each target's text, pieces being between delimiters."""
    source = replacement["source"]
    value: Any = _named(manifests, source["kind"], source["name"])
    for key in source["fieldPath"].split("."):
        value = value[key]
    for target in replacement["targets"]:
        manifest, options = _named(manifests, **target["select"]), target["options"]
        for path in target["fieldPaths"]:
            *parents, last = path.split(".")
            node: Any = manifest
            for key in parents:
                node = _step(node, key)
            pieces = node[last].split(options["delimiter"])
            pieces[options["index"]] = value
            node[last] = options["delimiter"].join(pieces)


def _step(node: Any, key: str) -> Any:
    """Go down one level: a name, or `[name=value]` for the one item of a list."""
    if match := re.fullmatch(r"\[(\w+)=(\w+)\]", key):
        (item,) = (item for item in node if item[match[1]] == match[2])
        return item
    return node[key]


def content_hash(config_map: Manifest) -> str:
    """Kustomize's name suffix: SHA-256 of the sorted content (its name left out), look-alikes replaced."""
    content = {"data": config_map["data"], "kind": "ConfigMap", "name": ""}
    # Go's encoder escapes these three; Python's does not.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(str.maketrans("013ae", "ghkmt"))


def _patch(manifests: list[Manifest], patch: Manifest, target: dict[str, str] | None) -> None:
    for i, manifest in enumerate(manifests):
        if target is None:
            hit = (manifest["kind"], manifest["metadata"]["name"]) == (patch["kind"], patch["metadata"]["name"])
        else:
            hit = re.fullmatch(target["kind"], manifest["kind"]) is not None
            hit = hit and re.fullmatch(target.get("name", ".*"), manifest["metadata"]["name"]) is not None
            if "labelSelector" in target:
                key, value = target["labelSelector"].split("=")
                hit = hit and manifest["metadata"].get("labels", {}).get(key) == value
        if hit:
            name, kind = manifest["metadata"]["name"], manifest["kind"]
            manifests[i] = merge(manifest, patch)
            manifests[i]["metadata"]["name"], manifests[i]["kind"] = name, kind


def merge(old: Any, new: Any) -> Any:
    """Strategic merge: maps by key, lists of named things by name, everything else replaced; null deletes."""
    if isinstance(old, dict) and isinstance(new, dict):
        merged = dict(old)
        for key, value in new.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge(old[key], value) if key in old else copy.deepcopy(value)
        return merged
    if isinstance(old, list) and isinstance(new, list):
        key = next((k for k in MERGE_KEYS if all(isinstance(x, dict) and k in x for x in old + new)), None)
        if key is None:
            return copy.deepcopy(new)
        known = {item[key]: item for item in old}
        deleted = {item[key] for item in new if item.get("$patch") == "delete"}
        changed = {item[key]: merge(known[item[key]], item) if item[key] in known else item for item in new}
        # New items come first, as kustomize puts them.
        added = [copy.deepcopy(item) for item in new if item[key] not in known and item[key] not in deleted]
        return added + [changed.get(item[key], item) for item in old if item[key] not in deleted]
    return copy.deepcopy(new)


def _label(manifest: Manifest, labels: dict[str, Any]) -> None:
    places = [manifest["metadata"]]
    if labels.get("includeTemplates") and manifest["kind"] in WORKLOADS:
        places.append(manifest["spec"]["template"].setdefault("metadata", {}))
    if labels.get("includeTemplates") and manifest["kind"] == "StatefulSet":
        places += [claim["metadata"] for claim in manifest["spec"].get("volumeClaimTemplates", [])]
    for place in places:
        place.setdefault("labels", {}).update(labels["pairs"])


def _retag(node: Any, name: str, image: str) -> None:
    if isinstance(node, dict):
        if node.get("image") == name:
            node["image"] = image
        for value in node.values():
            _retag(value, name, image)
    elif isinstance(node, list):
        for value in node:
            _retag(value, name, image)


def _renamed(node: Any, names: dict[str, str]) -> Any:
    """References to generated ConfigMaps, and the ConfigMaps themselves, under their final names."""
    if isinstance(node, dict):
        if node.get("kind") == "ConfigMap" and node["metadata"]["name"] in names:
            return node | {"metadata": node["metadata"] | {"name": names[node["metadata"]["name"]]}}
        return {
            key: value | {"name": names.get(value["name"], value["name"])}
            if key in ("configMap", "configMapRef")
            else _renamed(value, names)
            for key, value in node.items()
        }
    return [_renamed(item, names) for item in node] if isinstance(node, list) else node
