//! The steps over files of Kubernetes: read, judge, record.
//!
//! They ask nobody, and a failure does not keep later steps from being taken.

use std::path::Path;

use serde_json::Value;

use super::findings::Findings;
use super::{Files, Outcome, Walk, encryption_config, manifest};
use crate::config::{self, files};
use crate::log::error_chain::ErrorChain;

impl Walk<'_> {
    /// Looks at what kube-apiserver is told.
    pub(super) fn kubernetes(&mut self, files: &Files) {
        let mut sockets = Vec::new();
        let mut checked = None;
        if let Some(path) = &files.encryption_config {
            let name = "encryption-config";
            if let Some(file) = self.content(name, path) {
                let mut reading = encryption_config::judge(&file);
                for wrong in &mut reading.findings.wrong {
                    wrong.what = format!("{}: {}", path.display(), wrong.what);
                }
                let found = format!("{}: {}", path.display(), reading.summary);
                self.judged(name, found, reading.findings);
                sockets = reading.sockets;
                checked = std::path::absolute(path).ok();
            }
        }
        if let Some(path) = &files.manifest {
            let name = "manifest";
            if let Some(pod) = self.yaml(name, path, "static-pod/kube-apiserver.yaml") {
                let beside = manifest::Beside {
                    sockets: &sockets,
                    checked: checked.as_deref(),
                    understand: files.understand,
                };
                let mut findings = manifest::judge(&pod, beside);
                let cloud_config = files.cloud_config.as_deref();
                manifest::cloud_files::are_mounted(&pod, cloud_config, &mut findings);
                manifest::directory::nothing_else_runs(path, &pod, &mut findings);
                manifest::directory::kubeadm_has_the_patch(path, &pod, &mut findings);
                self.judged(name, path.display().to_string(), findings);
            }
        }
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

    /// The content of a file that should look like `example`.
    fn yaml(&mut self, name: &str, path: &Path, example: &str) -> Option<Value> {
        let content = self.content(name, path)?;
        match config::parse_yaml(&String::from_utf8_lossy(&content)) {
            Ok(value) => Some(value),
            Err((at, problem)) => {
                let text = format!("{}:{at}: {problem}", path.display());
                let fix = format!("mend the file there; {example} is one to compare it with");
                self.record(name, Outcome::Failed, text, Vec::new(), Some(fix));
                None
            }
        }
    }

    /// One step for each thing that is wrong, or one for all that is well.
    fn judged(&mut self, name: &str, found: String, findings: Findings) {
        let mut doubts = findings.doubts;
        if findings.wrong.is_empty() {
            self.pass(name, found, doubts);
            return;
        }
        for wrong in findings.wrong {
            let doubts = std::mem::take(&mut doubts);
            self.record(name, Outcome::Failed, wrong.what, doubts, Some(wrong.fix));
        }
    }
}
