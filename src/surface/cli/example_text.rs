//! A training example as text: what is known of it, and below that its tokens in lines, with what belongs to each under
//! it. Columns are as wide as their characters, of which Chinese ones take two.

use unicode_width::UnicodeWidthStr;

use super::console::count;
use crate::stages::{Cut, Judged, Shown, ShownTarget};

/// Characters of what was left out that are shown.
const REST: usize = 60;
/// Columns of the names on the left.
const NAMES: usize = 11;

/// Styles as terminals know them.
const BOLD: &str = "1";
const DIM: &str = "2";
const HIDDEN: &str = "33;1";
const REPLACED: &str = "31;1";
const TARGET: &str = "32";
const SECOND: &str = "36";

/// The example for a terminal of so many columns.
pub(super) fn text(shown: &Shown, colour: bool, width: usize) -> String {
    let page = Page { colour, width };
    let Shown { step, batch, example, objective, .. } = shown;
    let mut lines = vec![page.paint(&format!("{objective} · step {step}, batch {batch}, example {example}"), BOLD)];
    for (name, text) in facts(shown) {
        lines.extend(page.fact(&name, &text));
    }
    lines.extend(page.tokens(shown));
    lines.join("\n")
}

/// What is known of an example, in a few words each.
fn facts(shown: &Shown) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut tell = |name: &str, text: String| facts.push((name.to_owned(), text));
    if let Some(from) = from(shown) {
        tell("from", from);
    }
    if let Some(text) = &shown.text {
        tell("text", escaped(text));
    }
    shown.cut.iter().for_each(|cut| tell("cut off", left_out(cut)));
    if let Some(label) = &shown.label {
        tell("label", escaped(label));
    }
    shown.remarks.iter().for_each(|(name, text)| tell(name, text.clone()));
    if let Some(pair) = &shown.pair {
        tell("pair", judged(pair));
    }
    if let Some(class) = &shown.class {
        tell("class", judged(class));
    }
    tell("sees", sees(&shown.sees, shown.length));
    if let Some(learned) = learned(shown) {
        tell("loss", learned);
    }
    facts
}

