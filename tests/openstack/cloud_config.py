"""Write the cloud-config files of a deployment, one for each way to log in."""
import os

from rest import write_private


def write_all(state):
    """Write them into DIR/config; return {kind: path}."""
    folder = os.path.join(state["dir"], "config")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    paths = {}

    def path(name):
        return os.path.join(folder, name)

    user, project, domain = state["user"], state["project"], state["domain"]
    full = state["application_credentials"]["full"]
    narrow = state["application_credentials"]["narrow"]
    trustee = state["trustee"]
    where = {"auth-url": state["auth_url"], "region": state["region"]}
    for key, file in (("ca-file", "ca_file"), ("cert-file", "client_cert"),
                      ("key-file", "client_key")):
        if state[file]:
            where[key] = state[file]
    by_name = dict(where, **{
        "username": user["username"], "password": user["password"],
        "domain-name": domain["name"], "tenant-name": project["name"]})
    clouds = path("clouds.yaml")

    kinds = {
        "password": by_name,
        "password_user_id": dict(where, **{
            "user-id": user["id"], "password": user["password"],
            "tenant-id": project["id"]}),
        "application_credential": dict(where, **{
            "application-credential-id": full["id"],
            "application-credential-secret": full["secret"]}),
        "application_credential_name": dict(where, **{
            "username": user["username"], "domain-name": domain["name"],
            "application-credential-name": full["name"],
            "application-credential-secret": full["secret"]}),
        "application_credential_narrow": dict(where, **{
            "application-credential-id": narrow["id"],
            "application-credential-secret": narrow["secret"]}),
        "trust": dict(where, **{
            "trust-id": state["trust_id"], "trustee-id": trustee["id"],
            "trustee-password": trustee["password"]}),
        "reader": dict(by_name, **{
            "username": state["reader"]["username"],
            "password": state["reader"]["password"]}),
        "use_clouds": {"use-clouds": True, "clouds-file": clouds,
                       "cloud": "kms-narrow"},
        "use_clouds_password": {"use-clouds": True, "clouds-file": clouds,
                                "cloud": "kms-password"},
    }
    for kind, values in kinds.items():
        paths[kind] = path(kind.replace("_", "-") + ".conf")
        write_private(paths[kind], gcfg(values, state["secret_id"]))
    paths["toml"] = path("cloud.toml")
    write_private(paths["toml"], toml(kinds["application_credential_narrow"],
                                      state["secret_id"]))
    write_private(clouds, clouds_yaml(state))
    return paths


def gcfg(values, key_id):
    lines = ["[Global]"]
    for key, value in values.items():
        lines.append("%s = %s" % (key, "true" if value is True else quoted(value)))
    return "\n".join(lines + ["", "[KeyManager]", "key-id = " + key_id, ""])


def toml(values, key_id):
    lines = ["[Global]"]
    lines += ["%s = %s" % (key, quoted(value)) for key, value in values.items()]
    return "\n".join(lines + ["", "[KeyManager]", "key-id = " + quoted(key_id), ""])


def clouds_yaml(state):
    user, project, domain = state["user"], state["project"], state["domain"]
    narrow = state["application_credentials"]["narrow"]
    entries = {
        "kms-password": ("password", {
            "username": user["username"], "password": user["password"],
            "user_domain_name": domain["name"],
            "project_name": project["name"],
            "project_domain_name": domain["name"]}),
        "kms-narrow": ("v3applicationcredential", {
            "application_credential_id": narrow["id"],
            "application_credential_secret": narrow["secret"]}),
    }
    lines = ["clouds:"]
    for name, (kind, auth) in entries.items():
        lines += ["  %s:" % name, "    auth_type: " + kind,
                  "    region_name: " + state["region"],
                  "    interface: public"]
        for key, file in (("cacert", "ca_file"), ("cert", "client_cert"),
                          ("key", "client_key")):
            if state[file]:
                lines.append("    %s: %s" % (key, quoted(state[file])))
        lines += ["    auth:", "      auth_url: " + quoted(state["auth_url"])]
        lines += ["      %s: %s" % (k, quoted(v)) for k, v in auth.items()]
    return "\n".join(lines) + "\n"


def quoted(value):
    """The same text in gcfg, TOML and YAML."""
    return '"%s"' % value.replace("\\", "\\\\").replace('"', '\\"')
