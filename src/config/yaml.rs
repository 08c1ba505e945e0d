//! YAML: a text becomes a tree of nodes, each of which knows its position.
//!
//! [`super::clouds_yaml`] reads the tree, `check` the same as JSON. The syntax is
//! granit-parser's. A node gets its type only when it is read: `1e3` is a string in
//! clouds.yaml and a number in JSON, whose rules are those of Kubernetes' own reader.
//! Invariant: no error quotes the file.

mod json;
mod reader;

use std::collections::BTreeMap;

use super::location::Position;

pub(crate) use json::{
    parse as parse_json, parse_first as parse_first_json, parse_first_leniently,
};
pub(super) use reader::parse;

/// What is wrong with a YAML file. None of it quotes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum YamlProblem {
    /// Not YAML.
    #[error(
        "not valid YAML; indent with spaces, put strings with special characters into quotes, and \
         close every quote and bracket"
    )]
    Syntax,
    /// Not UTF-8.
    #[error("illegal UTF-8 encoding; save the file as UTF-8")]
    NotUtf8,
    /// A key twice in one mapping.
    #[error("a key occurs twice in one mapping; remove one of them")]
    DuplicateKey,
    /// More than one document.
    #[error("the file has several documents; keep one and remove the `---` between them")]
    SeveralDocuments,
    /// Another type than expected.
    #[error("a value of another type is expected here ({0})")]
    Shape(&'static str),
    /// Not a boolean.
    #[error("true or false is expected here, without quotes")]
    Boolean,
    /// Deeper, longer or more often referenced than any real file.
    #[error("the file is nested too deeply or expands to too much")]
    TooLarge,
}

/// What is wrong, and where.
pub(crate) type YamlError = (Position, YamlProblem);

/// A mapping. All keys that are read here are strings.
pub(super) type Mapping = BTreeMap<String, Node>;

/// A value with its position. The value of an alias has the position of the alias.
pub(super) struct Node {
    at: Position,
    content: Content,
}

enum Content {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

/// A scalar as it is written.
#[derive(Clone)]
struct Scalar {
    text: String,
    /// Without quotes, and not a block either.
    plain: bool,
    tag: Tag,
}

/// The type that a node is declared to have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    /// None, or an unknown one.
    None,
    /// `!`: a text if it is a scalar.
    Bare,
    Text,
    Null,
    Flag,
    Integer,
    Float,
    Merge,
    /// Dates and bytes: neither texts nor anything that JSON has.
    Foreign,
    Sequence,
    Mapping,
}

impl Node {
    /// Its position.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// The text of a scalar of whatever kind, as it is written; `None` for null.
    pub(super) fn into_text(self) -> Result<Option<(Position, String)>, YamlError> {
        if self.is_null() {
            return Ok(None);
        }
        match self.content {
            Content::Scalar(Scalar { text, tag, .. }) if tag.is_text() => Ok(Some((self.at, text))),
            Content::Scalar(_) => Err((self.at, TAGGED)),
            Content::Sequence(_) | Content::Mapping(_) => Err((self.at, NO_TEXT)),
        }
    }

    /// True or false, which must not be in quotes; `None` for null.
    pub(super) fn into_flag(self) -> Result<Option<(Position, bool)>, YamlError> {
        if self.is_null() {
            return Ok(None);
        }
        match self.content {
            Content::Scalar(scalar) if scalar.plain => match scalar.flag() {
                Some(flag) => Ok(Some((self.at, flag))),
                None => Err((self.at, YamlProblem::Boolean)),
            },
            Content::Scalar(_) => Err((self.at, YamlProblem::Boolean)),
            Content::Sequence(_) | Content::Mapping(_) => Err((self.at, NO_TEXT)),
        }
    }

    /// The entries of the node; `None` for null.
    pub(super) fn into_mapping(self) -> Result<Option<Mapping>, YamlError> {
        if self.is_null() {
            return Ok(None);
        }
        match self.content {
            Content::Mapping(mapping) => Ok(Some(mapping)),
            Content::Scalar(_) | Content::Sequence(_) => Err((self.at, NO_MAPPING)),
        }
    }

    fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.is_null())
    }
}

impl Scalar {
    fn is_null(&self) -> bool {
        let written = ["", "~", "null", "Null", "NULL"].contains(&self.text.as_str());
        match self.tag {
            Tag::Null => true,
            Tag::None | Tag::Merge => self.plain && written,
            _ => false,
        }
    }

    /// As YAML 1.1 has it and Go's readers of YAML do.
    fn flag(&self) -> Option<bool> {
        let is_one_of = |words: [&str; 4]| {
            let mut words = words.iter();
            words.any(|word| self.text.eq_ignore_ascii_case(word))
        };
        match self.tag {
            Tag::None | Tag::Merge | Tag::Flag if is_one_of(["true", "yes", "y", "on"]) => {
                Some(true)
            }
            Tag::None | Tag::Merge | Tag::Flag if is_one_of(["false", "no", "n", "off"]) => {
                Some(false)
            }
            _ => None,
        }
    }

    /// The key that merges the entries of other mappings.
    fn is_merge(&self) -> bool {
        self.text == "<<" && (self.tag == Tag::Merge || (self.tag == Tag::None && self.plain))
    }
}

impl Tag {
    fn is_text(self) -> bool {
        matches!(self, Self::None | Self::Bare | Self::Text | Self::Merge)
    }
}

const NO_MAPPING: YamlProblem = YamlProblem::Shape("a mapping, `key: value`");
const NO_TEXT: YamlProblem = YamlProblem::Shape("a string");
const TAGGED: YamlProblem = YamlProblem::Shape("a string without a tag such as `!!int`");

#[cfg(test)]
mod tests;
