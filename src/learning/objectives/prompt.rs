//! The prompt's template: rendered for a row, cut at the marker, and shortened to fit.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use minijinja::{Environment, UndefinedBehavior, Value};

use super::control;

/// Where the answer goes.
pub const MARKER: &str = "[Classification]";

/// Stands for the marker while the template is rendered: a code point that is never a character, so that a row whose
/// text happens to hold the marker's words can't be mistaken for it.
const PLACE: char = '\u{FDD0}';

/// More than any prompt needs, so that a template's endless loop ends.
const FUEL: u64 = 1_000_000;

const NAME: &str = "template";

/// Looks up a row's column by its name.
pub type ColumnLookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    /// The columns that it may look up, in the order of their first mention.
    columns: Vec<String>,
    /// The special tokens that it names.
    controls: Vec<&'static str>,
    /// Whether special tokens may stand in it.
    has_controls: bool,
    /// Whether it names columns as those of [`ROW`].
    has_row: bool,
}

/// The whole row, for columns that are called as a special token is: `{{ row.sep }}`.
const ROW: &str = "row";

/// Whether special tokens may stand in a template; not if it's wrong.
pub fn has_controls(source: &str) -> bool {
    Template::new(source).is_ok_and(|template| template.has_controls())
}

/// A row's values for the template's columns.
#[derive(Clone, Debug)]
pub struct ColumnValues(Vec<(String, String)>);

/// A rendered prompt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rendered {
    /// The text, or what comes before the marker.
    pub before: String,
    /// What comes after the marker, where there is one.
    pub after: Option<String>,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// Where its syntax is wrong, or it mentions the marker twice.
    pub fn new(source: &str) -> Result<Self> {
        ensure!(source.matches(MARKER).count() <= 1, "the template has the marker {MARKER} more than once");
        let source = source.replace(MARKER, &PLACE.to_string());
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        control::prepare(&mut environment, &source);
        environment.add_template_owned(NAME, source.clone()).map_err(explain).context("the template is wrong")?;
        let template = environment.get_template(NAME).map_err(explain)?;
        let is_function = |name: &str| environment.globals().any(|(global, _)| global == name);
        let mut columns: Vec<String> =
            template.undeclared_variables(false).into_iter().filter(|name| !is_function(name)).collect();
        let controls = control::NAMES.map(|(name, _)| name);
        let controls: Vec<_> = controls.into_iter().filter(|name| columns.iter().any(|used| used == name)).collect();
        columns.retain(|name| !controls.contains(&name.as_str()));
        let paths = template.undeclared_variables(true);
        let of_row = |path: &String| path.strip_prefix(ROW)?.strip_prefix('.')?.split('.').next().map(str::to_owned);
        let named: Vec<String> = paths.iter().filter_map(of_row).collect();
        let has_row = !named.is_empty() && !paths.contains(ROW);
        if has_row {
            columns.retain(|name| name != ROW);
            columns.extend(named);
            columns.sort();
            columns.dedup();
        }
        columns.sort_by_cached_key(|column| (mention(&source, column), column.clone()));
        let has_controls = !controls.is_empty() || control::calls_function(&source);
        Ok(Self { environment, columns, controls, has_controls, has_row })
    }

    /// The special tokens that it names, as [`control::NAMES`] has them.
    pub fn controls(&self) -> &[&'static str] {
        &self.controls
    }

    /// Whether special tokens may stand in it.
    pub fn has_controls(&self) -> bool {
        self.has_controls
    }

    /// Whether the template's text has the marker.
    pub fn has_marker(&self) -> bool {
        self.environment.get_template(NAME).is_ok_and(|template| template.source().contains(PLACE))
    }

    /// The columns that it may look up, in the order of their first mention.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// What a row has in the columns that the template uses.
    ///
    /// # Errors
    ///
    /// Where it lacks one.
    pub fn values(&self, row: &ColumnLookup<'_>) -> Result<ColumnValues> {
        let value = |column: &String| {
            let missing = || format!("the template uses the column `{column}`, which the data doesn't have");
            let value = row(column).with_context(missing)?.replace(PLACE, "");
            Ok((column.clone(), if self.has_controls { control::without_marks(&value) } else { value }))
        };
        self.columns.iter().map(value).collect::<Result<_>>().map(ColumnValues)
    }

    /// Fills in the values, each cut after this many characters.
    ///
    /// # Errors
    ///
    /// Where the template fails on them, or repeats the marker.
    pub fn render(&self, values: &ColumnValues, most: usize) -> Result<Rendered> {
        let mut context: BTreeMap<&str, Value> =
            values.0.iter().map(|(column, value)| (column.as_str(), cut(value, most).into())).collect();
        if self.has_row {
            let row = Value::from_pairs(context.iter().map(|(column, value)| (*column, value.clone())));
            context.insert(ROW, row);
        }
        context.extend(self.controls.iter().map(|name| (*name, control::placeholder(name).into())));
        let template = self.environment.get_template(NAME).map_err(explain)?;
        let text = template.render(Value::from_pairs(context)).map_err(explain);
        let text = text.context("failed to fill in the template")?;
        let mut parts = text.split(PLACE).map(str::to_owned);
        let rendered = Rendered { before: parts.next().unwrap_or_default(), after: parts.next() };
        ensure!(parts.next().is_none(), "the filled-in template has the marker {MARKER} more than once");
        Ok(rendered)
    }

    /// Fills in the values, shortened where the encoded prompt would have more than `room` tokens: the longest first,
    /// each from its end. The template's own words stay.
    ///
    /// # Errors
    ///
    /// Where the template's own words already need more, or as [`Self::render`] and `encode`.
    pub fn fit(
        &self,
        values: &ColumnValues,
        room: usize,
        encode: &dyn Fn(&Rendered) -> Result<Encoded>,
    ) -> Result<Fitted> {
        let at = |most: usize| encode(&self.render(values, most)?);
        let mut high = values.0.iter().map(|(_, value)| value.chars().count()).max().unwrap_or(0);
        let whole = at(high)?;
        if whole.length() <= room {
            return Ok(Fitted { encoded: whole, most: high });
        }
        let mut best = at(0)?;
        let least = best.length();
        ensure!(least <= room, "the template's own words take {least} tokens, but max_length leaves room for {room}");

        // The number of tokens rises with the characters, nearly in a straight line: guess by that line, and halve
        // where a few guesses don't find the end.
        let mut low = 0;
        let mut too_many = whole.length();
        for attempt in 0.. {
            if high - low <= 1 || best.length() == room {
                break;
            }
            let share = if attempt < 4 {
                (high - low) * (room - best.length()) / (too_many - best.length())
            } else {
                (high - low) / 2
            };
            let guess = (low + share).clamp(low + 1, high - 1);
            let encoded = at(guess)?;
            if encoded.length() <= room {
                (low, best) = (guess, encoded);
            } else {
                (high, too_many) = (guess, encoded.length());
            }
        }
        Ok(Fitted { encoded: Encoded { cut: true, ..best }, most: low })
    }
}

