//! From the parser's events to the tree: aliases are replaced by their anchors' nodes,
//! merge keys by the entries that they merge.
//!
//! Everything is bounded, as an alias of a few bytes can expand to anything: a copy
//! costs as much as if it were written out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::{Content, Mapping, NO_MAPPING, NO_TEXT, Node, Scalar, Tag, YamlError, YamlProblem};
use crate::config::location::Position;

/// Reads a text of one document; an empty one is null. A `---` at its end begins another
/// empty one, which does no harm.
pub(in crate::config) fn parse(text: &str) -> Result<Node, YamlError> {
    let mut reading = Reading::new(text, Merging::Lenient);
    let document = reading.document()?;
    while let Some((at, event)) = reading.begin()? {
        let node = reading.node(at, event, 1)?;
        if !node.is_null() {
            return Err((at, YamlProblem::SeveralDocuments));
        }
    }
    Ok(document)
}

/// What a merge key may merge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Merging {
    /// Written entries win over merged ones, and of these the first. Null merges nothing.
    Lenient,
    /// Only new entries, from mappings and lists of mappings.
    Strict,
    /// As the lenient one; of a key that stands twice in one mapping, the last counts.
    Last,
}

/// A text of documents, one after the other.
pub(super) struct Reading<'a> {
    events: Parser<'a, StrInput<'a>>,
    merging: Merging,
    /// The anchors of completely read nodes: an alias below its own anchor finds nothing.
    anchors: BTreeMap<usize, Node>,
    budget: Budget,
    ended: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(text: &'a str, merging: Merging) -> Self {
        Self {
            events: Parser::new_from_str(text),
            merging,
            anchors: BTreeMap::new(),
            budget: Budget::default(),
            ended: false,
        }
    }

    /// The next document, which is null where the text ends.
    pub(super) fn document(&mut self) -> Result<Node, YamlError> {
        let next = self.next_document()?;
        Ok(next.unwrap_or_else(|| null(Position { line: 1, column: 1 })))
    }

    /// The next document, if there is one.
    pub(super) fn next_document(&mut self) -> Result<Option<Node>, YamlError> {
        let Some((at, event)) = self.begin()? else {
            return Ok(None);
        };
        let node = self.node(at, event, 1)?;
        match self.next()? {
            (_, Event::DocumentEnd) => Ok(Some(node)),
            (at, _) => Err((at, YamlProblem::Syntax)),
        }
    }

    /// Whether there is another document, right or wrong.
    pub(super) fn has_more(&mut self) -> bool {
        !matches!(self.begin(), Ok(None))
    }

    /// The first event of the next document, if there is one.
    fn begin(&mut self) -> Result<Option<(Position, Event<'a>)>, YamlError> {
        while !self.ended {
            match self.next()? {
                (_, Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd) => {}
                (_, Event::StreamEnd) => self.ended = true,
                first => return Ok(Some(first)),
            }
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<(Position, Event<'a>), YamlError> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((position(&span.start), event)),
            Some(Err(error)) => Err((position(error.marker()), YamlProblem::Syntax)),
            None => Err((Position { line: 1, column: 1 }, YamlProblem::Syntax)),
        }
    }

    /// Reads the rest of a node that has begun, `depth` collections deep if it is one.
    fn node(&mut self, at: Position, event: Event<'a>, depth: usize) -> Result<Node, YamlError> {
        let spend = |budget: &mut Budget, depth, text: &str| {
            let spent = budget.spend(depth, text.len());
            spent.map_err(|problem| (at, problem))
        };
        let (anchor, content) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                spend(&mut self.budget, 0, &text)?;
                let tag = read_tag(tag.as_deref());
                if matches!(tag, Tag::Sequence | Tag::Mapping) {
                    return Err((at, OTHER_TAG));
                }
                let scalar = Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                    tag,
                };
                (anchor, Content::Scalar(scalar))
            }
            Event::SequenceStart(_, anchor, tag) => {
                spend(&mut self.budget, depth, "")?;
                check_tag(tag.as_deref(), Tag::Sequence).map_err(|problem| (at, problem))?;
                (anchor, Content::Sequence(self.items(depth)?))
            }
            Event::MappingStart(_, anchor, tag) => {
                spend(&mut self.budget, depth, "")?;
                check_tag(tag.as_deref(), Tag::Mapping).map_err(|problem| (at, problem))?;
                (anchor, Content::Mapping(self.entries(depth)?))
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor);
                let node = node.ok_or((at, YamlProblem::TooLarge))?;
                let copy = self.budget.copy(node, Some(at), depth);
                return copy.map_err(|problem| (at, problem));
            }
            _ => return Err((at, YamlProblem::Syntax)),
        };
        let node = Node { at, content };
        if anchor != 0 {
            let copy = self.budget.copy(&node, None, depth);
            let copy = copy.map_err(|problem| (at, problem))?;
            self.anchors.insert(anchor, copy);
        }
        Ok(node)
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (_, Event::SequenceEnd) => return Ok(items),
                (at, event) => items.push(self.node(at, event, depth + 1)?),
            }
        }
    }

    /// The entries of a mapping. Those that are written win over those of merge keys, and
    /// of these the first.
    fn entries(&mut self, depth: usize) -> Result<Mapping, YamlError> {
        let mut entries = Mapping::new();
        let mut merged = Vec::new();
        loop {
            let (at, event) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(at, event, depth + 1)?;
            let (value_at, event) = self.next()?;
            let value = self.node(value_at, event, depth + 1)?;
            if matches!(&key.content, Content::Scalar(key) if key.is_merge()) {
                merge(value, self.merging, &mut merged)?;
                continue;
            }
            let (_, key) = key.into_text()?.ok_or((at, NO_TEXT))?;
            if entries.insert(key, value).is_some() && self.merging != Merging::Last {
                return Err((at, YamlProblem::DuplicateKey));
            }
        }
        for (key, value) in merged.into_iter().flatten() {
            match entries.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(_) if self.merging != Merging::Strict => {}
                Entry::Occupied(_) => return Err((value.at, YamlProblem::DuplicateKey)),
            }
        }
        Ok(entries)
    }
}

