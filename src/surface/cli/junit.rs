//! The outcome of runs as JUnit's XML, the form in which CI systems take the results of tests: a suite for each recipe, with a
//! case for each stage, and one for each thing that's expected of its metrics.
//!
//! There is no standard; this is the part that Jenkins' schema and the readers of GitLab and GitHub have in common.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use indexmap::IndexMap;
use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};

use super::{console::redact, expectations::Expectations};
use crate::engine::executor::{Ending, Outcome};

/// What became of a recipe.
pub(super) struct Suite<'a> {
    pub(super) recipe: String,
    pub(super) outcomes: &'a IndexMap<String, Outcome>,
    pub(super) expectations: &'a Expectations<'a>,
}

/// One case.
struct Case {
    class: String,
    name: String,
    seconds: f64,
    /// File and line.
    place: Option<(String, usize)>,
    result: Option<(Kind, String)>,
}

/// How a case ended that didn't pass.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Failure,
    Error,
    Skipped,
}

impl Kind {
    fn tag(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// Writes the file.
///
/// # Errors
/// If it can't be written.
pub(super) fn write(path: &Path, suites: &[Suite<'_>]) -> Result<()> {
    let text = text(suites).context("failed to write JUnit's XML")?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}

fn text(suites: &[Suite<'_>]) -> Result<Vec<u8>> {
    let suites: Vec<(&str, Vec<Case>)> = suites.iter().map(|suite| (suite.recipe.as_str(), cases(suite))).collect();
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all: Vec<&Case> = suites.iter().flat_map(|(_, cases)| cases).collect();
    writer.write_event(Event::Start(counted("testsuites", "pipe", &all)))?;
    for (recipe, cases) in &suites {
        writer.write_event(Event::Start(counted("testsuite", recipe, &cases.iter().collect::<Vec<_>>())))?;
        for case in cases {
            write_case(&mut writer, case)?;
        }
        writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testsuites")))?;
    let mut text = writer.into_inner();
    text.push(b'\n');
    Ok(text)
}

fn cases(suite: &Suite<'_>) -> Vec<Case> {
    let stage = |(name, outcome): (&String, &Outcome)| {
        let error = outcome.error.as_deref().map(redact).unwrap_or_default();
        let result = match outcome.ending {
            Ending::Hit | Ending::Fetched | Ending::Ran => None,
            Ending::Failed => Some((Kind::Error, error)),
            Ending::Paused | Ending::NotRun | Ending::Stopped => Some((Kind::Skipped, error)),
        };
        Case { class: suite.recipe.clone(), name: name.clone(), seconds: outcome.seconds, place: None, result }
    };
    let expectations = suite.expectations.list().iter().map(|judged| {
        let kind = if judged.is_broken() { Kind::Failure } else { Kind::Skipped };
        Case {
            class: format!("{}.{}", suite.recipe, judged.judgement.stage),
            name: judged.expected(),
            seconds: 0.0,
            place: Some((suite.expectations.file(), suite.expectations.place(judged).0)),
            result: judged.told().map(|told| (kind, redact(&told))),
        }
    });
    suite.outcomes.iter().map(stage).chain(expectations).collect()
}

fn counted<'a>(tag: &'a str, name: &str, cases: &[&Case]) -> BytesStart<'a> {
    let number =
        |kind: Kind| cases.iter().filter(|case| case.result.as_ref().is_some_and(|(is, _)| *is == kind)).count();
    let seconds: f64 = cases.iter().map(|case| case.seconds).sum();
    let mut element = BytesStart::new(tag);
    element.push_attribute(("name", allowed(name).as_str()));
    element.push_attribute(("tests", cases.len().to_string().as_str()));
    element.push_attribute(("failures", number(Kind::Failure).to_string().as_str()));
    element.push_attribute(("errors", number(Kind::Error).to_string().as_str()));
    element.push_attribute(("skipped", number(Kind::Skipped).to_string().as_str()));
    element.push_attribute(("time", format!("{seconds:.3}").as_str()));
    element
}

fn write_case(writer: &mut Writer<Vec<u8>>, case: &Case) -> Result<()> {
    let mut element = BytesStart::new("testcase");
    element.push_attribute(("classname", allowed(&case.class).as_str()));
    element.push_attribute(("name", allowed(&case.name).as_str()));
    element.push_attribute(("time", format!("{:.3}", case.seconds).as_str()));
    if let Some((file, line)) = &case.place {
        element.push_attribute(("file", allowed(file).as_str()));
        element.push_attribute(("line", line.to_string().as_str()));
    }
    let Some((kind, message)) = &case.result else { return Ok(writer.write_event(Event::Empty(element))?) };
    writer.write_event(Event::Start(element))?;
    let mut result = BytesStart::new(kind.tag());
    let message = allowed(message);
    result.push_attribute(("message", message.lines().next().unwrap_or_default()));
    writer.write_event(Event::Start(result))?;
    writer.write_event(Event::Text(BytesText::new(&message)))?;
    writer.write_event(Event::End(BytesEnd::new(kind.tag())))?;
    Ok(writer.write_event(Event::End(BytesEnd::new("testcase")))?)
}

/// Without the characters that XML 1.0 can't have, escaped or not.
fn allowed(text: &str) -> String {
    let fits = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    text.chars().filter(fits).collect()
}
