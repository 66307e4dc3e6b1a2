//! Words as a shell takes them.

/// A word that a shell takes as it is.
pub fn quoted(word: &str) -> String {
    if !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "._=/+:,-".contains(c)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        for word in ["plain", "/a/b-c_d.e=1", "", "two words", "it's", "$HOME `ls` \"x\" \\ ;", "模型", "a\nb"] {
            let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), word);
        }
        assert_eq!(quoted("a/b-c"), "a/b-c");
    }
}
