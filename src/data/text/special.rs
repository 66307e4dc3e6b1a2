//! The special tokens: what they're for, what tokenizers call them, and their ids.

use anyhow::{Result, ensure};
use serde_json::Value;
use tokenizers::AddedToken;

use crate::support::Hinted;

/// What a special token is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Special {
    /// Fills places that are not computed.
    Pad,
    /// Stands for what the tokenizer doesn't know.
    Unk,
    /// Begins a text.
    Cls,
    /// Ends a text or a segment.
    Sep,
    /// Hides a token, or a short span of GLM's.
    Mask,
    /// Hides a long span that is to be generated (GLM).
    Gmask,
    /// Hides a sentence (GLM).
    Smask,
    /// Begins a generated piece (GLM).
    Sop,
    /// Ends a generated piece (GLM).
    Eop,
}

/// The id of a special token that a tokenizer lacks: it's in no vocabulary, and [`Specials::require`] keeps it out of
/// examples.
pub const ABSENT: u32 = u32::MAX;

/// The ids of the special tokens, and how many ids there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Specials {
    /// `[PAD]`, which fills places that are not computed.
    pub pad: u32,
    /// `[UNK]`; byte-level tokenizers have none.
    pub unk: u32,
    /// `[CLS]`, which begins every sequence; where there is none, what ends a text, as it separates documents.
    pub cls: u32,
    /// `[SEP]`, which ends a text or a segment.
    pub sep: u32,
    /// `[MASK]`, in the place of a token or a short span.
    pub mask: u32,
    /// `[gMASK]`, in the place of a long span that is to be generated.
    pub gmask: u32,
    /// `[sMASK]`, in the place of a sentence.
    pub smask: u32,
    /// `<sop>`, which begins a generated span.
    pub sop: u32,
    /// `<eop>`, which ends a generated span; where there is none, what ends a text.
    pub eop: u32,
    /// Entries in the vocabulary, these included: one more than the highest id.
    pub vocab_size: usize,
}

/// The names that trained tokenizers give them, in the order of [`Special`]; their ids are 0 to 8.
pub(super) const NAMES: [&str; 9] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"];

/// Under what other names existing tokenizers have them, the likeliest first.
const ALIASES: [&[&str]; 9] = [
    &["<pad>", "<|pad|>", "<|endoftext|>"],
    &["<unk>", "<|unk|>", "[unk]"],
    &["<cls>", "[cls]", "<s>"],
    &["<sep>", "[eos]", "</s>", "<|endoftext|>"],
    &["<mask>", "<|mask|>"],
    &["<gmask>"],
    &["<smask>"],
    &["sop", "<|startofpiece|>"],
    &["eop", "<|endofpiece|>"],
];

impl Special {
    /// All, in their order.
    pub const ALL: [Self; 9] =
        [Self::Pad, Self::Unk, Self::Cls, Self::Sep, Self::Mask, Self::Gmask, Self::Smask, Self::Sop, Self::Eop];

    /// The one that tokenizers call this.
    pub fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|special| special.goes_by(name))
    }

    /// The usual name.
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// Whether tokenizers call it this.
    pub(super) fn goes_by(self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }

    /// Its names, the usual one first.
    fn names(self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name()).chain(ALIASES[self as usize].iter().copied())
    }
}

impl Specials {
    /// The id of one; [`ABSENT`] if there is none.
    pub fn id(&self, special: Special) -> u32 {
        self.in_order()[special as usize]
    }

    /// The ids of the special tokens that there are, rising.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.in_order().into_iter().filter(|&id| id != ABSENT).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether the id is one of theirs.
    pub fn contains(&self, id: u32) -> bool {
        id != ABSENT && self.in_order().contains(&id)
    }

    /// Makes sure that there are the tokens that something, such as an objective, needs.
    ///
    /// # Errors
    /// If some are missing: names them, and what needs them.
    pub fn require(&self, what: &str, needed: &[Special]) -> Result<()> {
        let missing = needed.iter().filter(|&&special| self.id(special) == ABSENT);
        let missing: Vec<&str> = missing.map(|special| special.name()).collect();
        ensure!(
            missing.is_empty(),
            Hinted::with(
                format!("{what} needs {}, which this tokenizer lacks", missing.join(" and ")),
                "take a model whose tokenizer has it, or train a tokenizer, which always has",
            )
        );
        Ok(())
    }

