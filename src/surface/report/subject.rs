//! The recipe and the results that a report shows.

use indexmap::IndexMap;

use crate::{
    engine::{plan::Node, remote::Remote, store::Artifact},
    session::{
        log::{RunFile, Summary},
        sweep::Results,
    },
};

/// A recipe as far as it was run.
pub struct Subject<'a> {
    /// The recipe's file.
    pub recipe: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Its stages (of a sweep those of one cell), each after those it needs.
    pub stages: &'a IndexMap<String, Node>,
    /// What the store or the remote has of them.
    pub artifacts: &'a IndexMap<String, Artifact>,
    /// Where the files are that the store doesn't have.
    pub remote: Option<&'a Remote>,
    /// The last run of it that is logged, and what became of it.
    pub run: Option<(&'a RunFile, &'a Summary)>,
    /// The sweep's results and its objective, where there is a sweep.
    pub sweep: Option<(&'a Results, Option<(&'a str, bool)>)>,
    /// The sweep's cell whose stages are shown.
    pub cell: Option<usize>,
}
