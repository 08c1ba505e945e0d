"""What Cargo.lock holds, and what of it is in the shipped program."""

import json
import pathlib
import subprocess
import tomllib

TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
RUNTIME, BUILD, TEST = "runtime", "build", "test"


def cargo(top, *arguments):
    return subprocess.run(["cargo", *arguments, "--locked"], cwd=top, check=True, stdout=subprocess.PIPE, text=True).stdout


def listed(top, edges):
    """Name and version of all crates that cargo lists along these edges, for either target."""
    found = set()
    for target in TARGETS:
        text = cargo(top, "tree", "--edges", edges, "--target", target, "--prefix", "none", "--format", "{p}")
        found |= {(words[0], words[1].removeprefix("v")) for words in map(str.split, text.splitlines()) if words}
    return found


def crates(top):
    """Every package of Cargo.lock as a dictionary, sorted; `use` says where it goes."""
    locked = tomllib.loads((pathlib.Path(top) / "Cargo.lock").read_text())["package"]
    known = {(p["name"], p["version"]): p for p in json.loads(cargo(top, "metadata", "--format-version", "1"))["packages"]}
    shipped, building = listed(top, "normal,no-proc-macro"), listed(top, "normal,build")
    versions = {}
    for package in locked:
        versions.setdefault(package["name"], []).append(package["version"])
    result = []
    for package in locked:
        key = package["name"], package["version"]
        # A name alone means its only version.
        needs = [tuple(d.split()[:2]) if " " in d else (d, versions[d][0]) for d in package.get("dependencies", [])]
        about = known.get(key, {})
        result.append({
            "name": key[0], "version": key[1], "checksum": package.get("checksum"), "registry": "source" in package,
            "needs": sorted(needs), "use": RUNTIME if key in shipped else BUILD if key in building else TEST,
            "license": (about.get("license") or "NOASSERTION").replace("/", " OR "),
            "directory": pathlib.Path(about["manifest_path"]).parent if about else None,
            "license_file": about.get("license_file"),
        })
    return sorted(result, key=lambda c: (c["name"], c["version"]))


def licences(found):
    """The texts that the shipped crates carry, each once, under the names of its crates."""
    texts = {}
    for crate in found:
        if crate["use"] != RUNTIME or not crate["registry"]:
            continue
        files = sorted(f for f in crate["directory"].iterdir() if f.is_file()
                       and f.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")))
        if crate["license_file"]:
            files.append(crate["directory"] / crate["license_file"])
        name = f"{crate['name']} {crate['version']} ({crate['license']})"
        for text in {f.read_text(errors="replace").strip() for f in files} or {""}:
            texts.setdefault(text, []).append(name)
    yield "Licences of the crates that are part of the program. Its own is in LICENSE.\n"
    for text, names in sorted(texts.items(), key=lambda item: (item[1], item[0])):
        yield "=" * 80 + "\n" + "\n".join(names) + "\n\n" + (
            text or "The crate carries no text; its licence is the one in brackets, of https://spdx.org/licenses/.") + "\n"


def auditable(found):
    """The list of crates that `cargo auditable` would put into the program."""
    chosen = [c for c in found if c["use"] != TEST]
    at = {(c["name"], c["version"]): n for n, c in enumerate(chosen)}
    packages = []
    for crate in chosen:
        entry = {"name": crate["name"], "version": crate["version"], "source": "crates.io" if crate["registry"] else "local"}
        if crate["use"] == BUILD:
            entry["kind"] = "build"
        needs = sorted(at[need] for need in crate["needs"] if need in at)
        if needs:
            entry["dependencies"] = needs
        if not crate["registry"]:
            entry["root"] = True
        packages.append(entry)
    return {"packages": packages}
