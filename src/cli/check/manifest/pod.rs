//! A pod as the rules see it: containers with their words, mounts and users.
//!
//! It is read as the kubelet reads it: variables are replaced, the innermost mount is
//! used, and the user of a container comes from the container, else from the pod, else
//! from the image.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::findings::{list, text};
use super::expansion::expand;

/// The user and group of our image.
const IMAGE_USER: i64 = 65532;

#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'a> {
    pub(super) spec: &'a Value,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    pub(super) pod: Pod<'a>,
    pub(super) value: &'a Value,
    pub(super) is_init: bool,
}

/// A container's view of one volume.
#[derive(Debug)]
pub(super) struct Mount<'a> {
    pub(super) path: &'a str,
    pub(super) volume: &'a str,
    pub(super) below: String,
    pub(super) read_only: bool,
}

/// Where a path of a container leads: a volume or the node, and the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The volume's name; `None` if it is a directory of the node, which two volumes may share.
    pub(super) volume: Option<String>,
    pub(super) path: String,
}

impl<'a> Pod<'a> {
    /// Regular ones last, as they are started.
    pub(super) fn containers(self) -> impl Iterator<Item = Container<'a>> {
        let of = move |key: &'static str| list(self.spec, key).map(move |value| (key, value));
        let all = of("initContainers").chain(of("containers"));
        all.map(move |(key, value)| Container {
            pod: self,
            value,
            is_init: key == "initContainers",
        })
    }

    pub(super) fn volume(self, name: &str) -> Option<&'a Value> {
        list(self.spec, "volumes").find(|one| text(one, "name") == Some(name))
    }

    pub(super) fn on_host_network(self) -> bool {
        self.spec.get("hostNetwork").and_then(Value::as_bool) == Some(true)
    }

    /// The groups that every container of the pod has besides its own.
    pub(super) fn groups(self) -> Vec<i64> {
        let context = self.spec.get("securityContext");
        let supplemental = context.map(|one| list(one, "supplementalGroups"));
        let supplemental = supplemental.into_iter().flatten().filter_map(Value::as_i64);
        supplemental.chain(self.fs_group()).collect()
    }

    pub(super) fn fs_group(self) -> Option<i64> {
        self.spec.pointer("/securityContext/fsGroup")?.as_i64()
    }
}

