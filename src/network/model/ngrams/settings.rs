//! What a recipe says of a model's n-grams.

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest n-gram.
const LONGEST: usize = 8;

/// Embeddings of hashed n-grams of tokens, added to those of the tokens
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "Ngrams")]
#[serde(deny_unknown_fields, default)]
pub struct NgramSettings {
    /// How many tokens the n-grams have, each from 2 to 8
    #[schemars(length(min = 1), inner(range(min = 2, max = 8)))]
    pub orders: Vec<usize>,
    /// Rows of the table that they share, by a hash
    #[schemars(range(min = 2, max = 16_777_216))]
    pub buckets: usize,
    /// Width of a row; a matrix brings it to `hidden`
    #[schemars(range(min = 1))]
    pub width: usize,
}

impl Default for NgramSettings {
    fn default() -> Self {
        Self { orders: vec![2, 3], buckets: 65_536, width: 32 }
    }
}

impl NgramSettings {
    /// Those of the model that a `config.json` describes.
    ///
    /// # Errors
    /// Settings that can't be read.
    pub(in crate::network::model) fn of_config(config: &Value) -> Result<Option<Self>> {
        let settings = config.pointer("/pipe/ngrams").filter(|settings| !settings.is_null());
        settings.cloned().map(serde_json::from_value).transpose().context("its n-grams can't be read")
    }

    /// # Errors
    /// No orders, one twice, or one that no n-gram has; a table without rows or columns.
    pub(super) fn check(&self) -> Result<()> {
        let Self { orders, buckets, width } = self;
        ensure!(!orders.is_empty(), "`ngrams` without `orders`");
        for (at, order) in orders.iter().enumerate() {
            ensure!((2..=LONGEST).contains(order), "an n-gram has 2 to {LONGEST} tokens, and `orders` has {order}");
            ensure!(!orders[..at].contains(order), "`orders` has {order} twice");
        }
        ensure!(*buckets >= 2, "`buckets` {buckets} leaves no row for n-grams");
        ensure!(*width >= 1, "`width` {width} leaves no column");
        Ok(())
    }
}
