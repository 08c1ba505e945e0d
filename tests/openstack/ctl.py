"""scripts/openstack ctl DIR COMMAND: change what a deployment holds.

Each command prints one JSON object. If Keystone or Barbican refuses, its
answer goes to stderr and the exit code is 1.
"""
import argparse
import base64
import contextlib
import datetime
import http.client
import json
import os
import signal
import sqlite3
import sys
import time
import uuid

import cloud_config
from process import SERVERS, server_pid
from rest import (Api, ApiError, application_credential_identity, login,
                  order_key, password_identity, project_scope, read_json,
                  trust_scope, write_json)

PAYLOAD_RULE = [{"service": "key-manager", "method": "GET",
                 "path": "/v1/secrets/*/payload"}]
LOCKOUT_FAILURES = 20  # as in keystone.conf
WAIT_SECONDS = 60


class Ctl:
    def __init__(self, args):
        self.args = args
        self.root = os.path.realpath(args.dir)
        self.state_file = os.path.join(self.root, "state.json")
        self.state = read_json(self.state_file)
        self.keystone = Api(self.state["auth_url"], self.state)
        self.barbican = Api(self.state["barbican_url"], self.state)

    # Who acts.

    def login(self):
        """Log in as --as or --user says; return (token, about it)."""
        args, state = self.args, self.state
        project = project_scope(state["project"]["id"])
        if args.user:
            return login(self.keystone, password_identity(
                self.user_key(args.user), args.password), project)
        if args.who in ("full", "narrow"):
            return login(self.keystone, application_credential_identity(
                state["application_credentials"][args.who]))
        account = state[args.who]
        if args.who == "trustee":
            project = trust_scope(state["trust_id"])
        elif args.who == "admin":
            project = project_scope(account["project_id"])
        return login(self.keystone, password_identity(
            {"id": account["id"]}, account["password"]), project)

    def token(self):
        return self.login()[0]

    def admin(self):
        account = self.state["admin"]
        return login(self.keystone, password_identity(
            {"id": account["id"]}, account["password"]),
            project_scope(account["project_id"]))[0]

    @staticmethod
    def user_key(user):
        """Keystone's ids are 32 hex digits; anything else is a name."""
        is_id = len(user) == 32 and all(c in "0123456789abcdef" for c in user)
        return {"id" if is_id else "name": user}

    def user_id(self, user, admin):
        key = self.user_key(user)
        if "id" in key:
            return user
        found = self.keystone.call(
            "GET", "/users?domain_id=default&name=" + user, admin).json()["users"]
        if not found:
            sys.exit("there is no user " + user)
        return found[0]["id"]

    # Keystone.

    def token_create(self):
        token, about = self.login()
        return {"token": token, "expires_at": about["expires_at"],
                "user_id": about["user"]["id"],
                "project_id": about.get("project", {}).get("id"),
                "roles": [r["name"] for r in about.get("roles", [])]}

    def token_revoke(self):
        token = self.args.token
        self.keystone.call("DELETE", "/auth/tokens", self.admin(),
                           headers={"X-Subject-Token": token})
        return {"revoked": True}

    def tokens_revoke(self):
        """A user who is disabled loses all tokens, and keeps everything else."""
        admin = self.admin()
        user = self.user_id(self.args.whom, admin)
        for enabled in (False, True):
            self.keystone.call("PATCH", "/users/" + user, admin,
                               {"user": {"enabled": enabled}})
        # Keystone revokes by the whole second: a token issued in this one
        # would be refused too.
        time.sleep(1.0 - time.time() % 1.0)
        return {"user_id": user}

    def user_create(self):
        args, admin = self.args, self.admin()
        name = args.name or "user-" + uuid.uuid4().hex[:12]
        password = args.new_password or uuid.uuid4().hex
        user = self.keystone.call("POST", "/users", admin, {"user": {
            "name": name, "password": password,
            "domain_id": "default"}}).json()["user"]["id"]
        roles = [] if args.no_role else args.role or ["member"]
        for role in roles:
            self.keystone.call("PUT", self.grant_path(user, role), admin)
        return {"id": user, "username": name, "password": password,
                "roles": roles, "project": self.state["project"]}

    def grant_path(self, user, role):
        if role not in self.state["roles"]:
            sys.exit("the roles are " + ", ".join(sorted(self.state["roles"])))
        return "/projects/%s/users/%s/roles/%s" % (
            self.state["project"]["id"], user, self.state["roles"][role])

    def user_delete(self):
        admin = self.admin()
        user = self.user_id(self.args.whom, admin)
        self.keystone.call("DELETE", "/users/" + user, admin)
        return {"id": user}

    def role_add(self, method="PUT"):
        admin = self.admin()
        user = self.user_id(self.args.whom, admin)
        self.keystone.call(method, self.grant_path(user, self.args.role), admin)
        return {"user_id": user, "role": self.args.role}

    def role_remove(self):
        return self.role_add("DELETE")

    def password_set(self):
        args, admin = self.args, self.admin()
        user = self.user_id(args.whom, admin)
        self.keystone.call("PATCH", "/users/" + user, admin,
                           {"user": {"password": args.new_password}})
        for who in ("admin", "user", "reader", "trustee"):
            if self.state[who]["id"] == user:
                self.state[who]["password"] = args.new_password
                cloud_config.write_all(self.state)
                write_json(self.state_file, self.state)
        time.sleep(1.0 - time.time() % 1.0)  # as in tokens_revoke
        return {"user_id": user}

    def in_database(self, server, statement, *values):
        """Do what no request can; returns how many rows it was done to."""
        file = os.path.join(self.root, server, server + ".db")
        with contextlib.closing(sqlite3.connect(file, timeout=30)) as database:
            with database:
                return database.execute(statement, values).rowcount

    def password_expire(self):
        user = self.user_id(self.args.whom, self.admin())
        # Keystone itself does so only days after a password was set.
        self.in_database(
            "keystone",
            "UPDATE password SET expires_at = '2020-01-01 00:00:00',"
            " expires_at_int = 1577836800000000 WHERE local_user_id IN"
            " (SELECT id FROM local_user WHERE user_id = ?)", user)
        return {"user_id": user}

    def user_lock(self):
        user = self.user_id(self.args.whom, self.admin())
        body = {"auth": {"identity": password_identity({"id": user}, "wrong")}}
        for _ in range(LOCKOUT_FAILURES):
            self.keystone.raw("POST", "/auth/tokens", body=body)
        return {"user_id": user}

    def appcred_create(self):
        args = self.args
        token, about = self.login()
        wanted = {"name": args.name or "credential-" + uuid.uuid4().hex[:12]}
        if args.access_rules:
            wanted["access_rules"] = json.loads(args.access_rules)
        elif args.narrow:
            wanted["access_rules"] = PAYLOAD_RULE
        if args.role:
            wanted["roles"] = [{"name": r} for r in args.role]
        seconds = 2 if args.expired else args.expires_in
        if seconds:
            wanted["expires_at"] = timestamp(seconds)
        made = self.keystone.call(
            "POST", "/users/%s/application_credentials" % about["user"]["id"],
            token, {"application_credential": wanted}
        ).json()["application_credential"]
        result = {"id": made["id"], "name": made["name"],
                  "secret": made["secret"], "expires_at": made["expires_at"],
                  "user_id": about["user"]["id"]}
        if args.expired:
            body = {"auth": {"identity": application_credential_identity(result)}}
            until(lambda: self.keystone.raw(
                "POST", "/auth/tokens", body=body).status == 401)
        return result

    def appcred_delete(self):
        token, about = self.login()
        self.keystone.call("DELETE", "/users/%s/application_credentials/%s"
                           % (about["user"]["id"], self.args.id), token)
        return {"id": self.args.id}

    def endpoint_create(self):
        args, admin = self.args, self.admin()
        services = self.keystone.call(
            "GET", "/services?type=key-manager", admin).json()["services"]
        self.keystone.raw("PUT", "/regions/" + args.region, admin, {
            "region": {"id": args.region}})  # 409: it is there already
        made = {}
        for interface in args.interface or ("public", "internal", "admin"):
            made[interface] = self.keystone.call("POST", "/endpoints", admin, {
                "endpoint": {"service_id": services[0]["id"], "url": args.url,
                             "interface": interface,
                             "region_id": args.region}}).json()["endpoint"]["id"]
        return {"region": args.region, "endpoints": made}

    def endpoint_delete(self):
        admin = self.admin()
        found = self.keystone.call("GET", "/endpoints?region_id="
                                   + self.args.region, admin).json()["endpoints"]
        for endpoint in found:
            self.keystone.call("DELETE", "/endpoints/" + endpoint["id"], admin)
        return {"region": self.args.region, "deleted": len(found)}

    # Barbican.

    def secret_create(self):
        args = self.args
        wanted = {"name": args.name or "secret", "secret_type": args.secret_type,
                  "algorithm": args.algorithm, "mode": args.mode}
        payload = None
        if args.hex is not None:
            payload = bytes.fromhex(args.hex)
        elif args.base64 is not None:
            payload = base64.b64decode(args.base64, validate=True)
        elif args.text is not None:
            payload = args.text.encode()
        if payload is not None:
            kind = args.content_type or (
                "text/plain" if args.text is not None
                else "application/octet-stream")
            wanted["payload_content_type"] = kind
            wanted["bit_length"] = args.bit_length or 8 * len(payload)
            if kind.startswith("text/plain"):
                wanted["payload"] = payload.decode()
            else:
                wanted["payload"] = base64.b64encode(payload).decode()
                wanted["payload_content_encoding"] = "base64"
        seconds = 2 if args.expired else args.expires_in
        if seconds:
            wanted["expiration"] = timestamp(seconds)
        token = self.token()
        href = self.barbican.call("POST", "/v1/secrets", token,
                                  wanted).json()["secret_ref"]
        result = {"id": href.rpartition("/")[2], "href": href,
                  "expiration": wanted.get("expiration")}
        if args.expired:
            until(lambda: self.barbican.raw("GET", href, token).status == 404)
        return result

    def secret_path(self, more=""):
        return "/v1/secrets/" + self.args.id + more

    def secret_get(self):
        return self.barbican.call("GET", self.secret_path(), self.token()).json()

    def secret_payload(self):
        reply = self.barbican.call(
            "GET", self.secret_path("/payload"), self.token(),
            headers={"Accept": "application/octet-stream"})
        return {"hex": reply.body.hex(), "bytes": len(reply.body),
                "content_type": reply.headers["Content-Type"]}

    def secret_delete(self):
        self.barbican.call("DELETE", self.secret_path(), self.token())
        return {"id": self.args.id}

    def secret_expire(self):
        # Barbican takes the time of expiry only when a secret is made.
        changed = self.in_database(
            "barbican",
            "UPDATE secrets SET expiration = '2020-01-01 00:00:00' WHERE id = ?",
            self.args.id)
        if changed != 1:
            sys.exit("there is no secret " + self.args.id)
        return {"id": self.args.id}

    def secret_acl(self):
        return self.acl(self.secret_path())

    def acl(self, path):
        token = self.token()
        wanted = {"read": {"project-access": not self.args.private,
                           "users": self.args.reader or []}}
        self.barbican.call("PUT", path + "/acl", token, wanted)
        return self.barbican.call("GET", path + "/acl", token).json()

    def container_path(self, more=""):
        return "/v1/containers/" + self.args.id + more

    def reference(self, name, secret):
        # Barbican wants its own name for itself in them.
        return {"name": name, "secret_ref":
                self.state["barbican_url"] + "/v1/secrets/" + secret}

    def container_create(self):
        args = self.args
        wanted = {"name": args.name or "keys", "type": args.type, "secret_refs": [
            self.reference(*reference.rsplit("=", 1))
            for reference in args.reference or ()]}
        href = self.barbican.call("POST", "/v1/containers", self.token(),
                                  wanted).json()["container_ref"]
        return {"id": href.rpartition("/")[2], "href": href}

    def container_get(self):
        return self.barbican.call("GET", self.container_path(), self.token()).json()

    def container_add(self, method="POST"):
        args = self.args
        self.barbican.call(method, self.container_path("/secrets"), self.token(),
                           self.reference(args.name, args.secret))
        return {"id": args.id, "name": args.name, "secret": args.secret}

    def container_remove(self):
        return self.container_add("DELETE")

    def container_delete(self):
        self.barbican.call("DELETE", self.container_path(), self.token())
        return {"id": self.args.id}

    def container_acl(self):
        return self.acl(self.container_path())

    def order_create(self):
        args = self.args
        return order_key(self.barbican, self.token(), args.name or "k8s_key",
                         args.bit_length, args.algorithm, args.mode)

    # The servers themselves.

    def signal(self, number):
        pid = server_pid(self.root, self.args.server)
        if pid is None:
            sys.exit("%s is not running" % self.args.server)
        os.killpg(pid, number) if number in (
            signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL) else os.kill(pid, number)
        return {"server": self.args.server, "pid": pid}

    def answers(self):
        base = self.state["auth_url" if self.args.server == "keystone"
                          else "barbican_url"]
        try:
            Api(base, self.state).raw("GET", "/")
            return True
        except (OSError, http.client.HTTPException):
            return False

    def freeze(self):
        return self.signal(signal.SIGSTOP)

    def thaw(self):
        result = self.signal(signal.SIGCONT)
        until(self.answers)
        return result

    def close(self):
        result = self.signal(signal.SIGUSR1)
        until(lambda: not self.answers())
        return result

    def open(self):
        result = self.signal(signal.SIGUSR2)
        until(self.answers)
        return result

    def kill(self):
        result = self.signal(signal.SIGKILL)
        until(lambda: server_pid(self.root, self.args.server) is None)
        return result

    def request(self):
        args = self.args
        token = args.token or (None if args.no_token else self.token())
        headers = dict(h.split(":", 1) for h in args.header or ())
        headers = {k.strip(): v.strip() for k, v in headers.items()}
        body = None if args.body is None else args.body.encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        api = self.keystone if args.server == "keystone" else self.barbican
        reply = api.raw(args.method, args.path, token, body, headers)
        return {"status": reply.status, "headers": dict(reply.headers),
                "body": reply.body.decode("utf-8", "replace")}

    def show(self):
        return self.state


