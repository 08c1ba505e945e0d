"""A network for the ordinary pods of a node, and a way from it to servers on the node's loopback.

    pod_network.py ADDRESS PORT...     passes connections to ADDRESS:PORT on to 127.0.0.1:PORT
"""

import asyncio
import json
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
BRIDGE, SUBNET = "pods", "10.244.0"
GATEWAY = f"{SUBNET}.1"


def install(node, *ports):
    """For a node that has booted; pods find these ports of its loopback at GATEWAY."""
    node.exec("ip", "link", "add", BRIDGE, "type", "bridge")
    node.exec("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    node.exec("ip", "link", "set", BRIDGE, "up")
    target = node.path("/opt/cni/bin/pod-network")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "pod-network", target)
    node.write("/etc/cni/net.d/10-pods.conflist", json.dumps({
        "cniVersion": "1.0.0", "name": BRIDGE, "plugins": [{"type": "pod-network", "bridge": BRIDGE, "subnet": SUBNET}]}))
    node.start("forward", "python3", "-B", HERE / "pod_network.py", GATEWAY, *map(str, ports))


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


def passing_to(port):
    async def connected(reader, writer):
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError: # nobody listens there now
            writer.transport.abort()
            return
        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
    return connected


async def forward(address, *ports):
    servers = [await asyncio.start_server(passing_to(int(port)), address, int(port)) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(forward(*sys.argv[1:]))
