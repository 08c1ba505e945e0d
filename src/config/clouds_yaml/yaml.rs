//! The YAML parser: its bounds, and its errors without what they quote.

use serde::Deserialize;
use serde_saphyr::budget::Budget;
use serde_saphyr::{Error, Location, NonFiniteFloatPolicy};

use super::YamlProblem;
use crate::config::place::Position;

/// Reads a text of one document.
pub(crate) fn parse<'de, T: Deserialize<'de>>(
    text: &'de str,
) -> Result<T, (Position, YamlProblem)> {
    let options = serde_saphyr::options! {
        budget: budget(),
        // Somebody else's key may be infinite.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(&error))
}

/// Where the parser saw something.
pub(super) fn position(location: Location) -> Position {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Position {
        line: number(location.line()),
        column: number(location.column()),
    }
}

/// Far more than any real clouds.yaml, and little enough for a small machine.
fn budget() -> Option<Budget> {
    serde_saphyr::budget! {
        max_depth: 32,
        max_nodes: 50_000,
        max_events: 100_000,
        max_aliases: 1_000,
        max_anchors: 1_000,
        max_merge_keys: 1_000,
        max_total_scalar_bytes: 4 << 20,
        max_documents: 2,
    }
}

/// The parser's errors without their texts, which may quote the file.
fn explain(error: &Error) -> (Position, YamlProblem) {
    let error = error.without_snippet();
    let at = error
        .location()
        .map_or(Position { line: 1, column: 1 }, |at| {
            let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            Position {
                line: number(at.line()),
                column: number(at.column()),
            }
        });
    (at, problem(error))
}

fn problem(error: &Error) -> YamlProblem {
    match error {
        Error::AliasError { error, .. } => problem(error),
        Error::DuplicateMappingKey { .. } => YamlProblem::DuplicateKey,
        Error::MultipleDocuments { .. } => YamlProblem::SeveralDocuments,
        Error::Unexpected { expected, .. } => YamlProblem::Shape(expected),
        Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            YamlProblem::Shape("a text without a tag such as `!!int`")
        }
        Error::InvalidScalar { .. } | Error::InvalidBooleanStrict { .. } => YamlProblem::Boolean,
        Error::InvalidUtf8Input => YamlProblem::NotUtf8,
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::RecursiveReferencesRequireWeakTypes { .. } => YamlProblem::TooLarge,
        _ => YamlProblem::Syntax,
    }
}
