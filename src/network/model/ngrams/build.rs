//! The parameters of n-grams.

use anyhow::Result;

use super::{NgramSettings, Ngrams, PREFIX};
use crate::network::model::{architecture::Sizes, builder::Builder, ids::WeightRole, initial::Initial};

impl Ngrams {
    /// Adds the parameters.
    ///
    /// # Errors
    /// Settings of which no table can be made.
    pub(in crate::network::model) fn new(
        builder: &mut Builder,
        settings: &NgramSettings,
        sizes: &Sizes,
    ) -> Result<Self> {
        settings.check()?;
        let NgramSettings { buckets, width, .. } = *settings;
        let table = builder.sparse_table(format!("{PREFIX}table"), [buckets, width], Initial::Zeros);
        // Rows are added as if they were as wide as the stream and each of their elements went to a few of its places.
        let projection = Initial::Normal((width as f64).sqrt().recip());
        let projection = builder.in_role(WeightRole::Linear, |builder| {
            builder.matrix(format!("{PREFIX}projection"), [sizes.hidden, width], projection)
        });
        Ok(Self { settings: settings.clone(), table, projection })
    }
}