/// The value of a merge key: a mapping, or a list of them.
fn merge(value: Node, merging: Merging, merged: &mut Vec<Mapping>) -> Result<(), YamlError> {
    match value.content {
        Content::Mapping(mapping) => merged.push(mapping),
        Content::Sequence(items) => {
            for item in items {
                if merging == Merging::Strict && !matches!(item.content, Content::Mapping(_)) {
                    return Err((item.at, NO_MAPPING));
                }
                merge(item, merging, merged)?;
            }
        }
        Content::Scalar(scalar) if scalar.is_null() && merging == Merging::Lenient => {}
        Content::Scalar(_) => return Err((value.at, NO_MAPPING)),
    }
    Ok(())
}

/// How many nodes and bytes may still be created: far more than any real file needs, and
/// few enough for a small machine.
struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            nodes: MAX_NODES,
            bytes: MAX_BYTES,
        }
    }
}

impl Budget {
    /// Pays for one node.
    fn spend(&mut self, depth: usize, bytes: usize) -> Result<(), YamlProblem> {
        let left = (self.nodes.checked_sub(1), self.bytes.checked_sub(bytes));
        match left {
            (Some(nodes), Some(bytes)) if depth <= MAX_DEPTH => {
                *self = Self { nodes, bytes };
                Ok(())
            }
            _ => Err(YamlProblem::TooLarge),
        }
    }

    /// Copies a node and all below it, to stand at one place if that is given.
    fn copy(
        &mut self,
        node: &Node,
        at: Option<Position>,
        depth: usize,
    ) -> Result<Node, YamlProblem> {
        let content = match &node.content {
            Content::Scalar(scalar) => {
                self.spend(0, scalar.text.len())?;
                Content::Scalar(scalar.clone())
            }
            Content::Sequence(items) => {
                self.spend(depth, 0)?;
                let items = items.iter().map(|item| self.copy(item, at, depth + 1));
                Content::Sequence(items.collect::<Result<_, _>>()?)
            }
            Content::Mapping(entries) => {
                self.spend(depth, 0)?;
                let entries = entries.iter().map(|(key, value)| {
                    self.spend(0, key.len())?;
                    Ok((key.clone(), self.copy(value, at, depth + 1)?))
                });
                Content::Mapping(entries.collect::<Result<_, _>>()?)
            }
        };
        let at = at.unwrap_or(node.at);
        Ok(Node { at, content })
    }
}

fn null(at: Position) -> Node {
    let scalar = Scalar {
        text: String::new(),
        plain: true,
        tag: Tag::None,
    };
    let content = Content::Scalar(scalar);
    Node { at, content }
}

fn position(marker: &granit_parser::Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

/// The tag of a collection, which may be of that kind only.
fn check_tag(tag: Option<&granit_parser::Tag>, expected: Tag) -> Result<(), YamlProblem> {
    let tag = read_tag(tag);
    if tag == expected || matches!(tag, Tag::None | Tag::Bare) {
        Ok(())
    } else {
        Err(OTHER_TAG)
    }
}

/// `!!int`, or `!int`, which is a common mistake for it.
fn read_tag(tag: Option<&granit_parser::Tag>) -> Tag {
    let name = tag.and_then(|tag| {
        let standard = tag.suffix_in_namespace("tag:yaml.org,2002:");
        standard.or_else(|| tag.suffix_in_namespace("!"))
    });
    match name.as_deref() {
        Some("") => Tag::Bare,
        Some("str") => Tag::Text,
        Some("null") => Tag::Null,
        Some("bool") => Tag::Flag,
        Some("int") => Tag::Integer,
        Some("float") => Tag::Float,
        Some("merge") => Tag::Merge,
        Some("binary" | "timestamp") => Tag::Foreign,
        Some("seq") => Tag::Sequence,
        Some("map") => Tag::Mapping,
        _ => Tag::None,
    }
}

const OTHER_TAG: YamlProblem = YamlProblem::Shape("what its tag says");

const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 50_000;
const MAX_BYTES: usize = 4 << 20;
