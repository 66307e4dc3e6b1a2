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

/// The objectives, with what each asks for.
pub const OBJECTIVES: [(&str, AttentionPattern); 6] = [
    ("masked_lm", AttentionPattern::Bidirectional),
    ("next_sentence", AttentionPattern::Bidirectional),
    ("sentence_order", AttentionPattern::Bidirectional),
    ("causal_lm", AttentionPattern::Causal),
    ("prefix_lm", AttentionPattern::Prefix),
    ("blank_infilling", AttentionPattern::Infilling),
];

impl AttentionPattern {
    /// All patterns.
    pub const ALL: &'static [Self] = &[Self::Bidirectional, Self::Causal, Self::Prefix, Self::Infilling];

    /// What the objective of this name asks for; `None` for names that aren't known.
    pub fn of_objective(name: &str) -> Option<Self> {
        OBJECTIVES.iter().find(|(objective, _)| *objective == name).map(|&(_, pattern)| pattern)
    }
}
