//! Rows to judge a classifier by that stand among those it learns from, or nearly.

use std::{collections::HashSet, path::PathBuf};

use anyhow::Result;

use crate::{
    learning::{
        metrics::{Leaks, near_duplicates},
        objectives::prompt::Template,
    },
    spec::Source,
    stages::parts::rows,
    support::text_hash,
};

/// Files of rows.
pub(super) type Files<'a> = (&'a Source, &'a [PathBuf]);

/// How many rows are leaked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Leaked {
    pub rows: usize,
    /// Those whose text is learned,
    pub same: usize,
    /// and others whose text is nearly so.
    pub near: usize,
}

/// Counts them by what a template takes from rows, as `eval` does.
///
/// # Errors
/// Rows that can't be read.
pub(super) fn count(template: &Template, learned: Files<'_>, judged: Files<'_>) -> Result<Leaked> {
    let columns: Vec<&str> = template.columns().iter().map(String::as_str).collect();
    let texts = |(source, files): Files<'_>| {
        rows::read(source, files, &columns, &[], |_, row| {
            Ok(template.values(&|column: &str| row.get(column).map(str::to_owned))?.text())
        })
    };
    let (learned, judged) = (texts(learned)?, texts(judged)?);
    let seen: HashSet<u64> = learned.iter().map(|text| text_hash(text)).collect();
    let [judged, learned] = [&judged, &learned].map(|texts| texts.iter().map(String::as_str).collect::<Vec<_>>());
    let near = near_duplicates(&judged, &learned);
    let leaks = Leaks::find(judged.iter().map(|text| (*text, 0)), &seen).with_near(&near);
    let near = leaks.near.iter().flatten().filter(|near| **near).count();
    Ok(Leaked { rows: judged.len(), same: leaks.count() as usize, near })
}

impl Leaked {
    /// What there is to say of them, if there are some.
    pub(super) fn message(self, stage: &str) -> Option<String> {
        let Self { rows, same, near } = self;
        let stand = |count: usize| if count == 1 { "stands" } else { "stand" };
        match (same, near) {
            (0, 0) => None,
            (same, 0) => Some(format!("{same} of {rows} rows {} among the training rows of `{stage}`", stand(same))),
            (0, near) => {
                Some(format!("{near} of {rows} rows {} nearly so among the training rows of `{stage}`", stand(near)))
            }
            (same, near) => Some(format!(
                "{same} of {rows} rows {} among the training rows of `{stage}`, and {near} more nearly so",
                stand(same)
            )),
        }
    }
}
