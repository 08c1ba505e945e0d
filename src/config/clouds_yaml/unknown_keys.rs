//! Keys of an entry that are ignored although their author relies on them.
//!
//! Called by `entry`; only those of the chosen entry are warned about.

use super::fields::{AUTH_FIELDS, FIELDS};
use crate::config::diagnostic::Message;
use crate::config::key::Key;

/// The warning about a key that is not read, if it deserves one.
pub(super) fn message(name: &str, below_auth: bool) -> Option<Message> {
    let (here, elsewhere) = if below_auth {
        (names(&AUTH_FIELDS), names(&FIELDS))
    } else {
        (names(&FIELDS), names(&AUTH_FIELDS))
    };
    let spelt = name.to_ascii_lowercase().replace('-', "_");
    let alias = ALIASES.iter().find(|(alias, _)| *alias == spelt);
    let meant = alias.map_or(spelt.as_str(), |(_, meant)| *meant);
    let is_of = |names: &[&'static str]| names.iter().copied().find(|known| *known == meant);
    match spelt.as_str() {
        "insecure" => Some(INSECURE.into()),
        "regions" => Some("it is ignored; write `region_name: NAME`".into()),
        "system_scope" => Some(SYSTEM_SCOPE.into()),
        "interface" | "endpoint_type" if below_auth => Some(BELOW_AUTH.into()),
        _ if is_of(&elsewhere).is_some_and(|known| known == name) => Some(
            if below_auth {
                BELOW_AUTH
            } else {
                NOT_BELOW_AUTH
            }
            .into(),
        ),
        _ => match is_of(&here).or_else(|| is_of(&elsewhere)) {
            Some(known) => Some(format!("{UNKNOWN}; did you mean {known}?").into()),
            None => (!is_of_others(&spelt)).then_some(UNKNOWN.into()),
        },
    }
}

const UNKNOWN: &str = "there is no such key, it is ignored";
const NOT_BELOW_AUTH: &str = "it is ignored here; write it below `auth:`";
const BELOW_AUTH: &str = "it is ignored here; write it at the level of `auth:`, not below it";
const INSECURE: &str = "it is ignored, certificates are verified; give the cloud's CA with \
                        `cacert: FILE`, or disable verification with `verify: false`";
const SYSTEM_SCOPE: &str = "it is ignored: keys belong to projects; set project_id, or \
     project_name with its domain";
/// About a value of `auth_type` that [`is_supported`] does not know.
pub(super) const AUTH_TYPE: &str = "this kind of login is not supported, and the setting is \
                                    ignored: the settings below `auth:` are read as a password, an \
                                    application credential or a token";

/// Whether the settings below `auth` can be for this kind of login.
pub(super) fn is_supported(auth_type: &str) -> bool {
    let supported = [
        "",
        "password",
        "token",
        "v2password",
        "v2token",
        "v3password",
        "v3token",
        "v3applicationcredential",
    ];
    supported.contains(&auth_type)
}

fn names(fields: &[(&'static str, Key)]) -> Vec<&'static str> {
    fields.iter().map(|(name, _)| *name).collect()
}

/// Keys that openstacksdk and others know, and that say nothing about a login or about
/// Barbican.
fn is_of_others(name: &str) -> bool {
    let ours = name.starts_with("key_manager_") || name.starts_with("identity_endpoint");
    let kinds = [
        "_api_version",
        "_endpoint_override",
        "_service_type",
        "_service_name",
    ];
    let others = [
        "allow_reauth",
        "api_timeout",
        "cache",
        "description",
        "disable_vendor_agent",
        "floating_ip_source",
        "force_ipv4",
        "image_api_use_tasks",
        "image_format",
        "message",
        "nat_source",
        "networks",
        "requires_floating_ip",
        "secgroup_source",
        "status",
        "vendor_hook",
    ];
    !ours && (others.contains(&name) || kinds.iter().any(|kind| name.ends_with(kind)))
}

/// What people write, and what they mean.
const ALIASES: [(&str, &str); 10] = [
    ("user", "username"),
    ("user_name", "username"),
    ("project", "project_name"),
    ("tenant", "project_name"),
    ("auth_token", "token"),
    ("region", "region_name"),
    ("ca_cert", "cacert"),
    ("ca_file", "cacert"),
    ("cert_file", "cert"),
    ("key_file", "key"),
];