def timestamp(seconds):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now + datetime.timedelta(seconds=seconds)).strftime(
        "%Y-%m-%dT%H:%M:%S.%f") + "Z"


def until(true):
    end = time.monotonic() + WAIT_SECONDS
    while not true():
        if time.monotonic() > end:
            sys.exit("nothing changed within %d s" % WAIT_SECONDS)
        time.sleep(0.05)


def parse():
    parser = argparse.ArgumentParser(
        prog="openstack ctl", description="Change what a deployment holds.")
    parser.add_argument("dir")
    commands = parser.add_subparsers(dest="command", required=True,
                                     metavar="COMMAND")
    actor = argparse.ArgumentParser(add_help=False)
    actor.add_argument("--as", dest="who", default="user", choices=[
        "user", "reader", "admin", "trustee", "full", "narrow"],
        help="account or application credential of state.json that acts (user)")
    actor.add_argument("--user", help="id or name of another one, in the same project")
    actor.add_argument("--password", default="")

    def command(name, run, text, acts=False):
        made = commands.add_parser(name, help=text, description=text,
                                   parents=[actor] if acts else [])
        made.set_defaults(run=run)
        return made

    def expiry(made):
        made.add_argument("--expires-in", type=float, metavar="SECONDS")
        made.add_argument("--expired", action="store_true",
                          help="return when it has expired (2 s)")

    def whom(made):
        made.add_argument("whom", metavar="USER", help="id or name")

    command("state", Ctl.show, "print state.json")
    command("token", Ctl.token_create, "log in, print the token", True)
    command("token-revoke", Ctl.token_revoke, "revoke one token"
            ).add_argument("token")
    whom(command("tokens-revoke", Ctl.tokens_revoke,
                 "revoke all tokens of a user (takes up to a second)"))
    c = command("user-create", Ctl.user_create,
                "a new user; role member unless told otherwise")
    c.add_argument("name", nargs="?")
    c.add_argument("--password", dest="new_password")
    c.add_argument("--role", action="append",
                   help="reader is refused a payload with 403")
    c.add_argument("--no-role", action="store_true",
                   help="cannot log in to the project: 401")
    whom(command("user-delete", Ctl.user_delete, "delete a user"))
    for name, run, text in (
            ("role-add", Ctl.role_add, "give a user a role in the project"),
            ("role-remove", Ctl.role_remove,
             "take a role; ends the user's tokens and application credentials")):
        c = command(name, run, text)
        whom(c)
        c.add_argument("role")
    c = command("password-set", Ctl.password_set, "new password; ends all tokens"
                " (takes up to a second); rewrites state.json and config/")
    whom(c)
    c.add_argument("new_password", metavar="PASSWORD")
    whom(command("password-expire", Ctl.password_expire,
                 "a user's password has expired"))
    whom(command("user-lock", Ctl.user_lock,
                 "log in with wrong passwords until Keystone locks the user"))
    c = command("appcred-create", Ctl.appcred_create,
                "an application credential of the acting user", True)
    c.add_argument("name", nargs="?")
    expiry(c)
    c.add_argument("--role", action="append")
    c.add_argument("--access-rules", metavar="JSON")
    c.add_argument("--narrow", action="store_true",
                   help="access rule: only GET /v1/secrets/*/payload")
    command("appcred-delete", Ctl.appcred_delete,
            "delete an application credential", True).add_argument("id")
    c = command("endpoint-create", Ctl.endpoint_create, "a further Barbican"
                " endpoint in the catalog, for instance a proxy's, in its own region")
    c.add_argument("--region", required=True)
    c.add_argument("--url", required=True)
    c.add_argument("--interface", action="append",
                   choices=["public", "internal", "admin"])
    command("endpoint-delete", Ctl.endpoint_delete, "delete a region's endpoints"
            ).add_argument("--region", required=True)

    c = command("secret-create", Ctl.secret_create,
                "a secret; without a payload only metadata", True)
    payload = c.add_mutually_exclusive_group()
    payload.add_argument("--hex")
    payload.add_argument("--base64")
    payload.add_argument("--text")
    c.add_argument("--content-type",
                   choices=["application/octet-stream", "text/plain"])
    c.add_argument("--name")
    c.add_argument("--secret-type", default="symmetric")
    c.add_argument("--algorithm", default="aes")
    c.add_argument("--mode", default="cbc")
    c.add_argument("--bit-length", type=int)
    expiry(c)
    for name, run, text in (
            ("secret-get", Ctl.secret_get, "a secret's metadata"),
            ("secret-payload", Ctl.secret_payload, "a secret's payload in hex"),
            ("secret-delete", Ctl.secret_delete, "delete a secret"),
            ("secret-expire", Ctl.secret_expire, "a secret has expired")):
        command(name, run, text, True).add_argument("id")
    for name, run, text in (
            ("secret-acl", Ctl.secret_acl, "who may read a secret"),
            ("container-acl", Ctl.container_acl, "who may read a container")):
        c = command(name, run, text, True)
        c.add_argument("id")
        c.add_argument("--private", action="store_true",
                       help="not the project's other members")
        c.add_argument("--reader", action="append", metavar="USER_ID")
    c = command("container-create", Ctl.container_create,
                "a container of secrets", True)
    c.add_argument("--name")
    c.add_argument("--type", default="generic",
                   choices=["generic", "rsa", "certificate"])
    c.add_argument("--reference", action="append", metavar="NAME=SECRET_ID",
                   help="a secret in it; a time in UTC as NAME makes a write key")
    for name, run, text in (
            ("container-get", Ctl.container_get, "what a container lists"),
            ("container-delete", Ctl.container_delete, "delete a container")):
        command(name, run, text, True).add_argument("id")
    for name, run, text in (
            ("container-add", Ctl.container_add, "add a secret to a container"),
            ("container-remove", Ctl.container_remove,
             "remove a secret from a container")):
        c = command(name, run, text, True)
        c.add_argument("id")
        c.add_argument("name", help="of the reference")
        c.add_argument("secret", metavar="SECRET_ID")
    c = command("order-create", Ctl.order_create, "a new AES key", True)
    c.add_argument("--name")
    c.add_argument("--bit-length", type=int, default=256)
    c.add_argument("--algorithm", default="aes")
    c.add_argument("--mode", default="cbc")

    for name, run, text in (
            ("freeze", Ctl.freeze, "accepts connections, answers nothing"),
            ("thaw", Ctl.thaw, "ends freeze; returns when it answers"),
            ("close", Ctl.close, "refuses connections, drops the open ones"),
            ("open", Ctl.open, "ends close; returns when it answers"),
            ("kill", Ctl.kill, "SIGKILL; `up` starts it again")):
        command(name, run, text).add_argument("server", choices=SERVERS)
    c = command("request", Ctl.request,
                "any request, with the acting user's token", True)
    c.add_argument("server", choices=SERVERS)
    c.add_argument("method")
    c.add_argument("path", help="after /v3 (Keystone) or the root (Barbican)")
    c.add_argument("--token")
    c.add_argument("--no-token", action="store_true")
    c.add_argument("--header", action="append", metavar="NAME:VALUE")
    c.add_argument("--body")
    return parser.parse_args()


def main():
    os.umask(0o077)
    args = parse()
    try:
        print(json.dumps(args.run(Ctl(args)), indent=1))
    except (ApiError, OSError, ValueError, http.client.HTTPException) as e:
        sys.exit("openstack ctl %s: %s" % (args.command, e))


if __name__ == "__main__":
    main()
