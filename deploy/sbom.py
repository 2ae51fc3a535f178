"""Reads `cargo metadata` and writes the list of parts of what is shipped: CycloneDX 1.5 JSON.

Only what the programs are built from: dependencies of cli, agent and coordinator, not those of tests or build scripts' hosts.
"""

import json
import sys

ROOTS = {"quorate-cli", "quorate-agent", "quorate-coordinator"}


def main() -> None:
    meta = json.load(sys.stdin)
    packages = {p["id"]: p for p in meta["packages"]}
    nodes = {n["id"]: n for n in meta["resolve"]["nodes"]}
    todo = [i for i, p in packages.items() if p["name"] in ROOTS and p["source"] is None]
    if len(todo) != len(ROOTS):
        sys.exit("error: the crates that make the programs were not found")
    seen = set()
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        for dep in nodes[at]["deps"]:
            if any(kind["kind"] in (None, "build") for kind in dep["dep_kinds"]):
                todo.append(dep["pkg"])

    def ref(package: dict) -> str:
        return f"pkg:cargo/{package['name']}@{package['version']}"

    parts = []
    for package in sorted((packages[i] for i in seen), key=lambda p: (p["name"], p["version"])):
        part = {"type": "library", "bom-ref": ref(package), "name": package["name"], "version": package["version"]}
        part["purl"] = ref(package)
        if package.get("license"):
            part["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        parts.append(part)
    edges = [
        {"ref": ref(packages[i]), "dependsOn": sorted({ref(packages[d]) for d in nodes[i]["dependencies"] if d in seen})}
        for i in sorted(seen)
    ]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "quorate", "version": sys.argv[1]}},
        "components": parts,
        "dependencies": edges,
    }
    json.dump(bom, sys.stdout, indent=1)
    sys.stdout.write("\n")


main()
