//! What the access rules of an application credential allow the sidecar to read.
//!
//! Used by `check`. Pure. Invariant: a rule is evaluated as keystonemiddleware
//! evaluates it: with the path that includes the prefix of Barbican's URL in the
//! catalog.

use http::Uri;

use crate::config::Container;
use crate::key_id::{ContainerId, KeyId};
use crate::openstack::{AccessRule, RuleMatch};

/// The type of the service, which a rule must name.
const SERVICE: &str = "key-manager";

/// Common mistakes for it: the program's name, and other spellings.
const NAMES_FOR_IT: [&str; 6] = [
    "barbican",
    "keymanager",
    "key_manager",
    "key manager",
    "secret",
    "secrets",
];

/// Why Barbican answers 401 although a rule matches.
pub(super) const SERVICE_TYPE: &str = "an access rule allows this request, but Barbican refuses \
                                       the token: service_type in [keystone_authtoken] of its \
                                       configuration is not key-manager, and without that it \
                                       refuses every credential with access rules; tell the \
                                       cloud's operator, or use an application credential without \
                                       access rules until then";

/// The paths that Barbican's rules must be for.
#[derive(Clone, Debug)]
pub(super) struct Base(String);

impl Base {
    /// From the endpoint of the catalog, including `/v1`.
    pub(super) fn of(endpoint: &Uri) -> Self {
        Self(endpoint.path().trim_end_matches('/').to_owned())
    }

    fn payload(&self, id: KeyId) -> String {
        format!("{}/secrets/{}/payload", self.0, id.secret_uuid())
    }

    /// The payload of any key: a rotation brings others.
    fn payloads(&self) -> String {
        format!("{}/secrets/*/payload", self.0)
    }

    fn container(&self, id: ContainerId) -> String {
        format!("{}/containers/{id}", self.0)
    }

    /// The record of any key, which says who has created it.
    fn records(&self) -> String {
        format!("{}/secrets/*", self.0)
    }

    fn prefix(&self) -> &str {
        self.0.strip_suffix("/v1").unwrap_or(&self.0)
    }

    /// The needed rule, as a part of a sentence.
    pub(super) fn recommended(&self, id: KeyId) -> String {
        format!(
            "an application credential with the access rule GET {} for the service {SERVICE}",
            self.payload(id)
        )
    }

    /// The needed rule, in the form of `--access-rules`.
    pub(super) fn needed(&self, id: KeyId) -> String {
        as_rule(&self.payload(id))
    }

    /// What is needed where a container lists the keys, in words for a sentence.
    pub(super) fn recommended_with_container(&self, container: &Container) -> String {
        format!(
            "an application credential of a user with the role `reader` and read ACLs on the \
             container and on each key, with the access rules {} for the service {SERVICE}",
            self.paths(container)
                .iter()
                .map(|path| format!("GET {path}"))
                .collect::<Vec<_>>()
                .join(" and ")
        )
    }

    /// What a sidecar asks for that follows this container.
    fn paths(&self, container: &Container) -> Vec<String> {
        let records = container.owner.as_ref().map(|_| self.records());
        let paths = [self.container(container.id), self.payloads()];
        paths.into_iter().chain(records).collect()
    }
}

/// As `--access-rules` takes it.
fn as_rule(path: &str) -> String {
    format!("{{\"service\":\"{SERVICE}\",\"method\":\"GET\",\"path\":\"{path}\"}}")
}

/// Why the end of the credential is not known, and what would make it known.
pub(super) fn unknown_end(user: Option<&str>) -> String {
    format!(
        "this credential may not ask Keystone when it expires, so that the date is known only \
         about an hour before; with the access rule \
         {{\"service\":\"identity\",\"method\":\"GET\",\"path\":\"/v3/users/{}/application_credentials/*\"}} \
         in addition, the date is known, and the sidecar warns 30 days before",
        user.unwrap_or("USER-ID")
    )
}

