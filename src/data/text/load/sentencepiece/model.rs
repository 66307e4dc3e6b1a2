//! The file: a protocol buffers message.

use anyhow::{Result, bail, ensure};

use crate::data::text::load::protobuf::Fields;

/// What this program needs of a model.
pub(super) struct Model<'a> {
    pub(super) pieces: Vec<Piece>,
    pub(super) algorithm: Algorithm,
    /// What the normalisation rules are called, such as `nmt_nfkc`.
    pub(super) rules: &'a str,
    /// The compiled normalisation rules; empty if there are none.
    pub(super) charsmap: &'a [u8],
    /// Whether a text gets a space before it.
    pub(super) dummy_prefix: bool,
    /// Whether spaces around a text and runs of them are taken out.
    pub(super) remove_extra_whitespaces: bool,
    /// Whether spaces are written as ▁.
    pub(super) escape_whitespaces: bool,
}

/// An entry of the vocabulary; its id is its place.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Algorithm {
    Unigram,
    Bpe,
}

impl<'a> Model<'a> {
    /// Reads `ModelProto`.
    pub(super) fn read(file: &'a [u8]) -> Result<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            algorithm: Algorithm::Unigram,
            rules: "",
            charsmap: &[],
            dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        for field in Fields::new(file) {
            let (number, value) = field?;
            match number {
                1 => model.pieces.push(Piece::read(value.bytes()?)?),
                2 => model.trainer(value.bytes()?)?,
                3 => model.normalizer(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(model)
    }

    /// `TrainerSpec`
    fn trainer(&mut self, message: &[u8]) -> Result<()> {
        for field in Fields::new(message) {
            let (number, value) = field?;
            match number {
                3 => {
                    self.algorithm = match value.varint()? {
                        1 => Algorithm::Unigram,
                        2 => Algorithm::Bpe,
                        3 => bail!("models of whole words can't be read"),
                        4 => bail!("models of single characters can't be read"),
                        kind => bail!("the model type {kind} is unknown"),
                    }
                }
                24 => ensure!(!value.flag()?, "models that put spaces after words can't be read"),
                _ => {}
            }
        }
        Ok(())
    }

    /// `NormalizerSpec`
    fn normalizer(&mut self, message: &'a [u8]) -> Result<()> {
        for field in Fields::new(message) {
            let (number, value) = field?;
            match number {
                1 => self.rules = value.text()?,
                2 => self.charsmap = value.bytes()?,
                3 => self.dummy_prefix = value.flag()?,
                4 => self.remove_extra_whitespaces = value.flag()?,
                5 => self.escape_whitespaces = value.flag()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether characters without a piece are spelt as bytes.
    pub(super) fn byte_fallback(&self) -> bool {
        self.pieces.iter().any(|piece| piece.kind == Kind::Byte)
    }

    pub(super) fn has(&self, text: &str) -> bool {
        self.pieces.iter().any(|piece| piece.text == text)
    }
}

impl Piece {
    /// `SentencePiece`
    fn read(message: &[u8]) -> Result<Self> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: Kind::Normal };
        for field in Fields::new(message) {
            let (number, value) = field?;
            match number {
                1 => piece.text = value.text()?.to_owned(),
                2 => piece.score = value.float()?,
                3 => {
                    piece.kind = match value.varint()? {
                        1 => Kind::Normal,
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        kind => bail!("the piece {:?} is of the unknown type {kind}", piece.text),
                    }
                }
                _ => {}
            }
        }
        Ok(piece)
    }
}