    fn in_order(&self) -> [u32; 9] {
        let Self { pad, unk, cls, sep, mask, gmask, smask, sop, eop, .. } = *self;
        [pad, unk, cls, sep, mask, gmask, smask, sop, eop]
    }

    /// Finds the special tokens of a tokenizer and marks them as special. Those that are `given` a name go before what
    /// the tokenizer puts around a text, and that before the usual names. Nothing is added to the vocabulary.
    pub(super) fn find(tokenizer: &mut tokenizers::Tokenizer, given: &[(Special, String)]) -> Result<Self> {
        let frame = frame(tokenizer);
        let mut ids = [ABSENT; NAMES.len()];
        for special in Special::ALL {
            let given = given.iter().filter(|(role, _)| *role == special).map(|(_, name)| name.as_str());
            let framing = match special {
                Special::Cls => frame.0.as_deref(),
                Special::Sep => frame.1.as_deref(),
                _ => None,
            };
            let named = given.chain(framing).find(|name| tokenizer.token_to_id(name).is_some());
            if let Some(name) = named.map(String::from).or_else(|| usual(tokenizer, special)) {
                // Keeps its id, and makes it special where it was an ordinary entry.
                add(tokenizer, &name)?;
                ids[special as usize] = tokenizer.token_to_id(&name).unwrap_or(ABSENT);
            }
        }
        let [pad, unk, cls, sep, mask, gmask, smask, sop, eop] = ids;
        let or = |id: u32, other: u32| if id == ABSENT { other } else { id };
        let eop = or(eop, sep);
        let sep = or(sep, eop);
        let vocab_size = tokenizer.get_vocab(true).into_values().max().map_or(0, |last| last as usize + 1);
        Ok(Self { pad, unk, cls: or(cls, sep), sep, mask, gmask, smask, sop, eop, vocab_size })
    }
}

/// Marks a token as special. One that the vocabulary has keeps its id; others come after the last.
pub(super) fn add(tokenizer: &mut tokenizers::Tokenizer, content: &str) -> Result<()> {
    tokenizer.add_special_tokens([AddedToken::from(content, true)]).map_err(anyhow::Error::from_boxed)?;
    Ok(())
}

/// The usual name under which a tokenizer has a special token. An entry without brackets, such as `sop`, may be an
/// ordinary word; it counts only if the tokenizer says that it's special.
fn usual(tokenizer: &tokenizers::Tokenizer, special: Special) -> Option<String> {
    let added = tokenizer.get_added_tokens_decoder();
    let marked = |name: &str| added.values().any(|token| token.special && token.content == name);
    let has =
        |name: &&str| marked(name) || !name.starts_with(char::is_alphabetic) && tokenizer.token_to_id(name).is_some();
    special.names().find(has).map(String::from)
}

/// What a tokenizer's own post-processor puts before and after a text, unless that's one of GLM's marks of a blank.
pub(super) fn frame(tokenizer: &tokenizers::Tokenizer) -> (Option<String>, Option<String>) {
    let processor = tokenizer.get_post_processor().and_then(|processor| serde_json::to_value(processor).ok());
    let Some(processor) = processor else { return (None, None) };
    let text = |value: &Value| value.as_str().map(String::from);
    if let (Some(cls), Some(sep)) = (processor.pointer("/cls/0"), processor.pointer("/sep/0")) {
        return (text(cls), text(sep));
    }
    let pieces = processor.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let blank = [Special::Mask, Special::Gmask, Special::Smask, Special::Sop, Special::Eop];
    let frames = |name: &String| !blank.iter().any(|&special| usual(tokenizer, special).as_ref() == Some(name));
    let special = |piece: Option<&Value>| piece?.pointer("/SpecialToken/id").and_then(text).filter(frames);
    (special(pieces.first()), special(pieces.last()))
}
