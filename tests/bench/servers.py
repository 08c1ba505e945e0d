"""The processes that are measured, and the client that loads them."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

CLIENT_CORE, SERVER_CORE = 0, 1


def pin(core):
    """For preexec_fn: to a core where there are several, and for root before all else
    that the machine does. None leaves it as it is."""
    def apply():
        if core is None:
            return
        if core in os.sched_getaffinity(0):
            os.sched_setaffinity(0, {core})
        if os.geteuid() == 0:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    return apply


class Load:
    """tests/bench/client.rs."""

    def __init__(self, program, core):
        self.process = subprocess.Popen(
            [program, "client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, preexec_fn=pin(core))

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the load client has ended at: %s" % (words,))
        answer = json.loads(line)
        if answer.get("wrong"):
            raise SystemExit("wrong answers at: %s: %s" % (words, answer["wrong"]))
        return answer

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


class Server:
    def __init__(self, name, directory, arguments, env=None):
        self.name = name
        self.socket = os.path.join(directory, name + ".sock")
        self.log = os.path.join(directory, name + ".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [a.replace("SOCKET", self.socket) for a in arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                preexec_fn=pin(SERVER_CORE))
        until(self.listens, "%s listens" % name, self.log)

    def listens(self):
        if self.process.poll() is not None:
            with open(self.log, errors="replace") as f:
                raise SystemExit("%s has ended:\n%s" % (self.name, f.read()[-2000:]))
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.socket) == 0

    def cpu_ns(self):
        """Time on a core, of all threads."""
        total = 0
        for task in os.listdir("/proc/%d/task" % self.process.pid):
            with open("/proc/%d/task/%s/schedstat" % (self.process.pid, task)) as f:
                total += int(f.read().split()[0])
        return total

    def resident(self):
        """Resident KiB: all, and of that what no file backs."""
        with open("/proc/%d/status" % self.process.pid) as f:
            fields = dict(line.split(":", 1) for line in f if ":" in line)
        return {name: int(fields[field].split()[0]) for name, field in
                (("rss", "VmRSS"), ("anonymous", "RssAnon"))}

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Sidecar(Server):
    """barbican-kms with a configuration directory of its own."""

    def __init__(self, name, directory, binary, config):
        self.binary = binary
        self.config = os.path.join(directory, name + "-config", "cloud.conf")
        os.mkdir(os.path.dirname(self.config))
        self.write(config)
        super().__init__(name, directory, self.arguments(binary, self.config, "SOCKET"), env={})
        until(self.ready, "%s is ready" % name, self.log)

    @staticmethod
    def arguments(binary, config, path):
        return [binary, "serve", "--socketpath", path, "--cloud-config", config]

    def write(self, config):
        with open(self.config + ".new", "w", opener=private) as f:
            f.write(config)
        os.replace(self.config + ".new", self.config)

    def ready(self):
        """Every key is held, not only the first."""
        said = subprocess.run([self.binary, "status", "--json", "--socketpath", self.socket],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return said.returncode == 0 and b'"held": false' not in said.stdout

    def logged(self, text):
        with open(self.log, errors="replace") as f:
            return sum(text in line for line in f)


def private(path, flags):
    return os.open(path, flags, 0o600)


def until(true, what, log, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit("gave up waiting until %s, see %s" % (what, log))
        time.sleep(0.02)


def round_trips(state):
    """What no start can do without, in ms: a login and a GET, on fresh connections."""
    from rest import Api, application_credential_identity, login
    begun = time.perf_counter()
    token, _ = login(Api(state["auth_url"], state), application_credential_identity(
        state["application_credentials"]["narrow"]))
    logged_in = time.perf_counter()
    reply = Api(state["barbican_url"], state).raw(
        "GET", "/v1/secrets/%s/payload" % state["secret_id"], token,
        headers={"Accept": "application/octet-stream"})
    if reply.status != 200:
        raise http.client.HTTPException(reply.status)
    return {"keystone": 1e3 * (logged_in - begun),
            "barbican": 1e3 * (time.perf_counter() - logged_in)}
