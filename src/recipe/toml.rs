//! TOML text → tree, for files of settings beside recipes: tables, keys with dots, texts, numbers, lists. What TOML has beyond
//! that (dates, lists of tables) stands in none of them, and is a mistake.

use super::{
    diagnostic::Diagnostic,
    node::{Entry, Node, Value},
    place::{Span, Text},
};

/// A key or a part of one, and its place.
type Key = (String, Span);

/// The tree of a text; mistakes go to `problems`, and the lines that have them are passed over.
pub(super) fn parse(text: &Text, problems: &mut Vec<Diagnostic>) -> Node {
    let mut parser = Parser { body: text.body(), at: 0 };
    let mut root = Node::new(Span::new(0, 0, 0), Value::Map(Vec::new()));
    let mut table: Vec<Key> = Vec::new();
    loop {
        parser.blank(true);
        if parser.rest().is_empty() {
            return root;
        }
        let added = if parser.rest().starts_with('[') {
            parser.header().and_then(|keys| {
                place(&mut root, &keys)?;
                table = keys;
                Ok(())
            })
        } else {
            parser.pair().and_then(|(mut keys, node)| {
                let Some((key, key_span)) = keys.pop() else { return Ok(()) };
                let at = [table.as_slice(), &keys].concat();
                let entries = place(&mut root, &at)?;
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    let problem = Diagnostic::new(format!("the key `{key}` is there twice")).at(key_span);
                    return Err(problem.also(first.key_span, "once").label("and again"));
                }
                entries.push(Entry { key, key_span, node });
                Ok(())
            })
        };
        if let Err(problem) = added.and_then(|()| parser.line_end()) {
            problems.push(problem);
            parser.skip_line();
        }
    }
}

/// The entries of the table of this name, which is made if it's not there.
fn place<'a>(root: &'a mut Node, keys: &[Key]) -> Result<&'a mut Vec<Entry>, Diagnostic> {
    let mut node = root;
    for (key, span) in keys {
        let Value::Map(entries) = &mut node.value else { return Err(no_table(keys)) };
        let index = match entries.iter().position(|entry| entry.key == *key) {
            Some(index) => index,
            None => {
                let node = Node::new(*span, Value::Map(Vec::new()));
                entries.push(Entry { key: key.clone(), key_span: *span, node });
                entries.len() - 1
            }
        };
        node = &mut entries[index].node;
    }
    match &mut node.value {
        Value::Map(entries) => Ok(entries),
        _ => Err(no_table(keys)),
    }
}

fn no_table(keys: &[Key]) -> Diagnostic {
    let name = keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(".");
    let problem = Diagnostic::new(format!("`{name}` is a value already, and can't be a table"));
    keys.last().map_or(problem.clone(), |(_, span)| problem.at(*span))
}

