//! What is promised about the texts in `recipes/data`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use fs_err as fs;
use pipe::learning::metrics::NaiveBayes;

const TOPICS: [&str; 8] = ["体育", "财经", "科技", "美食", "旅行", "健康", "教育", "娱乐"];

/// The files, and how many rows of each topic they have.
const SPLITS: [(&str, usize); 3] = [("train.tsv", 388), ("dev.tsv", 40), ("test.tsv", 60)];

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/data").join(name)).unwrap()
}

/// Label and text of each row.
fn rows(name: &str) -> Vec<(String, String)> {
    let file = read(name);
    let mut lines = file.lines();
    assert_eq!(lines.next(), Some("label\ttext"), "{name}");
    lines
        .map(|line| {
            let (label, text) = line.split_once('\t').unwrap();
            assert!(!text.contains('\t') && !text.is_empty() && text.trim() == text, "{name}: {line}");
            (label.to_string(), text.to_string())
        })
        .collect()
}

fn all_texts() -> Vec<String> {
    SPLITS.iter().flat_map(|(name, _)| rows(name)).map(|(_, text)| text).collect()
}

fn trigrams(text: &str) -> HashSet<[char; 3]> {
    let characters: Vec<char> = text.chars().collect();
    characters.windows(3).map(|three| [three[0], three[1], three[2]]).collect()
}

#[test]
fn every_split_is_balanced_over_eight_topics() {
    for (name, each) in SPLITS {
        let mut counts = BTreeMap::new();
        for (label, _) in rows(name) {
            *counts.entry(label).or_insert(0) += 1;
        }
        assert_eq!(counts, TOPICS.into_iter().map(|topic| (topic.to_string(), each)).collect(), "{name}");
    }
    assert!(all_texts().len() >= 1_000);
}

#[test]
fn no_two_texts_share_more_than_half_of_their_trigrams() {
    let texts = all_texts();
    let sets: Vec<_> = texts.iter().map(|text| trigrams(text)).collect();
    let mut holders: HashMap<[char; 3], Vec<usize>> = HashMap::new();
    for (index, set) in sets.iter().enumerate() {
        assert!(!set.is_empty(), "{} is too short to compare", texts[index]);
        // Only earlier texts that share a trigram need a look.
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for trigram in set {
            let holders = holders.entry(*trigram).or_default();
            for &other in holders.iter() {
                *shared.entry(other).or_default() += 1;
            }
            holders.push(index);
        }
        for (other, count) in shared {
            let smaller = set.len().min(sets[other].len());
            assert!(2 * count <= smaller, "too alike:\n{}\n{}", texts[index], texts[other]);
        }
    }
}

#[test]
fn no_test_row_stands_in_training() {
    let train: HashSet<String> = rows("train.tsv").into_iter().map(|(_, text)| text).collect();
    for name in ["dev.tsv", "test.tsv"] {
        for (_, text) in rows(name) {
            assert!(!train.contains(&text), "{name}: {text}");
        }
    }
}

#[test]
fn no_labelled_text_stands_in_the_corpus() {
    let corpus = read("corpus.txt");
    for text in all_texts() {
        assert!(!corpus.contains(&text), "{text}");
    }
}

#[test]
fn the_corpus_is_large_and_its_documents_have_several_sentences() {
    let corpus = read("corpus.txt");
    let documents: Vec<&str> = corpus.split("\n\n").collect();
    for document in &documents {
        let sentences: Vec<&str> = document.lines().collect();
        assert!(sentences.len() >= 4, "{document}");
        assert!(sentences.iter().all(|sentence| !sentence.is_empty() && sentence.trim() == *sentence), "{document}");
    }
    let characters = corpus.chars().filter(|character| *character != '\n').count();
    assert!(characters >= 60_000);
    let sentences: usize = documents.iter().map(|document| document.lines().count()).sum();
    assert_eq!((documents.len(), sentences, characters), (309, 2_809, 81_618), "the README tells other numbers");
    assert_eq!(documents.iter().collect::<HashSet<_>>().len(), documents.len());
}

#[test]
fn the_topics_can_be_learnt_from_the_training_rows() {
    let index = |label: &str| TOPICS.iter().position(|topic| *topic == label).unwrap();
    let train = rows("train.tsv");
    let model = NaiveBayes::train(TOPICS.len(), train.iter().map(|(label, text)| (text.as_str(), index(label))));
    for (name, each) in &SPLITS[1..] {
        let right = rows(name).iter().filter(|(label, text)| model.predict(text) == index(label)).count();
        let accuracy = right as f64 / (each * TOPICS.len()) as f64;
        eprintln!("naive Bayes on {name}: {right} right, {:.2} %", 100.0 * accuracy);
        assert!(accuracy > 0.6, "{name}: {accuracy}");
    }
}
