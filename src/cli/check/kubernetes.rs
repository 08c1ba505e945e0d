//! The steps over files of Kubernetes: read, judge, record.
//!
//! They send no request, and later steps run even after a failure.

use std::path::Path;

use super::findings::Findings;
use super::manifest::shape::Shape;
use super::walk::Walk;
use super::{Files, Outcome, encryption_config, manifest};
use crate::config::files;
use crate::log::error_chain::ErrorChain;

impl Walk<'_> {
    /// Looks at what kube-apiserver is told.
    pub(super) fn kubernetes(&mut self, files: &Files) {
        let mut sockets = Vec::new();
        let mut checked = None;
        if let Some(path) = &files.encryption_config {
            let name = "encryption-config";
            if let Some(file) = self.content(name, path) {
                let mut reading = encryption_config::check(&file);
                for wrong in &mut reading.findings.errors {
                    wrong.what = format!("{}: {}", path.display(), wrong.what);
                }
                let found = format!("{}: {}", path.display(), reading.summary);
                self.record_findings(name, found, reading.findings);
                sockets = reading.sockets;
                checked = std::path::absolute(path).ok();
            }
        }
        if let Some(path) = &files.manifest {
            self.manifest(path, files, &sockets, checked.as_deref());
        }
    }

    fn manifest(&mut self, path: &Path, files: &Files, sockets: &[String], checked: Option<&Path>) {
        let name = "manifest";
        let mut findings = Findings::default();
        let Some(content) = self.content(name, path) else {
            return;
        };
        let document = match manifest::document::read(&content, &mut findings) {
            Ok(document) => document,
            Err(wrong) => {
                let text = format!("{}: {}", path.display(), wrong.what);
                self.record(name, Outcome::Failed, text, Vec::new(), Some(wrong.fix));
                return;
            }
        };
        let known = manifest::Context {
            sockets,
            checked,
            is_json: document.is_json,
            understand: files.understand,
        };
        let checked = manifest::check(&document.pod, known);
        findings.errors.extend(checked.errors);
        findings.warnings.extend(checked.warnings);
        if let Some(shape) = Shape::of(&document.pod) {
            let cloud_config = files.cloud_config.as_deref();
            manifest::cloud_files::are_mounted(shape, cloud_config, &mut findings);
            if shape.is_static {
                manifest::directory::nothing_else_runs(path, shape.pod, &mut findings);
                manifest::directory::kubeadm_has_the_patch(path, shape.pod, &mut findings);
                manifest::outside::somebody_serves(path, shape, sockets, &mut findings);
            }
        }
        self.record_findings(name, path.display().to_string(), findings);
    }

    /// What is in a file.
    fn content(&mut self, name: &str, path: &Path) -> Option<Vec<u8>> {
        match files::read(path) {
            Ok(content) => Some(content.bytes),
            Err(error) => {
                let fix = Some("name the right file".to_owned());
                let text = format!("{}: {}", path.display(), ErrorChain(&error));
                self.record(name, Outcome::Failed, text, Vec::new(), fix);
                None
            }
        }
    }

    /// One step for each thing that is wrong, or one for all that is well.
    fn record_findings(&mut self, name: &str, found: String, findings: Findings) {
        let mut doubts = findings.warnings;
        if findings.errors.is_empty() {
            self.pass(name, found, doubts);
            return;
        }
        for wrong in findings.errors {
            let doubts = std::mem::take(&mut doubts);
            self.record(name, Outcome::Failed, wrong.what, doubts, Some(wrong.fix));
        }
    }
}
