//! SentencePiece's models (<https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>): a
//! vocabulary with scores, what to do with a text before, and whether pieces are found by unigram or by byte-pair
//! encoding.

mod charsmap;
mod model;
mod preparation;

use anyhow::{Context, Error, Result, ensure};
use tokenizers::{
    AddedToken, Tokenizer,
    models::{bpe::BPE, bpe::Vocab, unigram::Unigram},
};

use super::merges::merges;
use model::{Algorithm, Kind, Model, Piece};
use preparation::prepare;

/// The score of symbols that are always one piece.
const USER_DEFINED: f64 = -0.1;

/// How much worse an unknown character is than the worst piece.
const UNKNOWN_PENALTY: f64 = 10.0;

pub(super) fn convert(file: &[u8]) -> Result<Tokenizer> {
    let model = Model::read(file).context("not a SentencePiece model")?;
    ensure!(!model.pieces.is_empty(), "the SentencePiece model has no pieces");
    let mut tokenizer = match model.algorithm {
        Algorithm::Unigram => unigram(&model)?,
        Algorithm::Bpe => bpe(&model)?,
    };
    // Byte-pair encoding has to be kept from joining a symbol with its neighbours; a unigram model's score does it.
    let symbols: Vec<&Piece> = match model.algorithm {
        Algorithm::Unigram => Vec::new(),
        Algorithm::Bpe => model.pieces.iter().filter(|piece| piece.kind == Kind::UserDefined).collect(),
    };
    prepare(&mut tokenizer, &model, &symbols.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>())?;
    let control = |piece: &&Piece| matches!(piece.kind, Kind::Control | Kind::Unknown);
    let special = model.pieces.iter().filter(control).map(|piece| AddedToken::from(piece.text.clone(), true));
    tokenizer.add_special_tokens(special.collect::<Vec<_>>()).map_err(Error::from_boxed)?;
    let symbols = symbols.iter().map(|piece| AddedToken::from(piece.text.clone(), false));
    tokenizer.add_tokens(symbols.collect::<Vec<_>>()).map_err(Error::from_boxed)?;
    Ok(tokenizer)
}

/// A unigram model finds the pieces with the highest sum of scores.
fn unigram(model: &Model) -> Result<Tokenizer> {
    let normal = model.pieces.iter().filter(|piece| piece.kind == Kind::Normal);
    let worst = normal.map(|piece| f64::from(piece.score)).fold(f64::INFINITY, f64::min).min(0.0);
    let score = |piece: &Piece| match piece.kind {
        Kind::Normal => f64::from(piece.score),
        Kind::UserDefined => USER_DEFINED,
        // No text turns into these, so anything else that spells them has to be better.
        Kind::Unknown | Kind::Control | Kind::Unused | Kind::Byte => {
            (worst - UNKNOWN_PENALTY) * (piece.text.chars().count() + 1) as f64
        }
    };
    let vocabulary = model.pieces.iter().map(|piece| (piece.text.clone(), score(piece))).collect();
    let unknown = model.pieces.iter().position(|piece| piece.kind == Kind::Unknown);
    let unigram = Unigram::from(vocabulary, unknown, model.byte_fallback()).map_err(Error::from_boxed)?;
    Ok(Tokenizer::new(unigram))
}

/// Byte-pair encoding joins the neighbours that make the piece with the highest score.
fn bpe(model: &Model) -> Result<Tokenizer> {
    let mut best: Vec<&Piece> = model.pieces.iter().filter(|piece| piece.kind == Kind::Normal).collect();
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    let best: Vec<&str> = best.iter().map(|piece| piece.text.as_str()).collect();
    let vocabulary: Vocab = model.pieces.iter().map(|piece| piece.text.clone()).zip(0..).collect();
    let mut builder =
        BPE::builder().vocab_and_merges(vocabulary, merges(&best)).fuse_unk(true).byte_fallback(model.byte_fallback());
    if let Some(unknown) = model.pieces.iter().find(|piece| piece.kind == Kind::Unknown) {
        builder = builder.unk_token(unknown.text.clone());
    }
    Ok(Tokenizer::new(builder.build().map_err(Error::from_boxed)?))
}