/// Where an example comes from.
fn from(shown: &Shown) -> Option<String> {
    let mut parts: Vec<String> = shown.file.clone().into_iter().collect();
    parts.extend(shown.row.map(|row| format!("row {row}")));
    parts.extend(shown.document.map(|document| match shown.file {
        Some(_) => format!("document {document}"),
        None => format!("document {document} of the corpora"),
    }));
    parts.extend(shown.range.map(|range| match (range.start, range.end) {
        (0, end) if end == range.of => format!("all of its {}", count(range.of as usize, "token")),
        (start, end) => format!("tokens {start} to {} of {}", end.saturating_sub(1), range.of),
    }));
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn left_out(cut: &Cut) -> String {
    let Cut { part, kept, of, unit, place, rest } = cut;
    let rest = rest.as_ref().map(|rest| {
        let shown: String = rest.chars().take(REST).collect();
        let more = if shown.len() < rest.len() { "…" } else { "" };
        format!(", without “{}{more}”", escaped(&shown))
    });
    format!("{part}: {kept} of {of} {unit} kept, cut at {place}{}", rest.unwrap_or_default())
}

fn judged(judged: &Judged) -> String {
    let meaning = judged.meaning.as_ref().map(|meaning| format!(": {meaning}")).unwrap_or_default();
    format!("{}{meaning} (weight {})", judged.label, weight(judged.weight))
}

/// Which tokens each attends to.
fn sees(sees: &[u32], length: usize) -> String {
    let first = sees.first().map_or(0, |&first| first as usize);
    let follows = |prefix: usize| (1..).zip(sees).all(|(index, &end)| end as usize == prefix.max(index));
    match first {
        _ if !follows(first) => "differs, see below".to_owned(),
        _ if first >= length => format!("every token sees all {length}"),
        0 | 1 => format!("each of the {length} tokens sees itself and those before it"),
        _ => {
            format!("the first {first} of {length} tokens see each other, each of the rest itself and those before it")
        }
    }
}

/// What is predicted, and what it weighs.
fn learned(shown: &Shown) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(first) = shown.targets.first() {
        let kind = |name: &str| shown.targets.iter().filter(|target| target.shown_as.as_deref() == Some(name)).count();
        let kinds = [("mask", "masked"), ("other", "as another token"), ("same", "as they are")];
        let kinds = kinds.map(|(name, how)| (kind(name), how)).into_iter().filter(|(count, _)| *count > 0);
        let kinds: Vec<_> = kinds.map(|(count, how)| format!("{count} {how}")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        let targets = count(shown.targets.len(), "token");
        parts.push(format!("{targets} to predict{kinds}, of weight {}", weight(first.weight)));
    }
    if let Some(first) = shown.choices.first() {
        let all = shown.choices.iter().map(|choice| {
            let others: Vec<_> = choice.candidates.iter().map(|candidate| visible(&candidate.token)).collect();
            format!("{} of {} at {}", visible(&choice.gold.token), others.join(" "), choice.at)
        });
        parts.push(format!("choice {}, of weight {}", all.collect::<Vec<_>>().join(", then "), weight(first.weight)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// A share of the step's loss.
fn weight(weight: f32) -> String {
    match weight {
        0.0 => "0".to_owned(),
        weight if weight >= 0.001 => format!("{weight:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        weight => format!("{weight:.2e}"),
    }
}

/// Text on one line.
fn escaped(text: &str) -> String {
    text.replace("\r\n", "⏎").replace(['\n', '\r'], "⏎").replace('\t', "⇥")
}

/// A token whose white space is seen.
fn visible(token: &str) -> String {
    match token {
        "" => "∅".to_owned(),
        token => escaped(token).replace(' ', "␣"),
    }
}

/// A line of what belongs to each token.
struct Row {
    name: &'static str,
    /// Of each token, the text and its style.
    cells: Vec<(String, &'static str)>,
}

struct Page {
    colour: bool,
    width: usize,
}

impl Page {
    fn paint(&self, text: &str, style: &str) -> String {
        if self.colour && !style.is_empty() { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A name, and a text that goes on below itself.
    fn fact(&self, name: &str, text: &str) -> Vec<String> {
        let mut lines = vec![String::new()];
        let mut used = 0;
        for character in text.chars() {
            let wide = character.to_string().width();
            if used + wide > self.width.saturating_sub(NAMES).max(20) {
                lines.push(String::new());
                used = 0;
            }
            used += wide;
            if let Some(line) = lines.last_mut() {
                line.push(character);
            }
        }
        let name = |index: usize| if index == 0 { self.name(name) } else { " ".repeat(NAMES) };
        lines.iter().enumerate().map(|(index, line)| format!("{}{line}", name(index))).collect()
    }

    fn name(&self, name: &str) -> String {
        self.paint(&padded(&format!("  {name}"), NAMES), DIM)
    }

    /// The tokens, as many to a line as fit.
    fn tokens(&self, shown: &Shown) -> Vec<String> {
        let rows = rows(shown);
        let widths: Vec<usize> = (0..shown.tokens.len())
            .map(|at| rows.iter().map(|row| row.cells[at].0.width()).max().unwrap_or(0) + 1)
            .collect();
        let mut lines = Vec::new();
        let mut from = 0;
        while from < widths.len() {
            let mut used = NAMES;
            let fits = widths[from..].iter().take_while(|wide| {
                used += **wide;
                used <= self.width
            });
            let to = from + fits.count().max(1);
            let is_empty = |row: &&Row| row.cells[from..to].iter().all(|(text, _)| text.is_empty());
            for row in rows.iter().filter(|row| !is_empty(row)) {
                let cells = row.cells[from..to].iter().zip(&widths[from..to]);
                let cells: String = cells.map(|((text, style), wide)| self.cell(text, style, *wide)).collect();
                lines.push(format!("{}{}", self.name(row.name), cells.trim_end()));
            }
            if to < widths.len() && rows.len() > 1 {
                lines.push(String::new());
            }
            from = to;
        }
        if shown.tokens.len() < shown.length {
            lines.push(format!("{}and {} more", self.name(""), shown.length - shown.tokens.len()));
        }
        lines
    }

    fn cell(&self, text: &str, style: &str, wide: usize) -> String {
        let gap = " ".repeat(wide.saturating_sub(text.width()));
        if text.is_empty() { gap } else { self.paint(text, style) + &gap }
    }
}

fn padded(text: &str, wide: usize) -> String {
    format!("{text}{}", " ".repeat(wide.saturating_sub(text.width()).max(1)))
}

/// The lines of an example's tokens; those in which all would be the same or what one expects are left out.
fn rows(shown: &Shown) -> Vec<Row> {
    let numbers = |name, values: &[u32]| Row { name, cells: values.iter().map(|v| (v.to_string(), DIM)).collect() };
    let tokens = shown.tokens.iter().enumerate().map(|(at, token)| (visible(token), style(shown, at)));
    let mut rows = vec![Row { name: "token", cells: tokens.collect() }, numbers("id", &shown.ids)];
    let mut targets = vec![(String::new(), TARGET); shown.tokens.len()];
    for ShownTarget { at, token, .. } in &shown.targets {
        if let Some(cell) = targets.get_mut(*at) {
            cell.0 = visible(token);
        }
    }
    for choice in &shown.choices {
        if let Some(cell) = targets.get_mut(choice.at) {
            cell.0 = visible(&choice.gold.token);
        }
    }
    if targets.iter().any(|(text, _)| !text.is_empty()) {
        rows.push(Row { name: "target", cells: targets });
    }
    let are_zero = |values: &[u32]| values.iter().all(|&value| value == 0);
    if !are_zero(&shown.segments) {
        rows.push(numbers("segment", &shown.segments));
    }
    if (0..).zip(&shown.positions).any(|(at, &position)| at != position) {
        rows.push(numbers("position", &shown.positions));
    }
    if !are_zero(&shown.block_positions) {
        rows.push(numbers("block", &shown.block_positions));
    }
    if sees(&shown.sees, shown.length).starts_with("differs") {
        rows.push(numbers("sees", &shown.sees));
    }
    rows
}

/// The style of a token.
fn style(shown: &Shown, at: usize) -> &'static str {
    let target = shown.targets.iter().find(|target| target.at == at);
    match target.and_then(|target| target.shown_as.as_deref()) {
        Some("other") => REPLACED,
        Some("mask") => HIDDEN,
        _ if shown.segments.get(at).is_some_and(|&segment| segment > 0) => SECOND,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn masked() -> Shown {
        serde_json::from_value(json!({
            "step": 3, "batch": 1, "example": 2, "objective": "masked_lm+sentence_order", "file": "a.txt", "document": 7,
            "range": { "start": 0, "end": 4, "of": 9 }, "text": "春眠\n不觉", "length": 7,
            "tokens": ["[CLS]", "春", "[MASK]", "[SEP]", "不", " 的", "[SEP]"], "ids": [2, 100, 4, 3, 7, 99, 3],
            "positions": [0, 1, 2, 3, 4, 5, 6], "block_positions": [0, 0, 0, 0, 0, 0, 0],
            "segments": [0, 0, 0, 0, 1, 1, 1], "sees": [7, 7, 7, 7, 7, 7, 7],
            "targets": [
                { "at": 2, "id": 8, "token": "眠", "shown_as": "mask", "weight": 0.125 },
                { "at": 5, "id": 9, "token": "觉", "shown_as": "other", "weight": 0.125 },
            ],
            "pair": { "label": 1, "meaning": "A and B were exchanged", "weight": 0.5 },
        }))
        .unwrap()
    }

    #[test]
    fn what_belongs_to_a_token_stands_below_it() {
        let expected = "\
masked_lm+sentence_order · step 3, batch 1, example 2
  from     a.txt, document 7, tokens 0 to 3 of 9
  text     春眠⏎不觉
  pair     1: A and B were exchanged (weight 0.5)
  sees     every token sees all 7
  loss     2 tokens to predict (1 masked, 1 as another token), of weight 0.125
  token    [CLS] 春  [MASK] [SEP] 不 ␣的 [SEP]
  id       2     100 4      3     7  99  3
  target             眠              觉
  segment  0     0   0      0     1  1   1";
        assert_eq!(text(&masked(), false, 100), expected);
        let narrow = text(&masked(), false, 40);
        assert!(narrow.lines().all(|line| line.width() <= 40 || !line.starts_with("  token")), "{narrow}");
        assert_eq!(narrow.matches("  token ").count(), 2, "{narrow}");
    }

    #[test]
    fn colours_change_nothing_else() {
        let mut coloured = text(&masked(), true, 100);
        assert!(
            coloured.contains("\x1b[33;1m[MASK]\x1b[0m") && coloured.contains("\x1b[31;1m␣的\x1b[0m"),
            "{coloured}"
        );
        while let Some(start) = coloured.find('\x1b') {
            let end = start + coloured[start..].find('m').unwrap();
            coloured.replace_range(start..=end, "");
        }
        assert_eq!(coloured, text(&masked(), false, 100));
    }

    #[test]
    fn attention_is_told_in_words_where_it_has_some() {
        assert_eq!(sees(&[3, 3, 3], 3), "every token sees all 3");
        assert_eq!(sees(&[1, 2, 3], 3), "each of the 3 tokens sees itself and those before it");
        let prefix = "the first 2 of 4 tokens see each other, each of the rest itself and those before it";
        assert_eq!(sees(&[2, 2, 3, 4], 4), prefix);
        assert_eq!(sees(&[2, 3, 3], 3), "differs, see below");
    }

    #[test]
    fn what_was_cut_off_is_told_with_its_place() {
        let cut = Cut {
            part: "text".into(),
            kept: 20,
            of: 30,
            unit: "characters".into(),
            place: "the end".into(),
            rest: Some("余\n下".into()),
        };
        assert_eq!(left_out(&cut), "text: 20 of 30 characters kept, cut at the end, without “余⏎下”");
    }
}
