"""Writes the provenance of a release: an in-toto statement with a SLSA v1 predicate.

    provenance.py DIR --revision R [--tag TAG] --parameters JSON --image NAME --digest D --tool NAME=TEXT...
                  [--packages FILE] --lock Cargo.lock

Its subjects are all files of DIR and the image. It holds no time and no name of a host, so that
the same sources and tools give the same statement.
"""

import argparse
import hashlib
import json
import pathlib


def sha256(file):
    return {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    for option in ("revision", "parameters", "image", "digest", "lock", "out"):
        parser.add_argument("--" + option, required=True)
    parser.add_argument("--tool", action="append", default=[])
    parser.add_argument("--packages", action="append", default=[])
    given = parser.parse_args()
    depends = [{"name": "source", "digest": {"gitCommit": given.revision}},
               {"name": "Cargo.lock", "digest": sha256(pathlib.Path(given.lock))}]
    for listing in given.packages:
        for line in pathlib.Path(listing).read_text().splitlines():
            name, version, digest = line.split()
            package, arch = name.split(":")
            depends.append({"uri": f"pkg:deb/debian/{package}@{version}?arch={arch}", "digest": {"sha256": digest}})
    subjects = [{"name": f.name, "digest": sha256(f)} for f in sorted(given.directory.iterdir())]
    subjects.append({"name": given.image, "digest": {"sha256": given.digest.removeprefix("sha256:")}})
    statement = {
        "_type": "https://in-toto.io/Statement/v1", "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://barbican-kms.invalid/scripts/release/v1",
                "externalParameters": json.loads(given.parameters),
                "internalParameters": {"tools": dict(tool.split("=", 1) for tool in given.tool)},
                "resolvedDependencies": depends,
            },
            "runDetails": {"builder": {"id": "https://barbican-kms.invalid/scripts/release"}},
        },
    }
    (given.directory / given.out).write_text(json.dumps(statement, indent=1) + "\n")


main()
