//! How similar two names are, to suggest the one that was probably meant.
//!
//! Used by `key` and by `check`. Pure.

/// The Levenshtein distance in characters. Names longer than 64 bytes are similar to
/// no other.
pub(crate) fn edit_distance(left: &str, right: &str) -> usize {
    const LONGEST_BYTES: usize = 64;
    if left.len().max(right.len()) > LONGEST_BYTES {
        return usize::MAX;
    }
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut previous = line + 1;
        if let Some(first) = row.first_mut() {
            *first = previous;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&right) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("encyrption", "encryption", 2),
            ("schl\u{fc}ssel", "schlussel", 1),
        ] {
            assert_eq!(edit_distance(left, right), expected, "{left} {right}");
            assert_eq!(edit_distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn a_long_name_is_similar_to_none() {
        assert_eq!(edit_distance(&"a".repeat(65), "a"), usize::MAX);
    }
}
