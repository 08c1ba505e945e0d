//! What an access rule of an application credential allows, as keystonemiddleware evaluates it.
//!
//! Used by `session`, and by `check` for its words. Pure. Invariant: the answer is that of
//! keystonemiddleware's `_path_matches`, or [`RuleMatch::Unclear`]; `access_rules.rs` of the
//! tests holds it against that function.

/// One request that an application credential allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// The service's type.
    pub service: String,
    /// The HTTP method.
    pub method: String,
    /// The path, with `*`, `**` and `{name}` as wildcards.
    pub path: String,
}

/// Whether a rule matches a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleMatch {
    /// It matches.
    Yes,
    /// It does not match.
    No,
    /// The rule has a character that keystonemiddleware hands to Python as part of a
    /// regular expression, which nobody means.
    Unclear,
}

/// A piece of a rule's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    One(char),
    /// A dot is not escaped on its way into the regular expression.
    AnyOne,
    /// `*` and `{name}`: at least one character, and no slash.
    Segment,
    /// `**`.
    Rest,
}

impl AccessRule {
    /// Whether it allows this request.
    pub fn allows(&self, service: &str, method: &str, path: &str) -> RuleMatch {
        if self.service != service || self.method != method {
            return RuleMatch::No;
        }
        self.is_for(path)
    }

    /// Whether `path` is one that it names, whatever service and method are.
    pub fn is_for(&self, path: &str) -> RuleMatch {
        self.after(path, |states, pieces| states.contains(&pieces))
    }

    /// Whether it names any path that begins with `start`.
    pub fn reaches(&self, start: &str) -> RuleMatch {
        self.after(start, |states, _| !states.is_empty())
    }

    /// Walks along `path` through all readings of the rule at once, so that no rule takes
    /// longer than its length times that of the path.
    fn after(&self, path: &str, is_it: impl FnOnce(&[usize], usize) -> bool) -> RuleMatch {
        let Some(pieces) = pieces(&self.path) else {
            return RuleMatch::Unclear;
        };
        let mut states = with_skips(vec![0], &pieces);
        for letter in path.chars() {
            let mut next = Vec::new();
            for state in states {
                match pieces.get(state) {
                    Some(Piece::One(expected)) if *expected == letter => next.push(state + 1),
                    Some(Piece::AnyOne) if letter != '\n' => next.push(state + 1),
                    Some(Piece::Segment) if letter != '/' => next.extend([state, state + 1]),
                    Some(Piece::Rest) if letter != '\n' => next.push(state),
                    _ => {}
                }
            }
            states = with_skips(next, &pieces);
        }
        if is_it(&states, pieces.len()) {
            RuleMatch::Yes
        } else {
            RuleMatch::No
        }
    }
}

/// The states, and those that are reached by letting `**` stand for nothing.
fn with_skips(mut states: Vec<usize>, pieces: &[Piece]) -> Vec<usize> {
    let mut at = 0;
    while let Some(state) = states.get(at).copied() {
        if pieces.get(state) == Some(&Piece::Rest) {
            states.push(state + 1);
        }
        at += 1;
    }
    states.sort_unstable();
    states.dedup();
    states
}

/// The pieces of a rule's path; `None` where a regular expression would be needed.
fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        match first {
            '{' => {
                // Without its other half it is passed over, as is a `}` alone.
                if let Some(end) = rest.find('}') {
                    pieces.push(Piece::Segment);
                    taken = end + 1;
                }
            }
            '}' => {}
            '*' if rest.starts_with("**") => {
                pieces.push(Piece::Rest);
                taken = 2;
            }
            '*' => pieces.push(Piece::Segment),
            '.' => pieces.push(Piece::AnyOne),
            '\\' | '^' | '$' | '+' | '?' | '[' | ']' | '(' | ')' | '|' => return None,
            other => pieces.push(Piece::One(other)),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(pattern: &str, path: &str) -> RuleMatch {
        let rule = AccessRule {
            service: "key-manager".to_owned(),
            method: "GET".to_owned(),
            path: pattern.to_owned(),
        };
        rule.is_for(path)
    }

    #[test]
    fn a_wildcard_is_one_segment_and_two_are_any_rest() {
        let path = "/v1/secrets/x/payload";
        for (pattern, expected) in [
            ("/v1/secrets/x/payload", RuleMatch::Yes),
            ("/v1/secrets/*/payload", RuleMatch::Yes),
            ("/v1/secrets/{id}/payload", RuleMatch::Yes),
            ("/v1/**", RuleMatch::Yes),
            ("**", RuleMatch::Yes),
            ("/v1/secrets/**/payload", RuleMatch::Yes),
            ("/v1/secrets/x/payload**", RuleMatch::Yes),
            ("/v1/secrets/x/payload***", RuleMatch::No),
            ("/v1/secrets/*", RuleMatch::No),
            ("/v1/*", RuleMatch::No),
            ("/v1/secrets/x*/payload", RuleMatch::No),
            ("/v1/secrets/x/payload/", RuleMatch::No),
            ("/v1/secrets/KEY-ID/payload", RuleMatch::No),
            ("/key-manager/v1/secrets/*/payload", RuleMatch::No),
            ("/v1.secrets/x/payload", RuleMatch::Yes),
            ("/v1/secrets/}x{/payload", RuleMatch::Yes),
            ("/v1/secrets/x/payload?", RuleMatch::Unclear),
        ] {
            assert_eq!(fit(pattern, path), expected, "{pattern}");
        }
    }

    #[test]
    fn a_rule_reaches_whatever_its_wildcards_may_stand_for() {
        let reaches = |pattern: &str| {
            let rule = AccessRule {
                service: String::new(),
                method: String::new(),
                path: pattern.to_owned(),
            };
            rule.reaches("/km/v1/")
        };
        assert_eq!(reaches("/km/v1/orders"), RuleMatch::Yes);
        assert_eq!(reaches("/*/v1/secrets"), RuleMatch::Yes);
        assert_eq!(reaches("/v1/secrets/*"), RuleMatch::No);
    }

    #[test]
    fn a_rule_that_would_take_an_expression_for_ever_does_not() {
        let pattern = "**a".repeat(64);
        assert_eq!(fit(&pattern, &"a".repeat(4096)), RuleMatch::Yes);
        assert_eq!(fit(&pattern, &"b".repeat(4096)), RuleMatch::No);
    }
}
