//! Label words as a trie, so that an answer outside the set can't happen.
//!
//! A label's probability is the product, over the nodes of its path that branch, of a softmax among that node's
//! candidates alone. Over all labels it sums to one, whatever the words' lengths, and nothing is asked where there's no
//! choice. Where a word's tokens are generated, a node is asked after the tokens that lead to it; where they're filled
//! into masks, a node is read from the mask at its depth.

use std::cmp::Reverse;

use anyhow::{Result, bail, ensure};
use indexmap::IndexMap;

use crate::{network::batch::Choice, support::math};

/// A node of the trie with two or more tokens to choose from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrieNode {
    /// The tokens.
    pub candidates: Vec<u32>,
}

/// The labels' words.
#[derive(Clone, Debug)]
pub struct Labels {
    words: Vec<Vec<u32>>,
    longest: usize,
    nodes: Vec<TrieNode>,
    /// The tokens that lead to each node.
    prefixes: Vec<Vec<u32>>,
    /// For each label, the choices on its path; `at` counts the word's tokens before it.
    paths: Vec<Vec<Choice>>,
}

/// Tokens to feed, and the choices on the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabelPath {
    /// The tokens, up to the last choice.
    pub tokens: Vec<u32>,
    /// The choices; `at` counts from the state that predicts the word's first token.
    pub choices: Vec<Choice>,
}

impl Labels {
    /// Builds the trie out of each label's name and the tokens of its word. A word that another one begins with is
    /// ended by `end`.
    ///
    /// # Errors
    ///
    /// Where a word has no tokens, or two words have the same.
    pub fn new(labels: Vec<(&str, Vec<u32>)>, end: u32) -> Result<Self> {
        for (index, (label, word)) in labels.iter().enumerate() {
            ensure!(!word.is_empty(), "the word of label `{label}` is empty");
            if let Some((other, _)) = labels[..index].iter().find(|(_, other)| other == word) {
                bail!(
                    "the words of the labels `{other}` and `{label}` are the same tokens, so they can't be told apart"
                );
            }
        }
        let begins_another =
            |word: &[u32]| labels.iter().any(|(_, other)| other.len() > word.len() && other.starts_with(word));
        let whole =
            |word: &Vec<u32>| if begins_another(word) { [word, [end].as_slice()].concat() } else { word.clone() };
        let words: Vec<Vec<u32>> = labels.iter().map(|(_, word)| whole(word)).collect();
        let longest = labels.iter().map(|(_, word)| word.len()).max().unwrap_or(0);

        let mut children: IndexMap<&[u32], Vec<u32>> = IndexMap::new();
        for word in &words {
            for (depth, token) in word.iter().enumerate() {
                let tokens = children.entry(&word[..depth]).or_default();
                if !tokens.contains(token) {
                    tokens.push(*token);
                }
            }
        }
        children.retain(|_, tokens| tokens.len() > 1);

        let choice = |prefix: &[u32], token: u32| {
            let (node, _, candidates) = children.get_full(prefix)?;
            let gold = candidates.iter().position(|&candidate| candidate == token)?;
            Some(Choice { at: prefix.len() as u32, node: node as u32, gold: gold as u32 })
        };
        let path = |word: &Vec<u32>| {
            word.iter().enumerate().filter_map(|(depth, &token)| choice(&word[..depth], token)).collect()
        };
        let paths = words.iter().map(path).collect();
        let prefixes = children.keys().map(|prefix| prefix.to_vec()).collect();
        let nodes = children.into_values().map(|candidates| TrieNode { candidates }).collect();
        Ok(Self { words, longest, nodes, prefixes, paths })
    }

    /// The nodes that branch; `Choice::node` is an index into them.
    pub fn nodes(&self) -> &[TrieNode] {
        &self.nodes
    }

    /// Tokens of the longest word; no node lies as deep as that.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Tokens that the longest path feeds.
    pub fn depth(&self) -> usize {
        self.prefixes.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The path to a label, by its index.
    pub fn path(&self, label: usize) -> LabelPath {
        let choices = self.paths[label].clone();
        let depth = choices.last().map_or(0, |choice| choice.at as usize);
        LabelPath { tokens: self.words[label][..depth].to_vec(), choices }
    }

    /// For each choice on a label's path, one after the other, its candidates' shares of the labels' probabilities.
    pub fn shares(&self, label: usize, probabilities: &[f32]) -> Vec<f32> {
        let mut shares = Vec::new();
        for choice in &self.paths[label] {
            let node = choice.node;
            let mut own = vec![0.0; self.nodes[node as usize].candidates.len()];
            for (path, probability) in self.paths.iter().zip(probabilities) {
                let taken = path.iter().find(|other| other.node == node);
                taken.into_iter().for_each(|taken| own[taken.gold as usize] += probability);
            }
            shares.extend(own);
        }
        shares
    }

    /// As few paths as visit all nodes, each node once. The choices' `gold` says nothing.
    pub fn cover(&self) -> Vec<LabelPath> {
        let mut visited = vec![false; self.nodes.len()];
        let mut paths = Vec::new();
        let mut deepest_first: Vec<&Vec<u32>> = self.prefixes.iter().collect();
        deepest_first.sort_by_key(|prefix| Reverse(prefix.len()));
        for tokens in deepest_first {
            let mut choices = Vec::new();
            for (node, prefix) in self.prefixes.iter().enumerate() {
                if tokens.starts_with(prefix) && !visited[node] {
                    visited[node] = true;
                    choices.push(Choice { at: prefix.len() as u32, node: node as u32, gold: 0 });
                }
            }
            if !choices.is_empty() {
                paths.push(LabelPath { tokens: tokens.clone(), choices });
            }
        }
        paths
    }

    /// All nodes at once, each at its depth, for answers whose tokens aren't fed. The choices' `gold` says nothing.
    pub fn glance(&self) -> LabelPath {
        let choice = |(node, prefix): (u32, &Vec<u32>)| Choice { at: prefix.len() as u32, node, gold: 0 };
        LabelPath { tokens: Vec::new(), choices: (0..).zip(&self.prefixes).map(choice).collect() }
    }

    /// Each label's probability, from the log-softmax of each node's candidates.
    pub fn score(&self, log_probabilities: &[Vec<f64>]) -> Vec<f64> {
        let at = |choice: &Choice| log_probabilities[choice.node as usize][choice.gold as usize];
        self.paths.iter().map(|path| math::exp(path.iter().map(at).sum::<f64>())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_labels_beyond_each_candidate() {
        let words = [vec![1, 5], vec![1, 6], vec![2]];
        let labels = Labels::new(["a", "b", "c"].into_iter().zip(words).collect(), 0).unwrap();
        let near = |found: Vec<f32>, expected: &[f32]| {
            assert!(found.len() == expected.len());
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
        };
        near(labels.shares(0, &[0.5, 0.3, 0.2]), &[0.8, 0.2, 0.5, 0.3]);
        near(labels.shares(2, &[0.5, 0.3, 0.2]), &[0.8, 0.2]);
    }
}
