"""Writes what a release is made of: bills of materials, licences, the list within the program.

    bill.py DIR --name NAME --version V --epoch SECONDS --rust V --glibc V

NAME.cdx.json (CycloneDX 1.5), NAME.spdx.json (SPDX 2.3), THIRD-PARTY-LICENSES, and dep-v0, which
goes into the section of the program that `cargo auditable` uses. All of Cargo.lock is in the
bills; what is only for building or testing is marked so. The same sources give the same bytes.
"""

import argparse
import datetime
import json
import pathlib
import uuid
import zlib

from crates import BUILD, RUNTIME, TEST, auditable, crates, licences

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


def purl(crate):
    return f"pkg:cargo/{crate['name']}@{crate['version']}"


def cyclonedx(found, base, given):
    def component(crate):
        entry = {"type": "library", "bom-ref": purl(crate), "name": crate["name"], "version": crate["version"],
                 "purl": purl(crate), "scope": "required" if crate["use"] == RUNTIME else "excluded",
                 "licenses": [{"expression": crate["license"]}],
                 "properties": [{"name": "barbican-kms:use", "value": crate["use"]}]}
        if crate["checksum"]:
            entry["hashes"] = [{"alg": "SHA-256", "content": crate["checksum"]}]
        return entry

    root = next(c for c in found if not c["registry"])
    more = [{"type": "library", "bom-ref": f"pkg:generic/{b['name']}@{b['version']}", "name": b["name"], "version": b["version"],
             "purl": f"pkg:generic/{b['name']}@{b['version']}", "scope": "required", "licenses": [{"expression": b["license"]}]}
            for b in base]
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, given.namespace)),
        "metadata": {"timestamp": given.created, "component": {
            "type": "application", "bom-ref": purl(root), "name": root["name"], "version": root["version"],
            "purl": purl(root), "licenses": [{"expression": root["license"]}]}},
        "components": [component(c) for c in found if c is not root] + more,
        "dependencies": [{"ref": purl(c), "dependsOn": [f"pkg:cargo/{n}@{v}" for n, v in c["needs"]]
                          + ([m["purl"] for m in more] if c is root else [])} for c in found],
    }


def spdx(found, base, given):
    def spdxid(name, version):
        return "SPDXRef-" + "".join(c if c.isalnum() or c in ".-" else "-" for c in f"{name}-{version}")

    packages, relations = [], []
    root = next(c for c in found if not c["registry"])
    me = spdxid(root["name"], root["version"])
    relations.append({"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": me})
    for crate in found:
        own = spdxid(crate["name"], crate["version"])
        entry = {"SPDXID": own, "name": crate["name"], "versionInfo": crate["version"], "filesAnalyzed": False,
                 "downloadLocation": f"https://static.crates.io/crates/{crate['name']}/{crate['name']}-{crate['version']}.crate"
                 if crate["registry"] else "NOASSERTION",
                 "licenseDeclared": crate["license"], "licenseConcluded": "NOASSERTION", "copyrightText": "NOASSERTION",
                 "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl(crate)}]}
        if crate["checksum"]:
            entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": crate["checksum"]}]
        packages.append(entry)
        relations += [{"spdxElementId": own, "relationshipType": "DEPENDS_ON", "relatedSpdxElement": spdxid(*n)} for n in crate["needs"]]
        kind = {BUILD: "BUILD_TOOL_OF", TEST: "TEST_TOOL_OF"}.get(crate["use"])
        if kind:
            relations.append({"spdxElementId": own, "relationshipType": kind, "relatedSpdxElement": me})
    for b in base:
        own = spdxid(b["name"], b["version"])
        packages.append({"SPDXID": own, "name": b["name"], "versionInfo": b["version"], "filesAnalyzed": False,
                         "downloadLocation": "NOASSERTION", "licenseDeclared": b["license"], "licenseConcluded": "NOASSERTION",
                         "copyrightText": "NOASSERTION"})
        relations.append({"spdxElementId": me, "relationshipType": "STATIC_LINK", "relatedSpdxElement": own})
    return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": given.name,
            "documentNamespace": given.namespace, "creationInfo": {"created": given.created, "creators": ["Organization: barbican-kms"]},
            "packages": packages, "relationships": relations}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    for option in ("name", "version", "rust", "glibc", "revision"):
        parser.add_argument("--" + option, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    given = parser.parse_args()
    given.created = datetime.datetime.fromtimestamp(given.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    given.namespace = f"https://barbican-kms.invalid/spdx/{given.name}/{given.revision}"
    found = crates(TOP)
    base = [{"name": "rust-std", "version": given.rust, "license": "MIT OR Apache-2.0"},
            {"name": "glibc", "version": given.glibc, "license": "LGPL-2.1-or-later"}]
    for suffix, document in (("cdx", cyclonedx(found, base, given)), ("spdx", spdx(found, base, given))):
        (given.directory / f"{given.name}.{suffix}.json").write_text(json.dumps(document, indent=1) + "\n")
    (given.directory / "THIRD-PARTY-LICENSES").write_text("\n".join(licences(found)))
    listing = json.dumps(auditable(found), separators=(",", ":")).encode()
    (given.directory / "dep-v0").write_bytes(zlib.compress(listing, 9))


main()
