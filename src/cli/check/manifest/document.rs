//! The file as the kubelet reads it: JSON if it begins with `{`, or else the first document
//! of YAML, in which the last of two equal keys counts.

use serde_json::Value;

use super::super::findings::{Finding, Findings};
use crate::config::{self, YamlProblem};

/// What is in a manifest.
#[derive(Debug)]
pub(in super::super) struct Document {
    pub(in super::super) pod: Value,
    /// JSON has whole numbers; in YAML, `8.0` is one too.
    pub(in super::super) is_json: bool,
}

/// Reads a manifest; what is wrong names line and column.
pub(in super::super) fn read(content: &[u8], findings: &mut Findings) -> Result<Document, Finding> {
    let fix = "correct the file there; static-pod/kube-apiserver.yaml is an example";
    let text = String::from_utf8_lossy(content);
    if text.trim_start().starts_with('{') {
        let pod = serde_json::from_str(&text).map_err(|error| Finding {
            what: format!(
                "line {}, column {}: this is not JSON, but the kubelet reads a file as JSON if it \
                 begins with `{{`",
                error.line(),
                error.column()
            ),
            fix: fix.to_owned(),
        })?;
        return Ok(Document { pod, is_json: true });
    }
    let lenient = match config::parse_yaml(&text) {
        Ok(pod) => {
            return Ok(Document {
                pod,
                is_json: false,
            });
        }
        Err((at, problem)) => {
            if problem == YamlProblem::DuplicateKey {
                findings.warn(format!("{at}: {problem}; the kubelet uses the last one"));
            }
            config::parse_first_leniently(&text)
        }
    };
    let first = lenient.map_err(|(at, problem)| Finding {
        what: format!("{at}: {problem}"),
        fix: fix.to_owned(),
    })?;
    if first.more {
        findings.warn(
            "the file has several documents, and the kubelet runs only the first: keep one, and \
             remove the `---` between them",
        );
    }
    Ok(Document {
        pod: first.value,
        is_json: false,
    })
}
