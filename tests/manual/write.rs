//! Writes the man pages and shell completions into a directory: `scripts/package` packs
//! them. Not part of the binary.

use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("want the directory to write to"));
    };
    let pages = directory.join("man/man1");
    std::fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(barbican_kms::cli::command(), &pages)?;
    let completions = directory.join("completions");
    std::fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = barbican_kms::cli::command();
        clap_complete::generate_to(shell, &mut command, "barbican-kms", &completions)?;
    }
    Ok(())
}
