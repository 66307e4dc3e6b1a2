//! Which files of a folder are data, and which only lie beside it: the one rule, for folders and globs alike.

use std::path::Path;

use crate::spec::Format;

/// Names, without what comes after a first dot, of files that tell people about the data.
const TOLD: [&str; 8] = ["readme", "license", "licence", "copying", "notice", "citation", "changelog", "contributing"];
/// Names of files in which tools keep what they know of the data.
const KEPT: [&str; 7] = [
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "checksums.txt",
    "md5sums",
    "sha256sums",
];
/// Endings of checksums, signatures, and files that aren't whole.
const OTHER: [&str; 12] =
    ["crc", "md5", "sha1", "sha256", "sha512", "asc", "sig", "lock", "tmp", "partial", "incomplete", "crdownload"];

/// Whether a file of this name isn't data but lies beside some: it begins with `.` or `_`, as what is hidden and Spark's
/// and Hadoop's markers do, or ends in `~`, or has one of the names and endings above, whatever their case. Names that tell
/// people about the data do so with the ending of a text, or any that no rows have.
pub(super) fn is_beside(name: &str) -> bool {
    let name = name.to_lowercase();
    let stem = name.split('.').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    let holds_rows = !matches!(Format::of(Path::new(&name)), None | Some(Format::Txt));
    name.starts_with(['.', '_'])
        || name.ends_with('~')
        || TOLD.contains(&stem) && !holds_rows
        || KEPT.contains(&name.as_str())
        || ending.is_some_and(|ending| OTHER.contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_and_tools_leave_beside_data_is_none() {
        for name in [
            "_SUCCESS",
            "_metadata",
            "_common_metadata",
            "._SUCCESS.crc",
            ".part-00000.parquet.crc",
            ".gitattributes",
            "README.md",
            "readme.txt",
            "README",
            "LICENSE",
            "LICENSE.txt",
            "CITATION.cff",
            "dataset_info.json",
            "dataset_dict.json",
            "state.json",
            "train.parquet.md5",
            "SHA256SUMS",
            "checksums.txt",
            "train.jsonl.incomplete",
            "train.tsv~",
        ] {
            assert!(is_beside(name), "{name}");
        }
        for name in [
            "train.tsv",
            "part-00000",
            "part-00000-1f2e.c000.snappy.parquet",
            "data-00000-of-00002.arrow",
            "stsa.binary.train",
            "state.jsonl",
            "notice.csv",
            "load_data.py",
            "notes.md",
            "news.readme.txt",
            "train.jsonl.gz",
            "论文.txt",
            "1.txt",
        ] {
            assert!(!is_beside(name), "{name}");
        }
    }
}
