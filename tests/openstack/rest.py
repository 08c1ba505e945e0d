"""The few REST calls to Keystone and Barbican that deploy.py and ctl.py share.

Only the standard library, so that a ctl command starts quickly.
"""
import http.client
import json
import os
import ssl
import tempfile
import urllib.parse


class ApiError(Exception):
    def __init__(self, method, url, status, body):
        super().__init__("%s %s: %d %s" % (method, url, status, body))
        self.method, self.url, self.status, self.body = method, url, status, body


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


class Api:
    """One server; keeps its connection. `tls`: the files of a deployment."""

    def __init__(self, base, tls, timeout=60):
        self.base = base.rstrip("/")
        url = urllib.parse.urlsplit(self.base)
        self.prefix = url.path
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=tls["ca_file"])
            if tls["client_cert"]:
                context.load_cert_chain(tls["client_cert"], tls["client_key"])
            self.connection = http.client.HTTPSConnection(
                url.hostname, url.port, timeout=timeout, context=context)
        else:
            self.connection = http.client.HTTPConnection(
                url.hostname, url.port, timeout=timeout)

    def raw(self, method, path, token=None, body=None, headers=None):
        """Send one request; every HTTP status is an answer."""
        if path.startswith(self.base):  # a reference out of an earlier answer
            path = path[len(self.base):]
        sent = {"Accept": "application/json"}
        if token:
            sent["X-Auth-Token"] = token
        if body is not None and not isinstance(body, bytes):
            sent["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        sent.update(headers or {})
        self.connection.request(method, self.prefix + path, body,
                                {k: v for k, v in sent.items() if v is not None})
        return Reply(self.connection.getresponse())

    def call(self, method, path, token=None, body=None, headers=None):
        """Send one request; anything but success is an ApiError."""
        reply = self.raw(method, path, token, body, headers)
        if not 200 <= reply.status < 300:
            raise ApiError(method, self.base + path, reply.status,
                           reply.body.decode("utf-8", "replace"))
        return reply


def password_identity(user, password, domain="default"):
    """`user`: {"id": ...} or {"name": ...}."""
    if "id" not in user:
        user = dict(user, domain={"id": domain})
    return {"methods": ["password"],
            "password": {"user": dict(user, password=password)}}


def application_credential_identity(credential):
    return {"methods": ["application_credential"], "application_credential": {
        "id": credential["id"], "secret": credential["secret"]}}


def project_scope(project_id):
    return {"project": {"id": project_id}}


def trust_scope(trust_id):
    return {"OS-TRUST:trust": {"id": trust_id}}


def login(keystone, identity, scope=None):
    """Return (token, what Keystone says about it)."""
    auth = {"identity": identity}
    if scope:
        auth["scope"] = scope
    reply = keystone.call("POST", "/auth/tokens", body={"auth": auth})
    return reply.headers["X-Subject-Token"], reply.json()["token"]


def order_key(barbican, token, name, bits=256, algorithm="aes", mode="cbc"):
    """What `openstack secret order create ... key` sends."""
    reply = barbican.call("POST", "/v1/orders", token, {"type": "key", "meta": {
        "name": name, "algorithm": algorithm, "mode": mode, "bit_length": bits,
        "payload_content_type": "application/octet-stream"}})
    order = reply.json()["order_ref"]
    made = barbican.call("GET", order, token).json()
    if made["status"] != "ACTIVE":
        raise RuntimeError("the order was not carried out: %s" % made)
    return {"id": made["secret_ref"].rpartition("/")[2],
            "href": made["secret_ref"], "order_ref": order}


def write_private(path, text):
    """Replace a file, readable by its owner only, in one step."""
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(fd, "w") as f:
        f.write(text)
    os.replace(temporary, path)


def write_json(path, value):
    write_private(path, json.dumps(value, indent=1) + "\n")


def read_json(path):
    with open(path) as f:
        return json.load(f)