struct Parser<'a> {
    body: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.body[self.at..]
    }

    fn span(&self, start: usize) -> Span {
        Span::new(0, start, self.at)
    }

    /// Passes over spaces and comments, and over the ends of lines if so.
    fn blank(&mut self, lines: bool) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(|c: char| c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r'));
            self.at += rest.len() - trimmed.trim_start_matches('\u{feff}').len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn take(&mut self, what: &str) -> bool {
        let has = self.rest().starts_with(what);
        self.at += if has { what.len() } else { 0 };
        has
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').map_or(self.rest().len(), |end| end + 1);
    }

    fn line_end(&mut self) -> Result<(), Diagnostic> {
        self.blank(false);
        if self.rest().is_empty() || self.rest().starts_with(['\n', '\r']) {
            return Ok(());
        }
        Err(self.unexpected("the end of the line"))
    }

    fn unexpected(&self, wanted: &str) -> Diagnostic {
        let found = match self.rest().chars().next() {
            Some('\n' | '\r') | None => "the line ends".to_owned(),
            Some(found) => format!("`{found}` stands"),
        };
        let end = self.at + self.rest().chars().next().map_or(0, char::len_utf8);
        Diagnostic::new(format!("{found} where {wanted} belongs")).at(Span::new(0, self.at, end))
    }

    /// `[a.b]`
    fn header(&mut self) -> Result<Vec<Key>, Diagnostic> {
        self.take("[");
        if self.rest().starts_with('[') {
            return Err(self.unexpected("a table's name").hint("lists of tables have no meaning here".to_owned()));
        }
        let keys = self.keys()?;
        if self.take("]") { Ok(keys) } else { Err(self.unexpected("`]`")) }
    }

    /// `a.b = value`
    fn pair(&mut self) -> Result<(Vec<Key>, Node), Diagnostic> {
        let keys = self.keys()?;
        if !self.take("=") {
            return Err(self.unexpected("`=`"));
        }
        self.blank(false);
        Ok((keys, self.value()?))
    }

    fn keys(&mut self) -> Result<Vec<Key>, Diagnostic> {
        let mut keys = Vec::new();
        loop {
            self.blank(false);
            let start = self.at;
            let key = if self.rest().starts_with(['"', '\'']) {
                self.text()?
            } else {
                let is_bare = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
                let length = self.rest().find(|c| !is_bare(c)).unwrap_or(self.rest().len());
                if length == 0 {
                    return Err(self.unexpected("a key"));
                }
                self.at += length;
                self.body[start..self.at].to_owned()
            };
            keys.push((key, self.span(start)));
            self.blank(false);
            if !self.take(".") {
                return Ok(keys);
            }
        }
    }

    fn value(&mut self) -> Result<Node, Diagnostic> {
        let start = self.at;
        let value = match self.rest().chars().next() {
            Some('"' | '\'') => Value::String(self.text()?),
            Some('[') => {
                self.take("[");
                let mut items = Vec::new();
                loop {
                    self.blank(true);
                    if self.take("]") {
                        break;
                    }
                    items.push(self.value()?);
                    self.blank(true);
                    if !self.take(",") && !self.rest().starts_with(']') {
                        return Err(self.unexpected("`,` or `]`"));
                    }
                }
                Value::Seq(items)
            }
            Some('{') => {
                self.take("{");
                let mut table = Node::new(self.span(start), Value::Map(Vec::new()));
                loop {
                    self.blank(false);
                    if self.take("}") {
                        break;
                    }
                    let (mut keys, node) = self.pair()?;
                    if let Some((key, key_span)) = keys.pop() {
                        place(&mut table, &keys)?.push(Entry { key, key_span, node });
                    }
                    self.blank(false);
                    if !self.take(",") && !self.rest().starts_with('}') {
                        return Err(self.unexpected("`,` or `}`"));
                    }
                }
                table.value
            }
            _ => return self.word(),
        };
        Ok(Node::new(self.span(start), value))
    }

    /// A number or a truth value.
    fn word(&mut self) -> Result<Node, Diagnostic> {
        let start = self.at;
        let ends = |c: char| c.is_whitespace() || ",]}#".contains(c);
        self.at += self.rest().find(ends).unwrap_or(self.rest().len());
        let word = &self.body[start..self.at];
        let plain = word.replace('_', "");
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => match (plain.parse(), plain.parse::<f64>()) {
                (Ok(whole), _) => Value::Int(whole),
                (Err(_), Ok(number)) if number.is_finite() => Value::Float(number),
                _ => {
                    let problem = Diagnostic::new(format!("`{word}` is no value")).at(self.span(start));
                    self.at = start;
                    return Err(problem.hint(format!("texts stand in quotes: \"{word}\"")));
                }
            },
        };
        Ok(Node { written: Some(word.into()), ..Node::new(self.span(start), value) })
    }

    /// A text in quotes, of one line or of several.
    fn text(&mut self) -> Result<String, Diagnostic> {
        let start = self.at;
        let (quote, is_long, has_escapes) = match self.rest() {
            rest if rest.starts_with("\"\"\"") => ("\"\"\"", true, true),
            rest if rest.starts_with("'''") => ("'''", true, false),
            rest if rest.starts_with('"') => ("\"", false, true),
            _ => ("'", false, false),
        };
        self.take(quote);
        if is_long && !self.take("\r\n") {
            self.take("\n");
        }
        let mut text = String::new();
        while !self.take(quote) {
            match self.rest().chars().next() {
                None => break,
                Some('\n') if !is_long => break,
                Some('\\') if has_escapes => text.push(self.escape()?),
                Some(character) => {
                    text.push(character);
                    self.at += character.len_utf8();
                }
            }
        }
        if !self.body[..self.at].ends_with(quote) || self.at < start + 2 * quote.len() {
            return Err(Diagnostic::new("a text isn't closed").at(Span::new(0, start, start + quote.len())));
        }
        Ok(text)
    }

    fn escape(&mut self) -> Result<char, Diagnostic> {
        let start = self.at;
        self.take("\\");
        let letter = self.rest().chars().next();
        self.at += letter.map_or(0, char::len_utf8);
        let digits = match letter {
            Some('n') => return Ok('\n'),
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some(plain @ ('"' | '\\')) => return Ok(plain),
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let code = self.body.get(self.at..self.at + digits).filter(|code| !code.is_empty());
        self.at += code.map_or(0, str::len);
        let character = code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        character.ok_or_else(|| {
            let problem = Diagnostic::new("there is no such escape").at(self.span(start));
            problem.hint("a backslash is written \\\\, or the text in single quotes".to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn read(body: &str) -> (Json, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let node = parse(&Text::file("pipe.toml", body), &mut problems);
        (node.to_json(), problems)
    }

    #[test]
    fn tables_keys_and_values_are_read() {
        let (json, problems) = read(
            "# a file\n[a.b]\nx = 1 # one\ny.z = \"t\\n\\u00e9\" \n'q q' = [1.5, true,\n  'c:\\d', # a place\n]\n\n[a.\"c d\"]\n\
             long = \"\"\"\none\ntwo\"\"\"\nin = { k = 1_000, l.m = '' }\n[e]\n",
        );
        assert_eq!(problems, []);
        assert_eq!(
            json,
            json!({
                "a": {
                    "b": { "x": 1, "y": { "z": "t\né" }, "q q": [1.5, true, "c:\\d"] },
                    "c d": { "long": "one\ntwo", "in": { "k": 1000, "l": { "m": "" } } },
                },
                "e": {},
            })
        );
    }

    #[test]
    fn every_mistake_has_its_place_and_the_rest_is_read() {
        let (json, problems) =
            read("x = yes\nx = 1\nx = 2\ny 3\n[x]\n[a\nz = \"open\nw = \"\\q\"\n[[l]]\nv = 1 2\nlast = 3\n");
        assert_eq!(json["last"], 3);
        let said: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            said,
            [
                "`yes` is no value",
                "the key `x` is there twice",
                "`3` stands where `=` belongs",
                "`x` is a value already, and can't be a table",
                "the line ends where `]` belongs",
                "a text isn't closed",
                "there is no such escape",
                "`[` stands where a table's name belongs",
                "`2` stands where the end of the line belongs",
            ]
        );
        assert!(problems.iter().all(|problem| problem.span.is_some()));
    }
}
