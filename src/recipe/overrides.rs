//! What the command line changes in a recipe.

/// Other values than those in a recipe's file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--var NAME=VALUE`: other values for `vars`.
    pub vars: Vec<(String, String)>,
    /// `--set PATH=VALUE`: other values anywhere, by dotted path.
    pub sets: Vec<(String, String)>,
}