impl<'a> Container<'a> {
    pub(super) fn name(self) -> &'a str {
        text(self.value, "name").unwrap_or("without a name")
    }

    pub(super) fn image(self) -> &'a str {
        text(self.value, "image").unwrap_or_default()
    }

    /// The values of `$(NAME)`; a variable may use those before it.
    pub(super) fn variables(self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for one in list(self.value, "env") {
            if let Some(name) = text(one, "name")
                && one.get("valueFrom").is_none_or(Value::is_null)
            {
                let value = expand(text(one, "value").unwrap_or_default(), &variables);
                variables.insert(name.to_owned(), value);
            }
        }
        variables
    }

    pub(super) fn command(self) -> Vec<String> {
        self.words(self.value, "command")
    }

    pub(super) fn args(self) -> Vec<String> {
        self.words(self.value, "args")
    }

    /// Whether it runs kube-apiserver.
    pub(super) fn is_server(self) -> bool {
        let is_program = |word: &String| word.rsplit('/').next() == Some("kube-apiserver");
        self.name() == "kube-apiserver"
            || self.command().iter().any(is_program)
            || self.args().iter().any(is_program)
    }

    /// The texts of a list, with variables replaced.
    pub(super) fn words(self, of: &Value, key: &str) -> Vec<String> {
        let variables = self.variables();
        let words = list(of, key).filter_map(Value::as_str);
        words.map(|word| expand(word, &variables)).collect()
    }

    pub(super) fn mounts(self) -> impl Iterator<Item = Mount<'a>> {
        list(self.value, "volumeMounts").filter_map(move |mount| {
            let below = match text(mount, "subPathExpr") {
                Some(expression) if !expression.is_empty() => expand(expression, &self.variables()),
                _ => text(mount, "subPath").unwrap_or_default().to_owned(),
            };
            Some(Mount {
                path: text(mount, "mountPath")?.trim_end_matches('/'),
                volume: text(mount, "name")?,
                below,
                read_only: mount.get("readOnly").and_then(Value::as_bool) == Some(true),
            })
        })
    }

    /// The innermost mount over a path, and what of the path is below it.
    pub(super) fn mount_over(self, path: &str) -> Option<(Mount<'a>, String)> {
        let path = normal(path);
        let over = self.mounts().filter_map(|mount| {
            let rest = path.strip_prefix(&normal(mount.path))?;
            let rest = rest.strip_prefix('/').or(rest.is_empty().then_some(""))?;
            let rest = rest.to_owned();
            Some((mount, rest))
        });
        over.max_by_key(|(mount, _)| mount.path.len())
    }

    /// The place of a file in a mounted directory.
    pub(super) fn place(self, path: &str) -> Option<Place> {
        let (mount, rest) = self.mount_over(path)?;
        let inside = format!("{}/{rest}", mount.below);
        let host = self.pod.volume(mount.volume).and_then(host_path);
        Some(match host {
            Some(directory) => Place {
                volume: None,
                path: normal(&format!("{directory}/{inside}")),
            },
            None => Place {
                volume: Some(mount.volume.to_owned()),
                path: normal(&format!("/{inside}")),
            },
        })
    }

    /// The path on the node for a path of the container, if it is a path of the node.
    pub(super) fn on_node(self, path: &str) -> Option<String> {
        let place = self.place(path)?;
        place.volume.is_none().then_some(place.path)
    }

    /// A setting of the container's securityContext, or else of the pod's.
    fn context(self, key: &str) -> Option<&'a Value> {
        let of = |value: &'a Value| value.get("securityContext")?.get(key);
        let known = |value: &&Value| !value.is_null();
        of(self.value)
            .filter(known)
            .or(of(self.pod.spec).filter(known))
    }

    fn user_setting(self) -> Option<i64> {
        self.context("runAsUser")?.as_i64()
    }

    /// The user of our image.
    pub(super) fn sidecar_user(self) -> i64 {
        self.user_setting().unwrap_or(IMAGE_USER)
    }

    /// If only the user is set, the group is root's, because there is no /etc/passwd.
    pub(super) fn sidecar_group(self) -> i64 {
        let image = match self.user_setting() {
            Some(_) => 0,
            None => IMAGE_USER,
        };
        self.group_setting().unwrap_or(image)
    }

    fn group_setting(self) -> Option<i64> {
        self.context("runAsGroup")?.as_i64()
    }

    /// kube-apiserver's image runs as root.
    pub(super) fn server_user(self) -> i64 {
        self.user_setting().unwrap_or(0)
    }

    pub(super) fn server_group(self) -> i64 {
        self.group_setting().unwrap_or(0)
    }

    /// `runAsNonRoot`.
    pub(super) fn must_not_be_root(self) -> bool {
        self.context("runAsNonRoot").and_then(Value::as_bool) == Some(true)
    }

    /// Root without the capability to ignore file permissions.
    pub(super) fn lacks_override(self) -> bool {
        let capabilities = self.value.pointer("/securityContext/capabilities");
        let has = |key: &str, names: &[&str]| {
            capabilities.is_some_and(|all| {
                list(all, key)
                    .filter_map(Value::as_str)
                    .any(|one| names.contains(&one))
            })
        };
        let names = ["DAC_OVERRIDE", "CAP_DAC_OVERRIDE"];
        (has("drop", &["ALL", "all"]) || has("drop", &names)) && !has("add", &names)
    }
}

/// The directory of the node that a volume is.
pub(super) fn host_path(volume: &Value) -> Option<&str> {
    text(volume.get("hostPath")?, "path")
}

/// Without doubled and trailing slashes, and without `.`; `..` as the kernel has it.
pub(super) fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    let joined = format!("{root}{}", parts.join("/"));
    if joined == "/" { String::new() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_and_its_sub_path_decide() {
        let spec = serde_json::json!({
            "containers": [{"name": "x", "env": [{"name": "D", "value": "e"}], "volumeMounts": [
                {"name": "outer", "mountPath": "/run"},
                {"name": "inner", "mountPath": "/run/kms/", "subPath": "sockets"},
                {"name": "outer", "mountPath": "/expr", "subPathExpr": "d-$(D)"},
                {"name": "host", "mountPath": "/h"},
            ]}],
            "volumes": [{"name": "host", "hostPath": {"path": "/srv/x/"}}],
        });
        let pod = Pod { spec: &spec };
        let container = pod.containers().next().expect("one");
        let place = |path: &str| {
            let place = container.place(path)?;
            Some((place.volume.unwrap_or_default(), place.path))
        };
        let is = |volume: &str, path: &str| Some((volume.to_owned(), path.to_owned()));
        assert_eq!(place("/run/kms/kms.sock"), is("inner", "/sockets/kms.sock"));
        assert_eq!(place("/run//kms/../a"), is("outer", "/a"));
        assert_eq!(place("/expr/f"), is("outer", "/d-e/f"));
        assert_eq!(place("/h/f"), is("", "/srv/x/f"));
        assert_eq!(place("/running"), None);
        assert_eq!(place("run/kms"), None);
    }

    #[test]
    fn a_variable_may_use_those_before_it() {
        let spec = serde_json::json!({"containers": [{"env": [
            {"name": "A", "value": "a"}, {"name": "B", "value": "$(A)b$(C)"},
            {"name": "C", "value": "c"}, {"name": "N", "valueFrom": {}}],
            "args": ["$(B)", "$$(A)", "$(N)"]}]});
        let container = Pod { spec: &spec }.containers().next().expect("one");
        assert_eq!(container.args(), ["ab$(C)", "$(A)", "$(N)"]);
    }
}
