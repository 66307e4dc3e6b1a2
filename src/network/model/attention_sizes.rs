//! The sizes of attention heads, and the rules between them: said here for recipes and checkpoints alike.

use anyhow::{Result, ensure};

/// Sizes of a model's self-attention.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AttentionSizes {
    /// Width of the hidden states.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Dimensions of a head; `hidden / heads` where it's not given.
    pub head_size: Option<usize>,
    /// Whether rotary embeddings rotate half of each head, or both halves by positions of their own.
    pub rotary: bool,
}

/// A rule that sizes break.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Misfit {
    /// The setting to change, by its name in recipes.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl AttentionSizes {
    /// Multi-head attention as wide as the hidden states, without rotary embeddings.
    pub fn multi_head(hidden: usize, heads: usize) -> Self {
        Self { hidden, heads, kv_heads: heads, head_size: None, rotary: false }
    }

    /// Dimensions of a head.
    pub fn head_size(&self) -> usize {
        self.head_size.unwrap_or(self.hidden / self.heads.max(1))
    }

    /// The rules between sizes that are broken; that none is 0 is for whoever reads them to check.
    pub fn misfits(&self) -> Vec<Misfit> {
        let Self { hidden, heads, kv_heads, head_size, rotary } = *self;
        let mut misfits = Vec::new();
        if self.has_zero() {
            return misfits;
        }
        let size = self.head_size();
        if head_size.is_none() && !hidden.is_multiple_of(heads) {
            let message = format!("{heads} heads don't divide a hidden size of {hidden}");
            misfits.push(Misfit { field: "heads", message, hint: Some(format!("{} would", divisor(hidden, heads))) });
        } else if rotary && !size.is_multiple_of(4) {
            let field = if head_size.is_some() { "head_size" } else { "heads" };
            let message = format!("rotary embeddings need a head size divisible by 4, got {size}");
            misfits.push(Misfit { field, message, hint: None });
        }
        if !heads.is_multiple_of(kv_heads) {
            let message = format!("{kv_heads} kv heads don't divide {heads} query heads");
            let hint = Some(format!("`groups: {}` would", divisor(heads, kv_heads)));
            misfits.push(Misfit { field: "groups", message, hint });
        }
        misfits
    }

    fn has_zero(&self) -> bool {
        self.heads == 0 || self.kv_heads == 0 || self.head_size == Some(0)
    }

    /// # Errors
    /// A size of 0, or the first rule that is broken.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.has_zero(), "attention needs at least one head, of at least one dimension");
        let first = self.misfits().into_iter().next().map(|misfit| misfit.message);
        ensure!(first.is_none(), "{}", first.unwrap_or_default());
        Ok(())
    }
}

/// The divisor of `whole` that is nearest to `part`.
fn divisor(whole: usize, part: usize) -> usize {
    let divisors = (1..=whole).filter(|&count| whole.is_multiple_of(count));
    divisors.min_by_key(|count| count.abs_diff(part)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: AttentionSizes =
        AttentionSizes { hidden: 24, heads: 6, kv_heads: 3, head_size: Some(8), rotary: true };

    #[test]
    fn fitting_sizes_have_no_misfits() {
        assert_eq!(SIZES.misfits(), []);
        assert_eq!(AttentionSizes::multi_head(24, 4).misfits(), []);
        SIZES.check().unwrap();
    }

    #[test]
    fn each_rule_names_the_setting_and_what_would_fit() {
        let found = |sizes: AttentionSizes| {
            let misfits = sizes.misfits();
            assert_eq!(misfits.len(), 1, "{misfits:?}");
            (misfits[0].field, misfits[0].message.clone(), misfits[0].hint.clone().unwrap_or_default())
        };
        let (field, message, hint) = found(AttentionSizes { kv_heads: 4, ..SIZES });
        assert_eq!(
            (field, &message[..], &hint[..]),
            ("groups", "4 kv heads don't divide 6 query heads", "`groups: 3` would")
        );
        let (field, message, _) = found(AttentionSizes { head_size: Some(6), ..SIZES });
        assert_eq!((field, &message[..]), ("head_size", "rotary embeddings need a head size divisible by 4, got 6"));
        let (field, message, hint) = found(AttentionSizes::multi_head(20, 3));
        assert_eq!((field, &message[..], &hint[..]), ("heads", "3 heads don't divide a hidden size of 20", "2 would"));
        assert!(AttentionSizes { heads: 0, ..SIZES }.check().is_err());
    }
}
