//! Damaged files of every kind: refused or read, in bounded time, and without a
//! secret in what is said about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barbican_kms::config::{Content, Environment, FileError, load};
use proptest::prelude::*;

const SECRET: &str = "hunter2-s3cr3t";

const GCFG: &str = "[Global]\nauth-url=http://k/v3\nuser-id=u\npassword=\"hunter2-s3cr3t\"\n\
                    tenant-id=T\n[KeyManager]\nkey-id=b5309dfb-b326-4148-b0ad-e9cd1ec223a8\n";

const TOML: &str = "[Global]\nauth-url = \"http://k/v3\"\nuser-id = \"u\"\npassword = \
                    'hunter2-s3cr3t'\ntenant-id = \"T\"\n[KeyManager]\nkey-id = \
                    \"b5309dfb-b326-4148-b0ad-e9cd1ec223a8\"\ndecrypt-key-ids = []\n";

const CLOUDS: &str = "clouds:\n  one:\n    auth:\n      auth_url: http://k/v3\n      user_id: u\n      \
                      password: hunter2-s3cr3t\n      project_id: T\n    verify: true\n";

const USE_CLOUDS: &str =
    "[Global]\nuse-clouds\n[KeyManager]\nkey-id=b5309dfb-b326-4148-b0ad-e9cd1ec223a8\n";

/// Loads `name` out of files that exist in memory only, and returns all that is
/// said about it.
fn load_from(name: &str, files: &[(&str, &[u8])]) -> (bool, String) {
    let files: BTreeMap<PathBuf, &[u8]> = files
        .iter()
        .map(|(name, bytes)| (Path::new("/d").join(name), *bytes))
        .collect();
    let read = |path: &Path| {
        let bytes = files.get(path).ok_or(FileError::Missing)?.to_vec();
        Ok(Content { bytes, mode: 0o600 })
    };
    let environment = Environment {
        working_directory: PathBuf::from("/d"),
        ..Environment::default()
    };
    match load(Path::new(name), &environment, &read) {
        Ok(loaded) => (true, said(&loaded.warnings, &format!("{loaded:?}"))),
        Err(error) => (false, said(&error.warnings, &format!("{error} {error:?}"))),
    }
}

fn said(warnings: &[barbican_kms::config::Diagnostic], rest: &str) -> String {
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    format!("{warnings:?} {rest}")
}

/// One byte is inserted, removed or replaced.
fn damaged(text: &str, at: usize, with: u8, how: u8) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let at = at % bytes.len();
    match how % 3 {
        0 => bytes.insert(at, with),
        1 => drop(bytes.remove(at)),
        _ => bytes[at] = with,
    }
    bytes
}

fn check(name: &str, files: &[(&str, &[u8])]) {
    let (_, said) = load_from(name, files);
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn the_undamaged_files_are_read() {
    for (name, files) in [
        ("cloud.conf", vec![("cloud.conf", GCFG)]),
        ("cloud.toml", vec![("cloud.toml", TOML)]),
        (
            "cloud.conf",
            vec![("cloud.conf", USE_CLOUDS), ("clouds.yaml", CLOUDS)],
        ),
    ] {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (*name, text.as_bytes()))
            .collect();
        let (ok, said) = load_from(name, &files);
        assert!(ok && !said.contains(SECRET), "{said}");
    }
}

#[test]
fn both_dialects_give_the_same_configuration() {
    let [gcfg, toml] = [("cloud.conf", GCFG), ("cloud.toml", TOML)].map(|(name, text)| {
        let read = |_: &Path| {
            let bytes = text.as_bytes().to_vec();
            Ok(Content { bytes, mode: 0o600 })
        };
        load(Path::new(name), &Environment::default(), &read)
            .expect("valid")
            .live
    });
    assert_eq!(gcfg, toml);
}

#[test]
fn a_line_break_in_a_secret_does_not_bring_it_to_light() {
    let with = |text: &str| text.replace(SECRET, "aaa\nhunter2-s3cr3t");
    let unquoted = with(&GCFG.replace('"', ""));
    for text in [
        with(GCFG),
        unquoted.clone(),
        unquoted.replace("s3cr3t", "s3cr3t="),
    ] {
        check("cloud.conf", &[("cloud.conf", text.as_bytes())]);
    }
    check("cloud.toml", &[("cloud.toml", with(TOML).as_bytes())]);
    let yaml = with(CLOUDS);
    check(
        "cloud.conf",
        &[
            ("cloud.conf", USE_CLOUDS.as_bytes()),
            ("clouds.yaml", yaml.as_bytes()),
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_cloud_config_is_read_or_refused(at: usize, with: u8, how: u8) {
        let bytes = damaged(GCFG, at, with, how);
        check("cloud.conf", &[("cloud.conf", &bytes)]);
    }

    #[test]
    fn a_damaged_toml_file_is_read_or_refused(at: usize, with: u8, how: u8) {
        let bytes = damaged(TOML, at, with, how);
        check("cloud.toml", &[("cloud.toml", &bytes)]);
    }

    #[test]
    fn a_damaged_clouds_yaml_is_read_or_refused(at: usize, with: u8, how: u8) {
        let bytes = damaged(CLOUDS, at, with, how);
        check("cloud.conf", &[("cloud.conf", USE_CLOUDS.as_bytes()), ("clouds.yaml", &bytes)]);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        for name in ["cloud.conf", "cloud.toml"] {
            load_from(name, &[(name, &bytes)]);
        }
        load_from("cloud.conf", &[
            ("cloud.conf", USE_CLOUDS.as_bytes()),
            ("clouds.yaml", CLOUDS.as_bytes()),
            ("secure.yaml", &bytes),
        ]);
    }
}
