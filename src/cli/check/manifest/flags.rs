//! Command lines as kube-apiserver reads them (pflag): `_` for `-`, `--flag value`, and
//! the last of several flags.

/// A parsed command line.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Names with `-`, and the value; `None` if nothing follows.
    all: Vec<(String, Option<String>)>,
    /// Words that are neither flags nor their values.
    pub(super) stray: Vec<String>,
}

impl Flags {
    pub(super) fn read(words: &[String]) -> Self {
        let mut flags = Self::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").filter(|rest| !rest.is_empty()) else {
                flags.stray.push(word.clone());
                continue;
            };
            let (name, value) = if let Some((name, value)) = flag.split_once('=') {
                (name, Some(value.to_owned()))
            } else {
                let next = words.next_if(|next| !next.starts_with('-'));
                (flag, next.cloned())
            };
            flags.all.push((name.replace('_', "-"), value));
        }
        flags
    }

    /// Every value of a flag; `true` for a flag alone.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let mine = self.all.iter().filter(move |(one, _)| one == name);
        mine.map(|(_, value)| value.as_deref().unwrap_or("true"))
    }

    /// The last value is used.
    pub(super) fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).last()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Flags {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Flags::read(&words)
    }

    #[test]
    fn every_form_of_a_flag_is_read() {
        for (line, value) in [
            ("--a-b=1", Some("1")),
            ("--a_b=1", Some("1")),
            ("--a-b 1", Some("1")),
            ("--a-b=", Some("")),
            ("--a-b", Some("true")),
            ("--a-b --c", Some("true")),
            ("--a-b=1 --a_b 2", Some("2")),
            ("-a-b=1", None),
            ("--a-bc=1", None),
        ] {
            assert_eq!(read(line).value("a-b"), value, "{line}");
        }
        assert_eq!(read("--a=1 b -c").stray, ["b", "-c"]);
    }
}
