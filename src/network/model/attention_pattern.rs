//! What an objective asks of attention: the one thing that decides which families can learn it.

/// Which tokens of its sequence a token may attend to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttentionPattern {
    /// All of them (masked language modelling, sentence pairs).
    Bidirectional,
    /// Itself and those before it.
    Causal,
    /// All of the prefix, and of what follows it itself and those before it.
    Prefix,
    /// As [`Self::Prefix`], with GLM's second positions for what follows the prefix.
    Infilling,
}

impl AttentionPattern {
    /// All patterns.
    pub const ALL: &'static [Self] = &[Self::Bidirectional, Self::Causal, Self::Prefix, Self::Infilling];
}
