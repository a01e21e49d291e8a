//! Colours, or none.

use anstyle::{AnsiColor, Style};

use super::Colour;

/// What a colour means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    Good,
    Bad,
    Doubtful,
    Heading,
    Faint,
}

/// `text` in the colour of its meaning.
pub(super) fn paint(colour: Colour, ink: Ink, text: &str) -> String {
    let style = match (colour, ink) {
        (Colour::Off, _) => return text.to_owned(),
        _ if text.is_empty() => return String::new(),
        (Colour::On, Ink::Good) => AnsiColor::Green.on_default(),
        (Colour::On, Ink::Bad) => AnsiColor::Red.on_default().bold(),
        (Colour::On, Ink::Doubtful) => AnsiColor::Yellow.on_default(),
        (Colour::On, Ink::Heading) => Style::new().bold(),
        (Colour::On, Ink::Faint) => Style::new().dimmed(),
    };
    format!("{style}{text}{style:#}")
}

/// Columns of cells, each as wide as its widest, two blanks apart; the colour of a cell is put
/// on after its width is known, as an escape sequence has none.
pub(super) struct Columns {
    rows: Vec<Vec<(String, Option<Ink>)>>,
}

impl Columns {
    pub(super) fn new(header: &[&str]) -> Self {
        Columns { rows: vec![header.iter().map(|cell| ((*cell).to_owned(), Some(Ink::Heading))).collect()] }
    }

    /// Without a header.
    pub(super) fn bare() -> Self {
        Columns { rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<(String, Option<Ink>)>) {
        self.rows.push(cells);
    }

    pub(super) fn render(&self, colour: Colour, indent: &str) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            for (column, (text, _)) in row.iter().enumerate() {
                let width = text.chars().count();
                match widths.get_mut(column) {
                    Some(known) => *known = width.max(*known),
                    None => widths.push(width),
                }
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (column, (text, ink)) in row.iter().enumerate() {
                let painted = ink.map_or_else(|| text.clone(), |ink| paint(colour, ink, text));
                line.push_str(&painted);
                if column + 1 < row.len() {
                    line.push_str(&" ".repeat(widths[column] - text.chars().count() + 2));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}
