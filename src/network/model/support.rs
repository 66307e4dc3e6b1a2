//! What can be done with models of each family, out of what the families say of themselves.

use anyhow::Result;

use super::{
    attention_pattern::AttentionPattern, builder::Builder, families::FAMILIES, family::Family, shapes::ParameterShapes,
};

/// The columns of the support matrix after the family's name and its pretraining, in order.
pub const SUPPORT: [&str; 7] =
    ["finetune (prompt)", "finetune (linear head)", "instruct", "LoRA", "P-tuning", "generate", "chat"];

/// What can be done with a family's models: a row of the support matrix.
#[derive(Clone, Copy, Debug)]
pub struct Support {
    /// The family.
    pub family: &'static Family,
    /// What objectives may ask of its attention.
    pub pretrain: &'static [AttentionPattern],
    /// Classification by label words in a prompt.
    pub prompt: bool,
    /// Classification by a linear head.
    pub linear: bool,
    /// Finetuning on instructions.
    pub instruct: bool,
    /// Adapters of its linear layers.
    pub lora: bool,
    /// Prefixes of keys and values before its attention.
    pub p_tuning: bool,
    /// Generating text.
    pub generate: bool,
    /// Conversations.
    pub chat: bool,
}

impl Support {
    /// The row of a family.
    ///
    /// # Errors
    /// A family whose tiny model can't be put together.
    pub fn of(family: &'static Family) -> Result<Self> {
        let mut shapes = ParameterShapes::default();
        family.build_new(&family.tiny()?, 32, &mut Builder::outline(&mut shapes))?;
        Ok(Self {
            family,
            pretrain: family.attention,
            // Both read hidden states, which every family has.
            prompt: true,
            linear: true,
            instruct: family.chat.is_some(),
            lora: shapes.multiplied > 0,
            p_tuning: !shapes.keys.is_empty(),
            generate: family.form.generates(),
            chat: family.chat.is_some(),
        })
    }

    /// The cells that go with [`SUPPORT`].
    pub fn cells(&self) -> [bool; 7] {
        [self.prompt, self.linear, self.instruct, self.lora, self.p_tuning, self.generate, self.chat]
    }
}

/// The support matrix, a row for each family.
///
/// # Errors
/// Families whose tiny models can't be put together.
pub fn support() -> Result<Vec<Support>> {
    FAMILIES.all().into_iter().map(Support::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_follows_from_what_families_say() {
        let row = |name: &str| Support::of(FAMILIES.named(name).unwrap()).unwrap();
        assert_eq!(row("glm").cells(), [true; 7]);
        assert_eq!(row("bert").cells(), [true, true, false, true, true, false, false]);
        assert_eq!(row("transformer").cells(), [true, true, false, true, true, true, false]);
        assert_eq!(support().unwrap().len(), FAMILIES.all().len());
    }
}
