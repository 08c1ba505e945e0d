"""Writes the container image of several architectures as an OCI archive, and prints its digest.

    image.py FILE --name NAME --version V --revision R --epoch SECONDS ARCH=PROGRAM...

An image index over one image for each architecture, with one layer each: the program, and a
link to it with the name of the Go plugin. Nothing in it depends on this host. Layers are not
compressed, as compressors differ from one version to the next.
"""

import argparse
import datetime
import hashlib
import io
import json
import pathlib
import tarfile

OCI = "application/vnd.oci.image"
TITLE = "barbican-kms"
DESCRIPTION = "Kubernetes KMS v2 sidecar that keeps its key-encryption key in OpenStack Barbican"


def member(name, epoch, mode=0o644, kind=tarfile.REGTYPE):
    """The header of an archive's member that belongs to root."""
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.type = epoch, mode, kind
    return info


def layer(program, epoch):
    """The tree of one image."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tree:
        tree.addfile(member("bin/", epoch, 0o755, tarfile.DIRTYPE))
        file = member("bin/barbican-kms", epoch, 0o755)
        file.size = len(program)
        tree.addfile(file, io.BytesIO(program))
        link = member("bin/barbican-kms-plugin", epoch, 0o777, tarfile.SYMTYPE)
        link.linkname = "barbican-kms"
        tree.addfile(link)
    return out.getvalue()


class Layout:
    """The blobs of an OCI image layout."""

    def __init__(self):
        self.blobs = {}

    def add(self, media_type, content, **more):
        """Keeps a blob and returns its descriptor."""
        if not isinstance(content, bytes):
            content = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(content), **more}

    def write(self, file, index, epoch):
        """The layout as one archive."""
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
                 "index.json": json.dumps(index, sort_keys=True, separators=(",", ":")).encode(),
                 **{f"blobs/sha256/{digest}": content for digest, content in sorted(self.blobs.items())}}
        with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name in ("blobs/", "blobs/sha256/"):
                archive.addfile(member(name, epoch, 0o755, tarfile.DIRTYPE))
            for name, content in files.items():
                info = member(name, epoch)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def image(layout, arch, program, labels, created, epoch):
    """One architecture: its manifest's descriptor."""
    packed = layer(program, epoch)
    config = {
        "architecture": arch, "os": "linux", "created": created,
        "config": {"User": "65532:65532", "Entrypoint": ["/bin/barbican-kms"], "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(packed).hexdigest()]},
        "history": [{"created": created, "created_by": "scripts/release"}],
    }
    manifest = {
        "schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "annotations": labels,
        "config": layout.add(f"{OCI}.config.v1+json", config),
        "layers": [layout.add(f"{OCI}.layer.v1.tar", packed)],
    }
    return layout.add(f"{OCI}.manifest.v1+json", manifest, platform={"architecture": arch, "os": "linux"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    for option in ("name", "version", "revision"):
        parser.add_argument("--" + option, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("programs", nargs="+")
    given = parser.parse_args()
    created = datetime.datetime.fromtimestamp(given.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {"org.opencontainers.image." + key: value for key, value in {
        "title": TITLE, "description": DESCRIPTION, "licenses": "Apache-2.0", "version": given.version,
        "revision": given.revision, "created": created}.items()}
    layout = Layout()
    manifests = []
    for pair in sorted(given.programs):
        arch, program = pair.split("=", 1)
        manifests.append(image(layout, arch, pathlib.Path(program).read_bytes(), labels, created, given.epoch))
    top = layout.add(f"{OCI}.index.v1+json", {
        "schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests, "annotations": labels})
    # One name for `podman load`, one for `ctr images import`.
    top["annotations"] = {"org.opencontainers.image.ref.name": given.name, "io.containerd.image.name": given.name}
    layout.write(given.file, {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [top]}, given.epoch)
    print(top["digest"])


main()
