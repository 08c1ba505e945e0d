"""Bring a Keystone and a Barbican up or down; called by scripts/openstack.

DIR holds everything of one deployment:
  deployment.json   kind, ports and settings, from when DIR was created
  state.json        what `up` prints; there once the deployment is complete
  keystone/ barbican/ tls/ config/ log/   the servers' files
  venv              link to the virtual environment
"""
import argparse
import base64
import fcntl
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

import cloud_config
from process import SERVERS, pid_file, server_pid
from rest import (Api, application_credential_identity, login, order_key,
                  password_identity, project_scope, read_json, trust_scope,
                  write_json, write_private)

HERE = os.path.dirname(os.path.abspath(__file__))
# Plenty: two busy cores may need minutes for the imports and migrations.
START_SECONDS = 600
SETTINGS = {"token_expiration": "3600", "token_cache_time": "-1",
            "enforce_new_defaults": "true", "max_seconds": "14400"}
OURS = ("keystone", "barbican", "tls", "config", "log", "venv")


def say(text):
    print("openstack: " + text, file=sys.stderr, flush=True)


def die(text):
    sys.exit("openstack: " + text)


def main():
    parser = argparse.ArgumentParser(prog="openstack")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up")
    up.add_argument("dir")
    kind = up.add_mutually_exclusive_group()
    for name in ("tls", "mtls"):
        kind.add_argument("--" + name, dest="kind", action="store_const",
                          const=name, default="plain")
    commands.add_parser("down").add_argument("dir")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    root = os.path.realpath(args.dir)
    os.umask(0o077)
    os.makedirs(root, exist_ok=True)
    with open(os.path.join(root, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if args.command == "down":
            stop(root)
        else:
            print(json.dumps(bring_up(root, args.kind), indent=1))


def bring_up(root, kind):
    state_file = os.path.join(root, "state.json")
    if not os.path.exists(state_file):
        make_room(root)
        new_deployment(root, kind)
    deployment = Deployment(root)
    if deployment.kind != kind:
        die("%s holds a deployment of the kind %s, not %s; take another directory"
            % (root, deployment.kind, kind))
    link = os.path.join(root, "venv")
    if os.path.lexists(link):
        os.remove(link)
    os.symlink(sys.prefix, link)
    complete = False
    try:
        if deployment.start():
            say("ready")
        if not os.path.exists(state_file):
            began = time.monotonic()
            write_json(state_file, provision(deployment))
            say("projects, users and keys made in %.1f s"
                % (time.monotonic() - began))
        complete = True
    finally:
        if not complete:
            stop(root)
    state = read_json(state_file)
    state["settings"] = deployment.settings
    for name in SERVERS:
        state[name + "_pid"] = server_pid(root, name)
    write_json(state_file, state)
    return state


def make_room(root):
    """Remove what an attempt left that ended half-way."""
    marker = os.path.join(root, "deployment.json")
    left = [n for n in OURS if os.path.lexists(os.path.join(root, n))]
    if left and not os.path.exists(marker):
        die("%s is no deployment, yet holds %s" % (root, ", ".join(left)))
    stop(root)
    for name in left:
        path = os.path.join(root, name)
        os.remove(path) if os.path.islink(path) else shutil.rmtree(path)


def new_deployment(root, kind):
    ports = free_ports(2)
    # First of all: the mark that what is in here may be removed.
    write_json(os.path.join(root, "deployment.json"), {
        "kind": kind, "settings": SETTINGS,
        "keystone_port": int(os.environ.get("KEYSTONE_PORT", ports[0])),
        "barbican_port": int(os.environ.get("BARBICAN_PORT", ports[1])),
        "passwords": {who: secrets.token_urlsafe(18) for who in
                      ("admin", "barbican", "user", "reader", "trustee")}})
    Deployment(root).create()


def free_ports(count):
    """Outside the range from which the kernel takes ports for clients."""
    low = 32768
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
            low = int(f.read().split()[0])
    except OSError:
        pass
    choices = range(10000, low) if low > 12000 else range(20000, 65000)
    held = []
    while len(held) < count:
        s = socket.socket()
        try:
            s.bind(("127.0.0.1", random.SystemRandom().choice(choices)))
            held.append(s)
        except OSError:
            s.close()
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Deployment:
    def __init__(self, root):
        self.root = root
        saved = read_json(self.path("deployment.json"))
        self.kind = saved["kind"]
        self.passwords = saved["passwords"]
        self.settings = {
            k: os.environ.get(k.upper(), v) for k, v in saved["settings"].items()}
        self.ports = {n: saved[n + "_port"] for n in SERVERS}
        base = ("http" if self.kind == "plain" else "https") + "://127.0.0.1:"
        self.keystone_url = base + str(self.ports["keystone"]) + "/v3"
        self.barbican_url = base + str(self.ports["barbican"])
        mutual = self.kind == "mtls"
        self.tls = {
            "ca_file": self.path("tls/ca.pem") if self.kind != "plain" else None,
            "client_cert": self.path("tls/client.pem") if mutual else None,
            "client_key": self.path("tls/client.key") if mutual else None}

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def create(self):
        for name in ("keystone", "barbican/.barbican", "log", "config"):
            os.makedirs(self.path(name), exist_ok=True)
        for name in ("fernet-keys", "fernet-receipts", "credential-keys"):
            os.makedirs(self.path("keystone", name))
            for number in "01":
                key = base64.urlsafe_b64encode(os.urandom(32)).decode()
                write_private(self.path("keystone", name, number), key)
        write_private(self.path("barbican/kek"), base64.urlsafe_b64encode(
            os.urandom(32)).decode())
        if self.kind != "plain":
            import certificates
            certificates.make(self.path("tls"))

    def configure(self):
        values = dict(self.settings, root=self.root,
                      keystone=self.keystone_url, barbican=self.barbican_url,
                      **{k: v or "" for k, v in self.tls.items()},
                      service_password=self.passwords["barbican"])
        with open(self.path("barbican/kek")) as f:
            values["kek"] = f.read()
        write_private(self.path("keystone/keystone.conf"),
                      KEYSTONE_CONF.format_map(values))
        write_private(self.path("barbican/.barbican/barbican.conf"),
                      BARBICAN_CONF.format_map(values))
        write_private(self.path("barbican/barbican-api-paste.ini"),
                      BARBICAN_PASTE)

    def start(self):
        """Make both servers answer; False if they already did."""
        running = [name for name in SERVERS if server_pid(self.root, name)]
        for name in running:  # it may be frozen, or its port closed, by a test
            pid = server_pid(self.root, name)
            os.killpg(pid, signal.SIGCONT)
            if not self.answers(name):
                os.kill(pid, signal.SIGUSR2)
        if len(running) < len(SERVERS):
            self.configure()
        started = [name for name in SERVERS if name not in running]
        for name in started:
            self.spawn(name)
        for name in SERVERS:
            self.wait(name)
        return bool(started)

    def spawn(self, name):
        port = self.ports[name]
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError as e:
                die("port %d of %s: %s" % (port, name, e.strerror))
        command = [
            sys.executable, "-Es", os.path.join(HERE, "serve.py"), name,
            "--dir", self.path(name), "--port", str(port),
            "--url", self.keystone_url,
            "--template", os.path.join(sys.prefix, "templates", name + ".db"),
            "--max-seconds", self.settings["max_seconds"]]
        if self.kind != "plain":
            command += ["--cert", self.path("tls/server.pem"),
                        "--key", self.path("tls/server.key")]
        if self.kind == "mtls":
            command += ["--client-ca", self.tls["ca_file"]]
        environment = clean_environment(
            OS_BOOTSTRAP_PASSWORD=self.passwords["admin"])
        with open(self.path("log", name + ".out"), "a") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, cwd=self.path(name), env=environment)
        write_private(pid_file(self.root, name), str(process.pid))

    def answers(self, name):
        base = self.keystone_url if name == "keystone" else self.barbican_url
        try:
            Api(base, self.tls, timeout=30).raw("GET", "/")
            return True
        except (OSError, http.client.HTTPException):
            return False

    def wait(self, name):
        began = told = time.monotonic()
        while not self.answers(name):
            if not server_pid(self.root, name):
                self.die_with_log(name, "did not start")
            now = time.monotonic()
            if now - began > START_SECONDS:
                self.die_with_log(name, "is not ready after %d s" % START_SECONDS)
            if now - told > 5:
                say("%s: loading and preparing its database, %d s"
                    % (name, now - began))
                told = now
            time.sleep(0.05)

    def die_with_log(self, name, text):
        log = self.path("log", name + ".out")
        with open(log, errors="replace") as f:
            tail = "".join(f.readlines()[-20:])
        die("%s %s; the end of %s:\n%s" % (name, text, log, tail))


def stop(root):
    for name in reversed(SERVERS):
        pid = server_pid(root, name)
        if pid:
            os.killpg(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
            if not gone(root, name, 10):
                os.killpg(pid, signal.SIGKILL)
                gone(root, name, 10)
        if os.path.exists(pid_file(root, name)):
            os.remove(pid_file(root, name))


def gone(root, name, seconds):
    end = time.monotonic() + seconds
    while server_pid(root, name):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def clean_environment(**more):
    """Ours without what would configure OpenStack or Python otherwise."""
    kept = {k: v for k, v in os.environ.items()
            if not k.startswith(("OS_", "PYTHON"))
            and not k.lower().endswith("_proxy")}
    # Where stevedore keeps its list of plugins: finding them again each time
    # costs more than all else that the client does.
    kept["XDG_CACHE_HOME"] = os.path.join(sys.prefix, "cache")
    kept["PYTHONWARNINGS"] = "ignore"
    return dict(kept, **more)


def provision(deployment):
    """Create what a KMS plugin needs, through the public APIs only."""
    passwords = deployment.passwords
    keystone = Api(deployment.keystone_url, deployment.tls)
    barbican = Api(deployment.barbican_url, deployment.tls)
    by_name = {"project": {"name": "admin", "domain": {"id": "default"}}}
    admin, about = login(keystone, password_identity(
        {"name": "admin"}, passwords["admin"]), by_name)

    def create(path, kind, token=admin, **fields):
        return keystone.call("POST", path, token, {kind: fields}).json()[kind]

    def user(name, password):
        return create("/users", "user", name=name, password=password,
                      domain_id="default",
                      # Tests log in as these with wrong passwords.
                      options={"ignore_lockout_failure_attempts": True})["id"]

    def grant(project, user, *names):
        for name in names:
            keystone.call("PUT", "/projects/%s/users/%s/roles/%s"
                          % (project, user, roles[name]), admin)

    service = create("/services", "service", type="key-manager",
                     name="barbican")["id"]
    for interface in ("public", "internal", "admin"):
        create("/endpoints", "endpoint", service_id=service,
               interface=interface, url=deployment.barbican_url,
               region_id="RegionOne")
    roles = {r["name"]: r["id"] for r in
             keystone.call("GET", "/roles", admin).json()["roles"]}
    for name in ("creator", "observer", "audit"):
        roles[name] = create("/roles", "role", name=name)["id"]

    # The account with which Barbican validates tokens.
    project = create("/projects", "project", name="service",
                     domain_id="default")["id"]
    grant(project, user("barbican", passwords["barbican"]), "admin", "service")

    # The project that owns the keys, and its users.
    project = create("/projects", "project", name="kubernetes",
                     domain_id="default")["id"]
    plugin = user("kms-plugin", passwords["user"])
    grant(project, plugin, "member", "creator")
    reader = user("kms-reader", passwords["reader"])
    grant(project, reader, "reader")
    trustee = user("kms-trustee", passwords["trustee"])

    token, _ = login(keystone, password_identity({"id": plugin}, passwords["user"]),
                     project_scope(project))

    def application_credential(name, **extra):
        made = create("/users/%s/application_credentials" % plugin,
                      "application_credential", token, name=name, **extra)
        return {"id": made["id"], "name": name, "secret": made["secret"]}

    full = application_credential("kms-plugin")
    narrow = application_credential("kms-plugin-payload-only", access_rules=[{
        "service": "key-manager", "method": "GET",
        "path": "/v1/secrets/*/payload"}])
    # A trust delegates roles that the trustee does not hold itself.
    trust = create("/OS-TRUST/trusts", "trust", token, impersonation=True,
                   trustor_user_id=plugin, trustee_user_id=trustee,
                   project_id=project, roles=[{"name": "member"}])["id"]

    state = {
        "dir": deployment.root, "kind": deployment.kind,
        "keystone_pid": None, "barbican_pid": None,
        "auth_url": deployment.keystone_url,
        "barbican_url": deployment.barbican_url,
        "region": "RegionOne", **deployment.tls,
        "domain": {"id": "default", "name": "Default"},
        "project": {"id": project, "name": "kubernetes"},
        "admin": {"id": about["user"]["id"], "username": "admin",
                  "password": passwords["admin"],
                  "project_id": about["project"]["id"]},
        "user": {"id": plugin, "username": "kms-plugin",
                 "password": passwords["user"]},
        "reader": {"id": reader, "username": "kms-reader",
                   "password": passwords["reader"]},
        "trustee": {"id": trustee, "username": "kms-trustee",
                    "password": passwords["trustee"]},
        "trust_id": trust,
        "application_credentials": {"full": full, "narrow": narrow},
        "roles": roles, "settings": deployment.settings,
        "log_dir": deployment.path("log"),
    }
    order, first = order_by_command_line(deployment, state)
    state["order_ref"] = order
    state["secret_id"] = first
    state["secret_ids"] = [first] + [
        order_key(barbican, token, name)["id"]
        for name in ("k8s_key_2", "k8s_key_3")]
    state["cloud_configs"] = cloud_config.write_all(state)
    state["clouds_yaml"] = deployment.path("config/clouds.yaml")

    for identity, scope in (
            (application_credential_identity(narrow), None),
            (password_identity({"id": trustee}, passwords["trustee"]),
             trust_scope(trust))):
        token, _ = login(keystone, identity, scope)
        payload = barbican.call(
            "GET", "/v1/secrets/%s/payload" % first, token,
            headers={"Accept": "application/octet-stream"}).body
        if len(payload) != 32:
            die("the key has %d bytes instead of 32" % len(payload))
    return state


def order_by_command_line(deployment, state):
    """The commands of the plugin's guide, by the real client."""
    environment = clean_environment(
        HOME=deployment.path("log"), OS_IDENTITY_API_VERSION="3",
        OS_AUTH_URL=state["auth_url"], OS_REGION_NAME=state["region"],
        OS_USERNAME=state["user"]["username"],
        OS_PASSWORD=state["user"]["password"],
        OS_USER_DOMAIN_NAME=state["domain"]["name"],
        OS_PROJECT_NAME=state["project"]["name"],
        OS_PROJECT_DOMAIN_NAME=state["domain"]["name"])
    for variable, file in (("OS_CACERT", "ca_file"), ("OS_CERT", "client_cert"),
                           ("OS_KEY", "client_key")):
        if state[file]:
            environment[variable] = state[file]

    def run(*args):
        done = subprocess.run(
            [os.path.join(sys.prefix, "bin", "openstack"), *args, "-f", "json"],
            env=environment, cwd=deployment.path("log"), capture_output=True,
            text=True)
        if done.returncode != 0:
            die("openstack %s: %s" % (" ".join(args), done.stderr))
        return json.loads(done.stdout)

    order = run("secret", "order", "create", "--name", "k8s_key",
                "--algorithm", "aes", "--mode", "cbc", "--bit-length", "256",
                "--payload-content-type=application/octet-stream",
                "key")["Order href"]
    made = run("secret", "order", "get", order)
    if made["Status"] != "ACTIVE":
        die("the order was not carried out: %s" % made)
    return order, made["Secret href"].rpartition("/")[2]


KEYSTONE_CONF = """\
[DEFAULT]
log_file = {root}/log/keystone.log
[database]
connection = sqlite:///{root}/keystone/keystone.db
sqlite_synchronous = false
[token]
expiration = {token_expiration}
[fernet_tokens]
key_repository = {root}/keystone/fernet-keys
[fernet_receipts]
key_repository = {root}/keystone/fernet-receipts
[credential]
key_repository = {root}/keystone/credential-keys
[cache]
enabled = true
backend = dogpile.cache.memory
[auth]
methods = external,password,token,oauth1,mapped,application_credential,totp
[identity]
password_hash_rounds = 4
[security_compliance]
lockout_failure_attempts = 20
lockout_duration = 3600
"""

BARBICAN_CONF = """\
[DEFAULT]
log_file = {root}/log/barbican.log
host_href = {barbican}
transport_url = fake://
[database]
connection = sqlite:///{root}/barbican/barbican.db
sqlite_synchronous = false
[queue]
enable = false
[oslo_policy]
enforce_new_defaults = {enforce_new_defaults}
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = {kek}
[keystone_authtoken]
auth_type = password
auth_url = {keystone}
www_authenticate_uri = {keystone}
cafile = {ca_file}
certfile = {client_cert}
keyfile = {client_key}
username = barbican
password = {service_password}
user_domain_id = default
project_name = service
project_domain_id = default
# Without this every access rule of an application credential fails.
service_type = key-manager
token_cache_time = {token_cache_time}
"""

BARBICAN_PASTE = """\
[composite:main]
use = egg:Paste#urlmap
/: versions
/v1: v1
# The same below a prefix, as many clouds have it: access rules see the whole path.
/key-manager/v1: v1

[pipeline:versions]
pipeline = request_id microversion versionapp
[pipeline:v1]
pipeline = request_id authtoken context microversion apiapp

[app:versionapp]
paste.app_factory = barbican.api.app:create_version_app
[app:apiapp]
paste.app_factory = barbican.api.app:create_main_app
[filter:request_id]
paste.filter_factory = oslo_middleware.request_id:RequestId.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:context]
paste.filter_factory = barbican.api.middleware.context:ContextMiddleware.factory
[filter:microversion]
paste.filter_factory = barbican.api.middleware.microversion:MicroversionMiddleware.factory
"""

if __name__ == "__main__":
    main()
