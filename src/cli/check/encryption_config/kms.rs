//! A KMS provider.

use std::collections::BTreeSet;

use super::configuration::Kms;
use super::endpoint;
use crate::cli::check::findings::Findings;
use crate::cli::check::quoted;
use crate::config;

/// The names of the KMS providers so far, of v1 and v2.
#[derive(Debug, Default)]
pub(super) struct Names<'a>(BTreeSet<&'a str>);

/// Judges a provider; the socket that kube-apiserver will connect to.
pub(super) fn check<'a>(
    kms: &'a Kms,
    names: &mut Names<'a>,
    findings: &mut Findings,
) -> Option<String> {
    let v1 = matches!(kms.api_version.as_deref(), Some("" | "v1"));
    version(kms, findings);
    name(kms, v1, names, findings);
    timeout(kms, findings);
    cache_size(kms, v1, findings);
    endpoint(kms, findings)
}

fn version(kms: &Kms, findings: &mut Findings) {
    let path = format!("{}.apiVersion", kms.path);
    let off = "v1 is off since Kubernetes 1.29";
    match kms.api_version.as_deref() {
        None | Some("v2") => {}
        Some("") => findings.error(
            format!("{path}: missing, which means v1, and {off}"),
            "add `apiVersion: v2` below `kms:`",
        ),
        Some("v1") => findings.error(
            format!("{path}: {off}, and this sidecar speaks v2 only"),
            "write `apiVersion: v2`. To read v1 data of the Go plugin, run that plugin as well, \
             and start kube-apiserver with --feature-gates=KMSv1=true, until all data is rewritten",
        ),
        Some(other) => findings.error(
            format!("{path}: {} is neither v1 nor v2", quoted::value(other)),
            "write `apiVersion: v2`",
        ),
    }
}

fn name<'a>(kms: &'a Kms, v1: bool, names: &mut Names<'a>, findings: &mut Findings) {
    let path = format!("{}.name", kms.path);
    let Some(name) = kms.name.as_deref() else {
        return;
    };
    if name.is_empty() {
        findings.error(
            format!("{path}: missing"),
            "add one, such as `name: barbican`; it is stored with every object",
        );
    }
    if !v1 && name.contains(':') {
        findings.error(
            format!("{path}: {} has a colon in it", quoted::value(name)),
            "choose a name without one",
        );
    }
    let new = names.0.insert(name);
    if !new && !v1 && !name.is_empty() {
        findings.error(
            format!(
                "{path}: {} is the name of an earlier provider",
                quoted::value(name)
            ),
            "put all resources into one entry, or give this provider another name (the socket may \
             be the same)",
        );
    }
}

fn timeout(kms: &Kms, findings: &mut Findings) {
    let Some(text) = kms.timeout.as_deref() else {
        return;
    };
    let path = format!("{}.timeout", kms.path);
    match config::parse_duration(text) {
        None => findings.error(
            format!("{path}: {} is no positive duration", quoted::value(text)),
            "write a number with a unit, such as `timeout: 3s`",
        ),
        Some(duration) if duration.is_zero() => findings.error(
            format!("{path}: zero, but it should be a positive value"),
            "write `timeout: 3s`",
        ),
        Some(_) => {}
    }
}

fn cache_size(kms: &Kms, v1: bool, findings: &mut Findings) {
    let path = format!("{}.cachesize", kms.path);
    match kms.cache_size {
        Some(_) if !v1 => {
            findings.error(format!("{path}: not supported in v2"), "remove cachesize");
        }
        Some(0) => findings.error(
            format!("{path}: zero, but it should be positive, or negative to disable the cache"),
            "remove cachesize",
        ),
        _ => {}
    }
}

fn endpoint(kms: &Kms, findings: &mut Findings) -> Option<String> {
    let text = kms.endpoint.as_deref()?;
    let path = format!("{}.endpoint", kms.path);
    match endpoint::socket(text) {
        Ok(socket) => {
            if let Some(doubt) = endpoint::doubt(&socket) {
                findings.warn(format!("{path}: {}: {doubt}", quoted::value(text)));
            }
            Some(socket)
        }
        Err(wrong) => {
            let shown = match text {
                "" => String::new(),
                text => format!("{}: ", quoted::value(text)),
            };
            findings.error(
                format!("{path}: {shown}{wrong}"),
                "write `endpoint: unix:///run/barbican-kms/kms.sock`, with three slashes",
            );
            None
        }
    }
}
