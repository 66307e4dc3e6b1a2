//! YAML text → tree. One document, a mapping, of bounded size; every duplicate key is reported.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StrInput};

use super::diagnostic::Diagnostic;
use super::node::{Entry, Node, Value};
use super::place::{Span, Text};
use super::scalar;

/// The longest recipe, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// How many values a recipe may have once its aliases are filled in.
const MAX_NODES: usize = 50_000;
/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 64;

/// The tree of a text, or of the part of it from `offset` on; mistakes go to `problems`. None if there is no tree.
pub(super) fn parse(text: &Text, number: u32, offset: usize, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let body = &text.body()[offset..];
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        block_nesting_limit: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(body, options),
        body,
        number,
        offset,
        anchors: HashMap::new(),
        nodes: 0,
        problems,
    };
    match builder.document() {
        Ok(node) => node,
        Err(Stop::Reported) => None,
        Err(Stop::Syntax(error)) => {
            let problem = builder.syntax(&error, text);
            problems.push(problem);
            None
        }
    }
}

/// Why building ended early.
enum Stop {
    Reported,
    Syntax(ScanError),
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::Syntax(error)
    }
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    body: &'a str,
    number: u32,
    offset: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    problems: &'a mut Vec<Diagnostic>,
}

type Step<'a> = (Event<'a>, Span);

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<Step<'a>, Stop> {
        match self.parser.next_event() {
            Some(step) => {
                let (event, span) = step?;
                let bytes = span.byte_range().unwrap_or(0..0);
                Ok((event, Span::new(self.number, self.offset + bytes.start, self.offset + bytes.end)))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut tree = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(tree),
                Event::DocumentStart(..) if tree.is_some() => {
                    self.report(
                        Diagnostic::new("a second YAML document begins here")
                            .at(span)
                            .hint("a recipe is one document; take the `---` out".to_owned()),
                    );
                    return Ok(tree);
                }
                event if event.is_node() => tree = Some(self.node(event, span)?),
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Stop> {
        self.count(1, span)?;
        let anchor = event.anchor_id();
        if let Some(tag) = event.tag()
            && !matches!(tag.core_suffix(), Some("str" | "map" | "seq"))
        {
            let tag = tag.original();
            self.report(
                Diagnostic::new(format!("the tag `{tag}` has no meaning in a recipe"))
                    .at(span)
                    .hint("take it out".to_owned()),
            );
        }
        let node = match event {
            Event::Scalar(text, style, _, tag) => match style {
                ScalarStyle::Plain if tag.is_none_or(|tag| tag.core_suffix() != Some("str")) => {
                    // The parser has a `~` where nothing stands.
                    scalar::plain(span, if span.end > span.start { &text } else { "" })
                }
                _ => Node::new(span, Value::String(text.into_owned())),
            },
            Event::SequenceStart(..) => self.sequence(span)?,
            Event::MappingStart(..) => self.mapping(span)?,
            Event::Alias(id) => self.alias(id, span)?,
            _ => {
                let name = self.source(span).to_owned();
                self.report(
                    Diagnostic::new(format!("no anchor for the alias `{name}`"))
                        .at(span)
                        .hint(format!("a value must be marked with `&{}` further up", name.trim_start_matches('*'))),
                );
                Node::new(span, Value::Unknown)
            }
        };
        if let Some(id) = anchor {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Stop> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            self.report(Diagnostic::new("an alias stands inside the value that it stands for").at(span));
            return Ok(Node::new(span, Value::Unknown));
        };
        self.count(node.size(), span)?;
        Ok(Node { span, ..node })
    }

    /// Keeps aliases of aliases of aliases from filling the memory.
    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        self.report(
            Diagnostic::new(format!("more than {MAX_NODES} values"))
                .at(span)
                .label("when the aliases up to here are filled in")
                .hint("a recipe has some hundred; aliases that hold aliases multiply".to_owned()),
        );
        Err(Stop::Reported)
    }

    fn sequence(&mut self, start: Span) -> Result<Node, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let end = items.last().map_or(span, |item: &Node| if span.end > span.start { span } else { item.span });
                return Ok(Node::new(start.to(end), Value::Seq(items)));
            }
            items.push(self.node(event, span)?);
        }
    }

    fn mapping(&mut self, start: Span) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<String, Span> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut broken = false;
        loop {
            let (event, key_span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                let last = entries.last().map(|entry| entry.node.span.max(entry.key_span));
                let end = if key_span.end > key_span.start { key_span } else { last.unwrap_or(key_span) };
                for entry in merged {
                    if !places.contains_key(&entry.key) {
                        places.insert(entry.key.clone(), entry.key_span);
                        entries.push(entry);
                    }
                }
                let value = if broken { Value::Unknown } else { Value::Map(entries) };
                return Ok(Node::new(start.to(end), value));
            }
            let key = self.key(event, key_span)?;
            let (event, span) = self.next()?;
            let node = self.node(event, span)?;
            let Some(key) = key else {
                broken = true;
                continue;
            };
            if key == "<<" {
                self.merge(node, &mut merged);
                continue;
            }
            if let Some(first) = places.get(&key) {
                let problem = Diagnostic::new(format!("the key `{key}` is given twice"))
                    .at(key_span)
                    .label("and again here")
                    .also(*first, "first here")
                    .hint("keep one of the two".to_owned());
                self.report(problem);
                continue;
            }
            places.insert(key.clone(), key_span);
            entries.push(Entry { key, key_span, node });
        }
    }

    /// Keys are text, whatever they look like: `0: bad` labels a class.
    fn key(&mut self, event: Event<'a>, span: Span) -> Result<Option<String>, Stop> {
        if let Event::Scalar(text, ..) = event {
            self.count(1, span)?;
            return Ok(Some(text.into_owned()));
        }
        // The line from the brace before this one, if they are two.
        let before = (span.start as usize - self.offset).checked_sub(1);
        let line = before.and_then(|at| self.body.get(at..)?.lines().next()).filter(|line| line.starts_with("{{"));
        let whole = self.node(event, span)?.span;
        self.report(if let Some(line) = line {
            let close = line.find("}}").map_or(line.len(), |at| at + 2);
            let start = span.start as usize - 1;
            Diagnostic::new("an expression stands without quotes")
                .at(Span::new(self.number, start, start + close))
                .hint(format!("braces begin a mapping in YAML; write \"{}\"", &line[..close]))
        } else {
            Diagnostic::new("a key must be plain text, not a list or a mapping").at(whole)
        });
        Ok(None)
    }

    /// `<<: *defaults`, or a list of such: entries for the keys that the mapping doesn't have itself.
    fn merge(&mut self, node: Node, merged: &mut Vec<Entry>) {
        match node.value {
            Value::Map(entries) => merged.extend(entries),
            Value::Seq(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                items.into_iter().for_each(|item| self.merge(item, merged));
            }
            Value::Unknown => {}
            _ => self.report(
                Diagnostic::new("`<<` takes a mapping")
                    .at(node.span)
                    .hint("such as `<<: *defaults`, where `&defaults` marks a mapping".to_owned()),
            ),
        }
    }

    fn source(&self, span: Span) -> &'a str {
        self.body.get(span.start as usize - self.offset..span.end as usize - self.offset).unwrap_or_default()
    }

    /// A parser's error in the recipe's terms.
    fn syntax(&self, error: &ScanError, text: &Text) -> Diagnostic {
        let at = self.offset + error.marker().byte_offset().unwrap_or(self.body.len()).min(self.body.len());
        if let Some(problem) = tabs(text, at, self.number) {
            return problem;
        }
        let end =
            text.body()[at..].chars().next().map_or(at, |next| if next == '\n' { at } else { at + next.len_utf8() });
        let (message, hint) = match error.kind() {
            ErrorKind::RecursionLimitExceeded => (
                format!("lists and mappings nested more than {MAX_DEPTH} deep"),
                Some("a recipe needs about ten".to_owned()),
            ),
            ErrorKind::MappingValueNotAllowed | ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => (
                "a key or a `:` stands where none can be".to_owned(),
                Some(
                    "see whether the indentation is that of its neighbours, and put text with `: ` into quotes"
                        .to_owned(),
                ),
            ),
            ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => (
                "the indentation fits no key above".to_owned(),
                Some("give keys that belong together the same indentation".to_owned()),
            ),
            ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => (
                "text stands right behind a quote that closes".to_owned(),
                Some(
                    "a quote further up may not be closed, or one inside of the text must be doubled or escaped"
                        .to_owned(),
                ),
            ),
            ErrorKind::UnclosedQuotedScalar => ("a quote is not closed".to_owned(), None),
            ErrorKind::UnclosedFlowCollection { open } => (format!("`{open}` is not closed"), None),
            other => (format!("YAML syntax: {other}"), None),
        };
        Diagnostic::new(message).at(Span::new(self.number, at, end)).hint(hint)
    }
}

/// Where a line up to an error (or the one after it) is indented with a tab, that's what is wrong.
fn tabs(text: &Text, at: usize, number: u32) -> Option<Diagnostic> {
    let last = (text.place(at).0 + 1).min(text.line_count());
    let indented: Vec<usize> = (1..=text.line_count())
        .filter(|&line| {
            let line = &text.body()[text.line(line)];
            let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
            indent.contains('\t') && indent.len() < line.len()
        })
        .collect();
    let first = indented.iter().copied().find(|&line| line <= last)?;
    let range = text.line(first);
    let line = &text.body()[range.clone()];
    let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
    let more = match indented.len() - 1 {
        0 => String::new(),
        1 => "; so is 1 more line".to_owned(),
        more => format!("; so are {more} more lines"),
    };
    Some(
        Diagnostic::new(format!("the line is indented with a tab{more}"))
            .at(Span::new(number, range.start, range.start + indent))
            .hint("YAML takes spaces only: two for each level".to_owned()),
    )
}