/// Whether one of the rules allows the payload of `id`.
pub(super) fn allows(rules: &[AccessRule], base: &Base, id: KeyId) -> bool {
    allows_path(rules, &base.payload(id))
}

/// What Barbican's 401 for the payload of `id` means, and what to do.
pub(super) fn refused(rules: &[AccessRule], base: &Base, id: KeyId) -> String {
    if allows(rules, base, id) {
        return SERVICE_TYPE.to_owned();
    }
    format!(
        "create an application credential with the access rule {}: no rule of this one allows this \
         request, and a credential cannot be changed",
        base.needed(id)
    )
}

/// What is wrong with the rules: keys that none allows, rules without effect, and rules
/// that allow more than is needed.
pub(super) fn doubts(rules: &[AccessRule], base: &Base, ids: &[KeyId]) -> Vec<String> {
    let mut warnings: Vec<String> = ids
        .iter()
        .filter(|id| !allows(rules, base, **id))
        .map(|id| {
            format!(
                "no access rule allows the payload of {id}; the rule that is needed is {}",
                base.needed(*id)
            )
        })
        .collect();
    warnings.extend(rules.iter().filter_map(|rule| doubt(rule, base, ids)));
    warnings
}

/// What Barbican's 401 for a container means, and what to do.
pub(super) fn container_refused(rules: &[AccessRule], base: &Base, id: ContainerId) -> String {
    let path = base.container(id);
    if allows_path(rules, &path) {
        return SERVICE_TYPE.to_owned();
    }
    format!(
        "make an application credential with the access rules {} and {}: none of those of this one \
         allows to read the container, and a credential cannot be changed",
        as_rule(&path),
        as_rule(&base.payloads())
    )
}

/// The same as [`doubts`] where a container lists the keys: rules that are missing, that a
/// rotation would outgrow, and that allow more than is needed.
pub(super) fn doubts_with_container(
    rules: &[AccessRule],
    base: &Base,
    container: &Container,
) -> Vec<String> {
    let path = base.container(container.id);
    let mut warnings = Vec::new();
    if !allows_path(rules, &path) {
        let needed = as_rule(&path);
        warnings.push(format!(
            "no access rule allows the container; the rule that is needed is {needed}"
        ));
    }
    // Any key: the next rotation brings one that nobody knows yet.
    let any = base.payloads().replace('*', ANY_KEY);
    if !allows_path(rules, &any) {
        let needed = as_rule(&base.payloads());
        warnings.push(format!(
            "no access rule allows the payload of a key that a rotation brings; the rule that is \
             needed is {needed}"
        ));
    }
    let record = base.records().replace('*', ANY_KEY);
    let with_owner = container.owner.is_some();
    if with_owner && !allows_path(rules, &record) {
        let needed = as_rule(&base.records());
        warnings.push(format!(
            "no access rule allows to see who has created a key, which key-container-owner needs; \
             the rule that is needed is {needed}"
        ));
    }
    for rule in rules {
        let exactly = |path: &str| {
            rule.service == SERVICE && rule.method == "GET" && rule.path.trim() == path
        };
        let for_container = rule.service == SERVICE && rule.is_for(&path) == RuleMatch::Yes;
        let for_record =
            with_owner && rule.is_for(&record) == RuleMatch::Yes && !rule.path.contains("**");
        if exactly(&path) || (for_record && rule.method == "GET") {
            continue;
        }
        if for_container {
            let (shown, needed) = (shown(rule), as_rule(&path));
            warnings.push(format!(
                "an access rule allows more than reading this container: {shown}; {needed} is enough"
            ));
        } else {
            let any: Option<KeyId> = ANY_KEY.parse().ok();
            let ids: Vec<KeyId> = any.into_iter().collect();
            warnings.extend(doubt(rule, base, &ids));
        }
    }
    warnings
}

/// An id that no key has.
const ANY_KEY: &str = "00000000-0000-0000-0000-000000000000";

