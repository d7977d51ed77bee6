#!/usr/bin/env python3
"""Prints the components that are linked into a package's binaries, as CycloneDX 1.6 in JSON.

    tests/sbom.py keyledger-api > keyledger.cdx.json

What is compiled comes from `cargo tree`, which resolves features for this package alone; what
depends on what from `cargo metadata`, checksums from Cargo.lock. The same lock file gives the same
text: there is no time and no random serial number in it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def metadata():
    host = next(
        line.split()[1]
        for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines()
        if line.startswith("host:")
    )
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    return json.loads(subprocess.check_output(command, cwd=ROOT, text=True))


def compiled(name):
    """The (name, version) of each package that a build of this one compiles for the binary. Features
    that only other packages of the workspace turn on add nothing."""
    command = ["cargo", "tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"]
    lines = subprocess.check_output([*command, "--locked"], cwd=ROOT, text=True).splitlines()
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line.strip()}


def linked(graph, root, compiled):
    """The ids of the packages that normal dependencies lead to, and what each depends on."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    ids = {it["id"] for it in graph["packages"] if (it["name"], it["version"]) in compiled}
    edges, waiting = {}, [root]
    while waiting:
        id = waiting.pop()
        if id in edges:
            continue
        edges[id] = sorted(
            dependency["pkg"]
            for dependency in nodes[id]["deps"]
            if dependency["pkg"] in ids and any(kind["kind"] is None for kind in dependency["dep_kinds"])
        )
        waiting.extend(edges[id])
    return edges


def component(package, checksums):
    name, version = package["name"], package["version"]
    shown = {"type": "library", "bom-ref": reference(package), "name": name, "version": version}
    if package["description"]:
        shown["description"] = " ".join(package["description"].split())
    checksum = checksums.get((name, version))
    if checksum:
        shown["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["license"]:
        # Some packages still separate alternatives by a slash.
        expression = package["license"].replace("/", " OR ")
        shown["licenses"] = [{"expression": expression}]
    if package["source"]:
        # Packages of this workspace are in no registry, where their names could be somebody else's.
        shown["purl"] = reference(package)
    if package["repository"]:
        shown["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return shown


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def main(name):
    graph = metadata()
    packages = {package["id"]: package for package in graph["packages"]}
    root = next(package for package in graph["packages"] if package["name"] == name)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(it["name"], it["version"]): it.get("checksum") for it in lock["package"]}
    edges = linked(graph, root["id"], compiled(name))
    others = sorted((packages[id] for id in edges if id != root["id"]), key=reference)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**component(root, checksums), "type": "application"}},
        "components": [component(package, checksums) for package in others],
        "dependencies": sorted(
            (
                {"ref": reference(packages[id]), "dependsOn": sorted(reference(packages[it]) for it in to)}
                for id, to in edges.items()
            ),
            key=lambda it: it["ref"],
        ),
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("sbom.py: name one package, such as keyledger-api")
    main(sys.argv[1])