impl ColumnValues {
    /// The values joined by a tab: the row's text, as it's compared with other rows.
    pub fn text(&self) -> String {
        self.0.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join("\t")
    }

    /// The columns whose values have more characters than this, each with what comes after these.
    pub fn beyond(&self, most: usize) -> impl Iterator<Item = (&str, &str)> {
        let values = self.0.iter().map(move |(column, value)| (column.as_str(), &value[cut(value, most).len()..]));
        values.filter(|(_, rest)| !rest.is_empty())
    }
}

/// A prompt that fits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fitted {
    /// Its tokens.
    pub encoded: Encoded,
    /// Characters that it has of each value at most.
    pub most: usize,
}

/// A prompt's tokens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Encoded {
    /// Before the marker.
    pub before: Vec<u32>,
    /// After the marker.
    pub after: Vec<u32>,
    /// How many of all these belong to the first segment, where there is a second one: those up to the first `{{ sep }}`,
    /// itself included.
    pub first_segment: Option<usize>,
    /// Whether the row's values were shortened.
    pub cut: bool,
}

impl Encoded {
    fn length(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

/// Where a template first has a name as a whole word.
fn mention(source: &str, name: &str) -> Option<usize> {
    let in_word = |next: Option<char>| next.is_some_and(|next| next.is_alphanumeric() || next == '_');
    let whole = |&at: &usize| {
        let (before, after) = (&source[..at], &source[at + name.len()..]);
        !in_word(before.chars().next_back()) && !in_word(after.chars().next())
    };
    source.match_indices(name).map(|(at, _)| at).find(whole)
}

fn cut(value: &str, most: usize) -> &str {
    value.char_indices().nth(most).map_or(value, |(end, _)| &value[..end])
}

/// The template engine's message with its line, which it gives as a source of its own.
fn explain(error: minijinja::Error) -> anyhow::Error {
    anyhow!("{error}")
}
