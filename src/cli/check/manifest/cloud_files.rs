//! The files that the cloud-config names, as the sidecar finds them: through its mounts.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::findings::Findings;
use super::pod::{Container, Pod};
use super::sidecar;
use crate::config::{self, Environment, FileError, files, redact};

/// Reads the cloud-config, the given one or else the node's, as the sidecar would.
pub(in super::super) fn are_mounted(pod: &Value, given: Option<&Path>, findings: &mut Findings) {
    let none = Value::Null;
    let pod = Pod {
        spec: pod.get("spec").unwrap_or(&none),
    };
    let Some(container) = sidecar::find(pod, &mut Findings::default()) else {
        return;
    };
    let served = sidecar::it_can_be_started(container, None, &mut Findings::default());
    let inside = PathBuf::from(&served.cloud_config);
    let on_node = container.on_node(&served.cloud_config).map(PathBuf::from);
    let Some(source) = given.map(Path::to_owned).or(on_node) else {
        return;
    };
    if served.cloud_config.is_empty() || files::read(&source).is_err() {
        return;
    }
    let unmounted = RefCell::new(Vec::new());
    let read = |path: &Path| {
        if path == inside {
            return files::read(&source);
        }
        let named = path.to_string_lossy();
        if container.mount_over(&named).is_some() {
            let on_node = container.on_node(&named).ok_or(FileError::Missing)?;
            return files::read(Path::new(&on_node)).or_else(|_| files::read(path));
        }
        let content = files::read(path);
        if content.is_ok() {
            unmounted.borrow_mut().push(path.to_owned());
        }
        content
    };
    let loaded = config::load(&inside, &environment(container), &read);
    let fix = "move it to the directory of the cloud-config, which is mounted, or mount its \
               directory";
    for path in unmounted.borrow().iter() {
        findings.error(
            format!(
                "the cloud-config names {}, and no mount of the sidecar holds it",
                redact::path(path)
            ),
            fix,
        );
    }
    // A text that is no file may be anything, so the setting is named and not the text.
    if let Err(error) = loaded
        && let Some(setting) = error.error.missing_file_of()
        // The load ends at the first error, so the last file is the missing one.
        && let Some(file) = error.files.last()
        && container.mount_over(&file.to_string_lossy()).is_none()
    {
        findings.error(
            format!("{setting} names a file that no mount of the sidecar holds"),
            fix,
        );
    }
}

/// What the manifest sets, and nothing of the environment that `check` runs in.
fn environment(container: Container<'_>) -> Environment {
    let variables = container.variables();
    let of = |name: &str| {
        variables
            .get(name)
            .filter(|value| !value.is_empty())
            .cloned()
    };
    Environment {
        cloud: of("OS_CLOUD"),
        client_config_file: of("OS_CLIENT_CONFIG_FILE").map(PathBuf::from),
        client_secure_file: of("OS_CLIENT_SECURE_FILE").map(PathBuf::from),
        home: of("HOME").map(PathBuf::from),
        working_directory: PathBuf::from("/"),
        ..Environment::default()
    }
}
