//! Headings, tables and paragraphs of Markdown.

use std::fmt::Write as _;

/// A document that grows from its title on.
#[derive(Default)]
pub(super) struct Document(String);

impl Document {
    /// A heading, of level 1 for the title.
    pub(super) fn heading(&mut self, level: usize, text: &str) {
        self.line(&format!("{} {text}", "#".repeat(level)));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.line(text);
    }

    /// A line for each of some.
    pub(super) fn list(&mut self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        let lines: Vec<String> = lines
            .into_iter()
            .map(|line| format!("- {}", line.as_ref()))
            .collect();
        self.line(&lines.join("\n"));
    }

    /// A table; nothing where it has no rows.
    pub(super) fn table<const N: usize>(
        &mut self,
        head: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        let mut out = format!("| {} |\n|{}", head.join(" | "), " --- |".repeat(N));
        let mut any = false;
        for row in rows {
            any = true;
            let cells = row.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
            // Writing to a String can't fail.
            let _ = write!(out, "\n| {} |", cells.join(" | "));
        }
        if any {
            self.line(&out);
        }
    }

    /// A block with an empty line behind it.
    fn line(&mut self, text: &str) {
        self.0.push_str(text.trim_end());
        self.0.push_str("\n\n");
    }

    pub(super) fn finish(mut self) -> String {
        self.0.truncate(self.0.trim_end().len());
        self.0.push('\n');
        self.0
    }
}

/// As code.
pub(super) fn code(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}
