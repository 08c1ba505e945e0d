//! Which resources may be named, and that none hides another.

use std::collections::BTreeSet;

use super::configuration::Entry;
use crate::cli::check::findings::Findings;
use crate::cli::check::quoted;

/// A resource and its API group, which is empty for the core group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupResource<'a> {
    pub(super) resource: &'a str,
    pub(super) group: &'a str,
}

pub(super) const EVERYTHING: GroupResource<'static> = GroupResource {
    resource: "*",
    group: "*",
};

impl<'a> GroupResource<'a> {
    /// What stands behind the first dot is the group.
    pub(super) fn parse(text: &'a str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { resource, group }
    }

    /// All of the same group.
    pub(super) fn whole_group(self) -> Self {
        Self {
            resource: "*",
            ..self
        }
    }
}

/// What earlier entries name, which takes precedence.
#[derive(Debug, Default)]
pub(super) struct Masks<'a>(BTreeSet<GroupResource<'a>>);

/// Judges the resources of an entry.
pub(super) fn check<'a>(entry: &'a Entry, masks: &mut Masks<'a>, findings: &mut Findings) {
    let path = format!("{}.resources", entry.path);
    let texts = entry.resources.iter().enumerate();
    let texts: Vec<(usize, &str)> = texts
        .filter_map(|(number, text)| Some((number, text.as_deref()?)))
        .collect();
    let parsed: Vec<_> = texts
        .iter()
        .map(|(_, text)| GroupResource::parse(text))
        .collect();
    let duplicate = has_duplicate(&parsed);
    if duplicate {
        findings.error(
            format!("{path}: the same resource cannot be specified multiple times"),
            "remove one of them",
        );
    }
    let overlaps = has_overlap(&parsed);
    if overlaps {
        findings.error(
            format!("{path}: a wildcard overlaps with another resource of the same list"),
            "remove one of them, or write a separate entry for each, the wildcard last",
        );
    }
    for (number, text) in texts {
        let path = format!("{path}[{number}]");
        if let Some((what, fix)) = name(text) {
            findings.error(format!("{path}: {}: {what}", quoted::value(text)), fix);
            continue;
        }
        let resource = GroupResource::parse(text);
        let mask = [resource.whole_group(), EVERYTHING]
            .into_iter()
            .find(|mask| masks.0.contains(mask));
        match mask {
            Some(_) if overlaps || duplicate => {}
            Some(mask) => findings.error(
                format!(
                    "{path}: {} is masked by the earlier {}",
                    quoted::value(text),
                    quoted::value(&format!("{}.{}", mask.resource, mask.group)),
                ),
                "move its entry up, before the wildcard, or remove it",
            ),
            None => {
                masks.0.insert(resource);
            }
        }
    }
}

fn has_duplicate(resources: &[GroupResource<'_>]) -> bool {
    let distinct: BTreeSet<_> = resources.iter().collect();
    distinct.len() < resources.len()
}

fn has_overlap(resources: &[GroupResource<'_>]) -> bool {
    let distinct: BTreeSet<_> = resources.iter().collect();
    distinct.len() > 1
        && distinct.iter().any(|wildcard| {
            wildcard.resource == "*"
                && (**wildcard == EVERYTHING
                    || distinct
                        .iter()
                        .any(|other| other.resource != "*" && other.group == wildcard.group))
        })
}

/// What is wrong with a name, and what to do.
fn name(text: &str) -> Option<(&'static str, &'static str)> {
    let GroupResource { resource, group } = GroupResource::parse(text);
    Some(if text.to_lowercase() != text {
        (
            "a resource name has no capital letters",
            "write the plural of `kubectl api-resources`, such as `secrets`",
        )
    } else if text == "*" {
        (
            "a star alone is refused",
            "write \"*.\" for the core group, or \"*.*\" for everything",
        )
    } else if matches!(
        text,
        "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations"
    ) {
        ("it has no REST API and cannot be encrypted", "remove it")
    } else if group == "events.k8s.io" {
        ("events are stored in the core group", "write `events`")
    } else if group == "extensions" {
        (
            "the group `extensions` has been removed",
            "write the current group of the resource",
        )
    } else if group == "*" && resource != "*" {
        ("a resource across groups is refused", "name each group")
    } else {
        return None;
    })
}
