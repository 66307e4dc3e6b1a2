//! Markdown: tables, anchors, and parts of pages that are replaced.

/// The page with the text between the marks `<!-- NAME -->` and `<!-- /NAME -->` replaced; none where it lacks them.
pub(super) fn spliced(page: &str, name: &str, text: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let begin = page.find(&open)? + open.len();
    let end = begin + page[begin..].find(&close)?;
    Some(format!("{}{}\n{}", &page[..begin], text.trim_end(), &page[end..]))
}

/// A table: the head, and the rows.
pub(in crate::surface) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let line = |cells: [String; N]| format!("| {} |\n", cells.map(|text| cell(&text)).join(" | "));
    let mut text = line(head.map(str::to_owned)) + "|" + &"---|".repeat(N) + "\n";
    rows.into_iter().for_each(|row| text += &line(row));
    text
}

/// A cell of a table: one line, in which bars don't end it.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A link to a heading of the same page.
pub(super) fn link(heading: &str) -> String {
    format!("[{heading}](#{})", anchor(heading))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_between_its_marks() {
        let page = "a\n<!-- b -->\nold\n<!-- /b -->\nc\n";
        let new = "a\n<!-- b -->\nnew\n<!-- /b -->\nc\n";
        assert_eq!(spliced(page, "b", "new\n").as_deref(), Some(new));
        assert_eq!(spliced(new, "b", "new\n").as_deref(), Some(new));
        assert_eq!(spliced(page, "d", "new"), None);
    }

    #[test]
    fn bars_do_not_end_a_cell() {
        assert_eq!(table(["k"], [["a|b\nc".to_owned()]]), "| k |\n|---|\n| a\\|b c |\n");
    }

    #[test]
    fn headings_get_the_anchors_of_markdown_viewers() {
        assert_eq!(link("`masked_lm`"), "[`masked_lm`](#masked_lm)");
        assert_eq!(link("The recipe"), "[The recipe](#the-recipe)");
    }
}
