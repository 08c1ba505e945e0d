"""Find the server processes of a deployment."""
import os

SERVERS = ("keystone", "barbican")


def pid_file(root, name):
    return os.path.join(root, name + ".pid")


def server_pid(root, name):
    """The running server's pid (also its process group), or None."""
    try:
        with open(pid_file(root, name)) as f:
            pid = int(f.read())
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            words = f.read().split(b"\0")
        with open("/proc/%d/stat" % pid) as f:
            state = f.read().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    # The pid may long be another process's. Nothing to read yet: it is being
    # executed at this moment.
    ours = os.fsencode(os.path.join(root, name)) in words or words == [b""]
    return pid if ours and state not in "ZX" else None