fn allows_path(rules: &[AccessRule], path: &str) -> bool {
    let mut rules = rules.iter();
    rules.any(|rule| rule.allows(SERVICE, "GET", path) == RuleMatch::Yes)
}

fn shown(rule: &AccessRule) -> String {
    format!("{} {} {}", rule.service, rule.method, rule.path)
}

fn doubt(rule: &AccessRule, base: &Base, ids: &[KeyId]) -> Option<String> {
    let shown = shown(rule);
    let nothing = |why: String| Some(format!("the access rule {shown} allows no payload: {why}"));
    let more = || {
        Some(format!(
            "an access rule allows more than reading payloads: {shown}"
        ))
    };
    let name = rule.service.to_ascii_lowercase();
    if NAMES_FOR_IT.contains(&name.as_str()) || (name == SERVICE && rule.service != SERVICE) {
        return nothing(format!(
            "the service is named by its type, which is {SERVICE}"
        ));
    }
    if rule.service != SERVICE {
        return if tells_its_end(rule) { None } else { more() };
    }
    if ["KEY-ID", "KEY_ID", "<"]
        .iter()
        .any(|one| rule.path.contains(one))
    {
        return nothing("replace KEY-ID with the key's id".to_owned());
    }
    match rule.reaches(&format!("{}/", base.0)) {
        RuleMatch::Yes => {}
        RuleMatch::No => {
            return nothing(match base.prefix() {
                "" => format!("Barbican's paths begin with {}/", base.0),
                prefix => format!(
                    "Barbican is below {prefix} here, and its paths begin with {}/",
                    base.0
                ),
            });
        }
        RuleMatch::Unclear => {
            return nothing(
                "it has characters that are not allowed in a path; wildcards are *, ** and {name}"
                    .to_owned(),
            );
        }
    }
    let fits = ids
        .iter()
        .any(|id| rule.is_for(&base.payload(*id)) == RuleMatch::Yes);
    let ends = rule.path.ends_with("/payload") && !rule.path.contains("**");
    match rule.method.as_str() {
        "GET" if ends => None,
        "GET" if fits => more(),
        "GET" => {
            let end = "the path of a payload ends in /payload, and * stands for one part of a path";
            nothing(end.to_owned())
        }
        "get" | "Get" => nothing("the method must be GET, in capital letters".to_owned()),
        _ => more(),
    }
}

