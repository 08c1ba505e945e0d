#!/usr/bin/env python3
"""Holds scripts/supply-chain.toml against the crates of the shipped program.

    scripts/releasing/supply_chain.py [--write]

Fails if a shipped crate is not listed in its version with its hash, if one is listed that is not
shipped, if it does not say what for and who looked, or if what it does is not what its source does:
how often it says `unsafe`, whether it has a build script, and whether it mentions files, sockets,
programs or the environment. --write puts those facts and new versions in; who looked at a new
version is then empty, for a person to fill in.
"""

import pathlib
import re
import sys
import tomllib

from crates import RUNTIME, crates

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
LIST = TOP / "scripts/supply-chain.toml"
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
UNSAFE = re.compile(r"\bunsafe\s*(?:\{|fn\b|impl\b|extern\b)")
REACHES = {
    "files": re.compile(r"\bfs::|\bFile::(?:open|create)\b|\bopenat?\("),
    "sockets": re.compile(r"\b(?:Tcp|Udp|Unix)(?:Stream|Listener|Socket|Datagram)\b|\bsocket\("),
    "programs": re.compile(r"\bprocess::Command\b|\bCommand::new\(\"|\bexecve?\(|\bfork\("),
    "environment": re.compile(r"\benv::vars?(?:_os)?\("),
}


def facts(crate):
    """What the source of one crate does, as far as its words tell."""
    sources = [f for f in sorted(crate["directory"].rglob("*.rs"))
               if not {"tests", "benches", "examples"} & set(f.relative_to(crate["directory"]).parts)]
    text = "\n".join(COMMENT.sub("", f.read_text(errors="replace")) for f in sources if f.name != "build.rs")
    reaches = [what for what, words in REACHES.items() if words.search(text)]
    if (crate["directory"] / "build.rs").exists():
        reaches.insert(0, "build")
    return {"unsafe": len(UNSAFE.findall(text)), "does": reaches}


def shipped():
    """Name with version, and what is known of each crate of the program."""
    found = crates(TOP)
    # Cargo.lock does not say which of our own dependencies are for tests.
    direct = tomllib.loads((TOP / "Cargo.toml").read_text())["dependencies"]
    users = {}
    for crate in found:
        if crate["use"] == RUNTIME:
            for need in crate["needs"]:
                if crate["registry"] or need[0] in direct:
                    users.setdefault(need, []).append(crate["name"])
    return {f"{c['name']} {c['version']}": {
        "by": sorted(users[c["name"], c["version"]]), "sha256": c["checksum"], **facts(c),
    } for c in found if c["use"] == RUNTIME and c["registry"]}


def written(entries):
    """The list as text."""
    yield ("# The crates of the shipped program: why each is there, and who has looked at it. scripts/test deny\n"
           "# checks it by scripts/releasing/supply_chain.py, which also says what the facts are; --write renews them.\n"
           "# `by`: the crates that need it; barbican-kms itself where the dependency is direct.\n")
    for key, entry in sorted(entries.items()):
        yield f'\n["{key}"]\n'
        for name, value in entry.items():
            text = "[" + ", ".join(f'"{v}"' for v in value) + "]" if isinstance(value, list) else \
                str(value) if isinstance(value, int) else f'"{value}"'
            yield f"{name} = {text}\n"


def renewed(known, there):
    """What is listed, with the facts of what is there."""
    by_name = {key.rsplit(" ", 1)[0]: entry for key, entry in known.items()}
    return {key: {"for": by_name.get(key.rsplit(" ", 1)[0], {}).get("for", ""),
                  "looked": known.get(key, {}).get("looked", ""), **found} for key, found in there.items()}


def wrong(known, there):
    """What is not as it should be."""
    for key in sorted(set(known) | set(there)):
        if key not in known:
            yield f"{key}: shipped, and not listed"
        elif key not in there:
            yield f"{key}: listed, and not shipped"
        else:
            for field in ("for", "looked"):
                if not known[key].get(field):
                    yield f"{key}: `{field}` is empty"
            for field, value in there[key].items():
                if known[key].get(field) != value:
                    yield f"{key}: `{field}` is {value}, and listed as {known[key].get(field)}"


def main():
    known = tomllib.loads(LIST.read_text()) if LIST.exists() else {}
    there = shipped()
    if sys.argv[1:] == ["--write"]:
        known = renewed(known, there)
        LIST.write_text("".join(written(known)))
    elif sys.argv[1:]:
        sys.exit(__doc__)
    problems = list(wrong(known, there))
    print(*problems, sep="\n", end="\n" if problems else "")
    unread = sum(entry.get("looked", "").startswith("nobody") for entry in known.values())
    print(f"supply chain: {len(there)} crates, {len(problems)} problems; nobody here has read {unread} of them")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
