#!/usr/bin/env python3
"""A sidecar's `status --json` for tests of rotate-key: what one that follows the container would say.

    sidecar.py DIRECTORY NODE

DIRECTORY/sidecar.json has the URL of Barbican, a token and the container; DIRECTORY/NODE.json, if
it is there, says how this node differs: "absent" (does not answer), "source", "container_id",
"lacks" (key id to reason), "write_key_id", "idle" (no Encrypt yet), "unwrapped" (key id to seconds).
"""
import datetime
import json
import pathlib
import sys
import time
import urllib.request


def unix(name):
    try:
        return datetime.datetime.strptime(name.upper(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    except ValueError:
        return None


def main():
    directory, node = pathlib.Path(sys.argv[1]), sys.argv[2]
    about = json.loads((directory / "sidecar.json").read_text())
    own = directory / f"{node}.json"
    differs = json.loads(own.read_text()) if own.exists() else {}
    if "absent" in differs:
        sys.exit(differs["absent"])
    request = urllib.request.Request(f"{about['barbican_url']}/v1/containers/{about['container_id']}", headers={"X-Auth-Token": about["token"]})
    with urllib.request.urlopen(request, timeout=20) as answer:
        references = json.load(answer)["secret_refs"]
    times = {}
    for reference in references:
        key, when = reference["secret_ref"].rpartition("/")[2], unix(reference["name"])
        times[key] = min((t for t in (times.get(key), when) if t is not None), default=None)
    lacks, now = differs.get("lacks", {}), time.time()
    write = max(((t, key) for key, t in times.items() if t is not None and t <= now and key not in lacks), default=(None, None))[1]
    write = differs.get("write_key_id", write)
    keys = [{"id": key, "write": key == write, "held": key not in lacks, "problem": "denied" if lacks.get(key) else None,
             "problem_text": lacks.get(key), "active_from": None, "listed": True, "pinned": False,
             "last_wrapped_seconds_ago": 1 if key == write and "idle" not in differs else None,
             "last_unwrapped_seconds_ago": differs.get("unwrapped", {}).get(key)} for key in times if lacks.get(key) != "unlisted"]
    print(json.dumps({"ready": True, "write_key_id": write, "keys": keys, "revalidate_interval_seconds": 300, "ring": {
        "source": differs.get("source", "container"), "container_id": differs.get("container_id", about["container_id"]),
        "problem": None, "problem_text": differs.get("problem_text"), "warnings": []}}))


main()
