//! The source files of the crate, and which of them uses which.
//!
//! An arrow leads from the file that names something to the file that defines it: a
//! name that a module only passes on (`pub use child::Name`) counts for the child. What
//! stands in `#[cfg(test)]` does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Item, UseTree, Visibility};

use crate::support::read_text;

/// A path within the crate, `keyring::snapshot::Snapshot` for instance.
pub(super) type Segments = Vec<String>;

/// One source file.
pub(super) struct Source {
    pub(super) text: String,
    /// What it names, as absolute paths.
    pub(super) named: BTreeSet<Segments>,
    /// Names that it passes on, and where they come from.
    passed_on: BTreeMap<String, Segments>,
}

/// Every source file but `lib.rs` and those of tests, by the name of its module.
pub(super) fn sources() -> BTreeMap<String, Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    let mut directories = vec![top.clone()];
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().expect("a directory") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&top)
                .expect("below it")
                .with_extension("");
            let name = name.to_string_lossy().replace('/', "::");
            // Files of tests belong to the module that they test.
            let of_tests = name.ends_with("::tests") || name.contains("::tests::");
            if name != "lib" && !of_tests {
                modules.insert(name, read_text(&path));
            }
        }
    }
    assert!(modules.len() > 10, "the sources were not found");
    let names: BTreeSet<String> = modules.keys().cloned().collect();
    let read = |(name, text): (String, String)| {
        let source = read(&name, text, &names);
        (name, source)
    };
    modules.into_iter().map(read).collect()
}

/// The arrows between files, by the names of their modules.
pub(super) fn arrows(sources: &BTreeMap<String, Source>) -> BTreeMap<String, BTreeSet<String>> {
    let mut arrows = BTreeMap::new();
    for (name, source) in sources {
        let targets = source
            .named
            .iter()
            .filter_map(|path| defined_in(path, sources));
        let others: BTreeSet<String> = targets.filter(|target| target != name).collect();
        arrows.insert(name.clone(), others);
    }
    arrows
}

/// The module whose file defines what `path` names.
fn defined_in(path: &[String], sources: &BTreeMap<String, Source>) -> Option<String> {
    for length in (1..=path.len()).rev() {
        let Some(source) = sources.get(&path[..length].join("::")) else {
            continue;
        };
        let passed_on = path.get(length).and_then(|name| source.passed_on.get(name));
        if let Some(origin) = passed_on {
            let mut origin = origin.clone();
            origin.extend_from_slice(&path[length + 1..]);
            return defined_in(&origin, sources);
        }
        return Some(path[..length].join("::"));
    }
    None
}

fn read(module: &str, text: String, modules: &BTreeSet<String>) -> Source {
    let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{module}: {error}"));
    let mut names = Names {
        module: module.split("::").map(str::to_owned).collect(),
        modules,
        named: BTreeSet::new(),
        imported: BTreeMap::new(),
        passed_on: BTreeMap::new(),
        words: BTreeSet::new(),
    };
    names.visit_file(&file);
    let Names {
        mut named,
        imported,
        passed_on,
        words,
        ..
    } = names;
    named.extend(imported.into_values());
    // What is passed on and used here as well is an arrow of this file too.
    let used_too = passed_on.iter().filter(|(name, _)| words.contains(*name));
    named.extend(used_too.map(|(_, origin)| origin.clone()));
    Source {
        text,
        named,
        passed_on,
    }
}

struct Names<'a> {
    module: Segments,
    modules: &'a BTreeSet<String>,
    named: BTreeSet<Segments>,
    imported: BTreeMap<String, Segments>,
    passed_on: BTreeMap<String, Segments>,
    /// The first segments of all paths outside `use`.
    words: BTreeSet<String>,
}

impl Names<'_> {
    /// The absolute path of what `path` names here, if it is of this crate.
    fn absolute(&self, path: &[String]) -> Option<Segments> {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            child => {
                let mut of_child = self.module.clone();
                of_child.push(child.to_owned());
                if !self.modules.contains(&of_child.join("::")) {
                    return None;
                }
                of_child
            }
        };
        for segment in path {
            match segment.as_str() {
                "super" => {
                    base.pop()?;
                }
                "crate" | "self" => {}
                other
                    if path.first().is_some_and(|first| first == other)
                        && base.last() == Some(&other.to_owned()) => {}
                other => base.push(other.to_owned()),
            }
        }
        Some(base)
    }

    fn import(&mut self, tree: &UseTree, before: &[String], passes_on: bool) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(name.to_string());
            path
        };
        let (path, name) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident), passes_on),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before, passes_on);
                }
                return;
            }
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned().unwrap_or_default())
            }
            UseTree::Name(name) => (with(&name.ident), name.ident.to_string()),
            UseTree::Rename(rename) => (with(&rename.ident), rename.rename.to_string()),
            UseTree::Glob(_) => (before.to_vec(), "*".to_owned()),
        };
        let Some(path) = self.absolute(&path) else {
            return;
        };
        if passes_on {
            self.passed_on.insert(name, path);
        } else {
            self.imported.insert(name, path);
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if attributes.iter().any(is_for_tests) {
            return;
        }
        if let Item::Use(item) = item {
            let passes_on = !matches!(item.vis, Visibility::Inherited);
            self.import(&item.tree, &[], passes_on);
            return;
        }
        syn::visit::visit_item(self, item);
    }

    /// `pub(in crate::a)` names nothing that is used.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Segments = path
            .segments
            .iter()
            .map(|one| one.ident.to_string())
            .collect();
        self.words.extend(segments.first().cloned());
        if path.leading_colon.is_none() && segments.len() > 1 {
            self.named.extend(self.absolute(&segments));
        }
        syn::visit::visit_path(self, path);
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|condition| condition.is_ident("test"))
}
