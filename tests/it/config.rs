//! The configuration as a whole: files in, `Live` out, through the front door.

mod clouds;
mod container;
mod files;
mod hostile;
mod identity;
mod refusals;
mod vectors;

use std::path::{Path, PathBuf};

use barbican_kms::config::{Environment, LoadError, Loaded, load};

const KEY_ID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

/// A directory with configuration files, which is also the working directory.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("created");
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
        path
    }

    fn environment(&self) -> Environment {
        Environment {
            // Not where the files are: the home directory is searched too.
            home: Some(self.path().join("home")),
            working_directory: self.path().to_owned(),
            ..Environment::default()
        }
    }

    fn load(&self, name: &str) -> Result<Loaded, LoadError> {
        load_in(name, &self.environment())
    }

    /// Loads a cloud.conf with these contents.
    fn load_text(&self, text: &str) -> Result<Loaded, LoadError> {
        self.write("cloud.conf", text);
        self.load("cloud.conf")
    }

    /// The error's text, without the directory.
    fn refusal(&self, text: &str) -> String {
        let error = self.load_text(text).expect_err(text);
        self.relative(&error.to_string())
    }

    /// The warnings' texts, without the directory.
    fn warnings(&self, text: &str) -> Vec<String> {
        let loaded = self.load_text(text).expect(text);
        let texts = loaded.warnings.iter();
        texts.map(|text| self.relative(&text.to_string())).collect()
    }

    fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.path().display()), "")
    }
}

/// Loads a file of the environment's working directory.
fn load_in(name: &str, environment: &Environment) -> Result<Loaded, LoadError> {
    let read = barbican_kms::config::files::read;
    load(Path::new(name), environment, &read)
}

/// A cloud.conf that logs in by user id, with more lines in each section.
fn conf(global: &str, key_manager: &str) -> String {
    format!(
        "[Global]\nauth-url=http://keystone/v3\nuser-id=uid\npassword=hunter2\ntenant-id=T\n\
         {global}\n[KeyManager]\nkey-id={KEY_ID}\n{key_manager}\n"
    )
}