/// Whether the rule allows the sidecar to read when the credential expires.
fn tells_its_end(rule: &AccessRule) -> bool {
    rule.service == "identity"
        && rule.method == "GET"
        && rule.path.contains("/application_credentials/")
        && !rule.path.contains("**")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

    fn rule(service: &str, method: &str, path: &str) -> AccessRule {
        AccessRule {
            service: service.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
        }
    }

    fn id() -> KeyId {
        ID.parse().expect("a key id")
    }

    fn base(url: &str) -> Base {
        Base::of(&url.parse().expect("a URL"))
    }

    fn said(rules: &[AccessRule], url: &str) -> String {
        doubts(rules, &base(url), &[id()]).join("\n")
    }

    #[test]
    fn a_rule_for_the_payload_is_as_it_should_be() {
        for path in [
            "/v1/secrets/b5309dfb-b326-4148-b0ad-e9cd1ec223a8/payload",
            "/v1/secrets/*/payload",
            "/v1/secrets/{secret_id}/payload",
        ] {
            let rules = [rule("key-manager", "GET", path)];
            assert_eq!(said(&rules, "http://b:9311/v1"), "", "{path}");
        }
    }

    #[test]
    fn below_a_prefix_the_rule_has_to_have_it() {
        let rules = [rule("key-manager", "GET", "/v1/secrets/*/payload")];
        let said = said(&rules, "http://b/key-manager/v1");
        assert!(said.contains("no access rule allows the payload"), "{said}");
        assert!(
            said.contains(&format!(
                "\"path\":\"/key-manager/v1/secrets/{ID}/payload\""
            )),
            "{said}"
        );
        assert!(
            said.contains("Barbican is below /key-manager here"),
            "{said}"
        );
    }

    #[test]
    fn rules_without_effect_are_not_called_too_wide() {
        for (wrong, why) in [
            (rule("barbican", "GET", "/v1/secrets/*/payload"), "its type"),
            (
                rule("Key-Manager", "GET", "/v1/secrets/*/payload"),
                "its type",
            ),
            (
                rule("key-manager", "GET", "/v1/secrets/*"),
                "ends in /payload",
            ),
            (
                rule("key-manager", "GET", "/v1/secrets/KEY-ID/payload"),
                "KEY-ID",
            ),
            (
                rule("key-manager", "get", "/v1/secrets/*/payload"),
                "capital",
            ),
            (
                rule("key-manager", "GET", "/v1/secrets/(a|b)"),
                "characters",
            ),
            (
                rule("key-manager", "GET", "v1/secrets/*/payload"),
                "begin with",
            ),
        ] {
            let said = said(&[wrong], "http://b/v1");
            assert!(said.contains("no access rule allows"), "{said}");
            assert!(said.contains("allows no payload: "), "{said}");
            assert!(said.contains(why), "{why} is not in {said}");
            assert!(!said.contains("more than reading"), "{said}");
        }
    }

    #[test]
    fn rules_that_allow_more_are_named() {
        for wide in [
            rule("key-manager", "GET", "/v1/**"),
            rule("key-manager", "POST", "/v1/orders"),
            rule("compute", "GET", "/v2.1/servers"),
        ] {
            let said = said(&[wide], "http://b/v1");
            assert!(said.contains("more than reading payloads"), "{said}");
        }
        let own = "/v3/users/*/application_credentials/*";
        let said = said(&[rule("identity", "GET", own)], "http://b/v1");
        assert!(!said.contains("more than reading"), "{said}");
    }

    #[test]
    fn with_a_container_two_rules_are_as_they_should_be_and_others_are_named() {
        let id = "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8";
        let path = format!("/v1/containers/{id}");
        let mut container = Container {
            id: ContainerId::from_reference(id).expect("a UUID"),
            owner: None,
        };
        let get = |path: &str| rule("key-manager", "GET", path);
        let payloads = get("/v1/secrets/*/payload");
        let said = |rules: &[AccessRule], container: &Container| {
            doubts_with_container(rules, &base("http://b/v1"), container)
        };
        let good = [get(&path), payloads.clone()];
        assert_eq!(said(&good, &container), Vec::<String>::new());
        let one = [get(&path), get(&format!("/v1/secrets/{ID}/payload"))];
        assert!(said(&one, &container)[0].contains("that a rotation brings"));
        let missing = said(std::slice::from_ref(&payloads), &container);
        assert!(missing[0].contains(&path), "{missing:?}");
        let wide = [get("/v1/containers/*"), payloads.clone()];
        let wide = said(&wide, &container);
        assert!(
            wide[0].contains("is enough") && wide[0].contains(id),
            "{wide:?}"
        );
        let all = [get("/v1/**")];
        assert_eq!(said(&all, &container).len(), 1);
        container.owner = Some("uid".to_owned());
        assert!(said(&good, &container)[0].contains("key-container-owner"));
        let with_records = [&good[..], &[get("/v1/secrets/*")]].concat();
        assert_eq!(said(&with_records, &container), Vec::<String>::new());
    }

    #[test]
    fn a_refusal_is_the_rules_fault_or_that_of_barbicans_setting() {
        let rules = [rule("key-manager", "GET", "/v1/secrets/*/payload")];
        let at = |url: &str| refused(&rules, &base(url), id());
        assert!(at("http://b/v1").contains("service_type"));
        assert!(at("http://b/km/v1").contains("/km/v1/secrets/"));
    }
}
