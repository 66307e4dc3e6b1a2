//! Corpora that haven't been encoded yet, looked through until what is asked of them is known.

use std::{collections::HashSet, ops::ControlFlow, path::Path};

use crate::{
    data::{Document, documents},
    recipe::paths,
    spec::{Source, Tokenize},
};

/// So much of a corpus is looked through; of larger ones nothing is said.
const MOST_BYTES: usize = 64 << 20;

/// Whether all documents were looked through without an answer. Not if there are too many, or if they can't be read, which is
/// told elsewhere.
fn looked_through(sources: &[Source], dir: &Path, look: &mut dyn FnMut(&Document) -> ControlFlow<()>) -> bool {
    let mut bytes = 0;
    for source in sources {
        let Ok(files) = paths::resolve_path(&source.place(), dir) else { return false };
        for file in files {
            let Ok(documents) = documents(source, &file) else { return false };
            for document in documents {
                let Ok(document) = document else { return false };
                bytes += document.text.len();
                if bytes > MOST_BYTES || look(&document).is_break() {
                    return false;
                }
            }
        }
    }
    true
}

/// Those of some characters that the texts which a tokenizer is trained on don't have, in either case; none if that can't be
/// told.
pub(super) fn unseen(tokenize: &Tokenize, dir: &Path, characters: HashSet<char>) -> HashSet<char> {
    let sources = if tokenize.train_on.is_empty() { &tokenize.corpus } else { &tokenize.train_on };
    let mut left = characters;
    let all = looked_through(sources, dir, &mut |document| {
        for character in document.text.chars() {
            left.remove(&character);
            character.to_lowercase().chain(character.to_uppercase()).for_each(|other| {
                left.remove(&other);
            });
        }
        if left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if all { left } else { HashSet::new() }
}

/// Whether all documents are single sentences that fit into `room` tokens.
pub(super) fn has_single_sentences_only(tokenize: &Tokenize, dir: &Path, room: usize) -> bool {
    let mut documents = 0;
    let all = looked_through(&tokenize.corpus, dir, &mut |document| {
        documents += 1;
        // A token has a byte at least, so a text of no more bytes isn't divided.
        let is_single = document.sentences().nth(1).is_none() && document.text.len() <= room;
        if is_single { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    all && documents > 0
}
