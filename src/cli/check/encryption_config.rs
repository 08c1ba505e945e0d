//! kube-apiserver's EncryptionConfiguration, checked as kube-apiserver's own loader does.
//!
//! Pure; `check` reads the file. Errors are what the loader refuses, and what it accepts
//! but cannot work; everything else is at most a warning. Fields are named by their
//! paths, as kube-apiserver names them. tests/kubernetes compares this with the real
//! loader of each supported release; all of them have the same rules.

mod advice;
mod configuration;
mod document;
mod endpoint;
mod keys;
mod kms;
mod resources;
mod schema;
mod values;

use super::findings::Findings;
use super::quoted;
use kms::Names;
use resources::Masks;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) findings: Findings,
    /// The socket of each KMS provider.
    pub(super) sockets: Vec<String>,
    /// What is encrypted, in words.
    pub(super) summary: String,
}

/// Goes through a file.
pub(super) fn check(file: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let findings = &mut reading.findings;
    let Some(value) = document::read(file, findings) else {
        return reading;
    };
    let Some(configuration) = schema::decode(&value, findings) else {
        return reading;
    };
    let mut names = Names::default();
    let mut masks = Masks::default();
    for entry in &configuration.entries {
        resources::check(entry, &mut masks, findings);
        for provider in &entry.providers {
            if let Some(provider_keys) = &provider.keys {
                keys::check(provider_keys, findings);
            }
            if let Some(kms) = &provider.kms {
                let socket = kms::check(kms, &mut names, findings);
                reading.sockets.extend(socket);
            }
        }
    }
    advice::give(&configuration, findings);
    let mut covered = configuration.entries.iter().flat_map(|entry| {
        let names = entry.resources.iter().flatten();
        names.map(|name| quoted::name(name))
    });
    reading.summary = match covered.next() {
        Some(first) => covered.fold(first, |text, name| text + " " + &name),
        None => "nothing".to_owned(),
    };
    if !reading.sockets.is_empty() {
        reading.summary = format!("{}, at {}", reading.summary, reading.sockets.join(" and "));
    }
    reading
}

#[cfg(test)]
mod tests;
