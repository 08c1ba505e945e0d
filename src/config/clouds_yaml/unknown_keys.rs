//! Keys of an entry that are not read although somebody counts on them.
//!
//! Called by `entry`; only those of the chosen entry are warned about.

use std::fmt;

use super::entry::{AUTH_FIELDS, FIELDS};

/// Why a key of an entry has no effect, and what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryDoubt {
    /// Nobody knows the key.
    Unknown,
    /// It is called otherwise.
    Spelling(&'static str),
    /// It belongs below `auth`.
    NotBelowAuth,
    /// It does not belong below `auth`.
    BelowAuth,
    /// `insecure`.
    Insecure,
    /// `regions`.
    Regions,
    /// `auth_type` of a kind that is not supported.
    AuthType,
    /// `system_scope`.
    SystemScope,
}

impl fmt::Display for EntryDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such key, it is ignored"),
            Self::Spelling(meant) => {
                write!(
                    f,
                    "there is no such key, it is ignored; did you mean {meant}?"
                )
            }
            Self::NotBelowAuth => f.write_str("it is ignored here; write it below `auth:`"),
            Self::BelowAuth => {
                f.write_str("it is ignored here; write it beside `auth:`, not below it")
            }
            Self::Insecure => f.write_str(
                "it is ignored, certificates are verified; give the cloud's CA with `cacert: \
                 FILE`, or switch verification off with `verify: false`",
            ),
            Self::Regions => f.write_str("it is ignored; write `region_name: NAME`"),
            Self::AuthType => f.write_str(
                "this kind of login is not supported, and the setting is ignored: what stands \
                 below `auth:` is taken for a password, an application credential or a token",
            ),
            Self::SystemScope => f.write_str(
                "it is ignored: keys belong to projects; set project_id, or project_name with its \
                 domain",
            ),
        }
    }
}

/// What to think of a key that is none of those that are read.
pub(super) fn about(name: &str, below_auth: bool) -> Option<EntryDoubt> {
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
        "insecure" => Some(EntryDoubt::Insecure),
        "regions" => Some(EntryDoubt::Regions),
        "system_scope" => Some(EntryDoubt::SystemScope),
        "interface" | "endpoint_type" if below_auth => Some(EntryDoubt::BelowAuth),
        _ if is_of(&elsewhere).is_some_and(|known| known == name) => Some(if below_auth {
            EntryDoubt::BelowAuth
        } else {
            EntryDoubt::NotBelowAuth
        }),
        _ => match is_of(&here).or_else(|| is_of(&elsewhere)) {
            Some(known) => Some(EntryDoubt::Spelling(known)),
            None => (!is_of_others(&spelt)).then_some(EntryDoubt::Unknown),
        },
    }
}

/// Whether the kind of login is one of those that the settings below `auth` can be for.
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

fn names(fields: &[(&'static str, crate::config::key::Key)]) -> Vec<&'static str> {
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
