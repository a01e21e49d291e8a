//! What is wrong with a lab file, where, and what to do about it: problems as data, collected
//! in any order, rendered in file order in the style of rustc.
//!
//! Rendering never fails: whatever the text holds, and wherever a span points.

use std::fmt;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::lab::model::Span;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// One lowercase sentence without a full stop.
    pub message: String,
    /// The place in the file that it is about.
    pub at: Span,
    /// What to write beside the underline; may be empty.
    pub label: String,
    /// Other places that have to do with it, each with what to write beside it.
    pub related: Vec<(Span, String)>,
    /// What to do.
    pub hint: Option<String>,
}

/// All problems of a lab file, never none, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

/// Whether rendered text carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Off,
    /// ANSI escape sequences.
    On,
}

/// The problems found so far.
///
/// It keeps the first thousand: a file of nothing but garbage has as many problems as bytes,
/// and nobody reads the tenth page.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Diagnostic>,
}

/// So many problems are kept.
const KEPT: usize = 1000;
/// So many problems are rendered.
const RENDERED: usize = 50;
/// A line longer than this many bytes is cut around what is underlined.
const LONG_LINE: usize = 160;
/// Places so many lines apart share one excerpt, in which the lines between may be folded.
const SAME_EXCERPT: usize = 40;

impl Diagnostic {
    /// A problem at a place.
    pub fn new(at: Span, message: impl Into<String>) -> Self {
        Diagnostic { message: message.into(), at, label: String::new(), related: Vec::new(), hint: None }
    }

    /// With a text beside the underline.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With another place that has to do with it.
    #[must_use]
    pub fn also(mut self, at: Span, label: impl Into<String>) -> Self {
        self.related.push((at, label.into()));
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Problems {
    /// Adds one, unless it has just been said (of another replica of the same pod).
    pub(crate) fn push(&mut self, problem: Diagnostic) {
        if self.found.len() < KEPT && self.found.last() != Some(&problem) {
            self.found.push(problem);
        }
    }

    /// Adds `problem` with a hint that offers the candidate nearest to `word`, if one is near,
    /// and otherwise with `or_else`.
    ///
    /// The search is left out once there are more problems than are shown, which keeps the work
    /// in proportion to the file.
    pub(crate) fn push_nearest<'a>(
        &mut self,
        problem: Diagnostic,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
        or_else: impl FnOnce() -> Option<String>,
    ) {
        let near = if self.found.len() < 2 * RENDERED { nearest(word, candidates) } else { None };
        let hint = match near {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => or_else(),
        };
        self.push(Diagnostic { hint, ..problem });
    }

    /// Nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, in file order; `None` if there are none.
    pub(crate) fn finish(mut self) -> Option<Diagnostics> {
        if self.found.is_empty() {
            return None;
        }
        self.found.sort_by_key(|problem| (problem.at.start, problem.at.end));
        self.found.dedup();
        Some(Diagnostics(self.found))
    }
}

impl Diagnostics {
    /// The line of the first one.
    pub fn line(&self, text: &str) -> Option<usize> {
        let before = text.get(..self.0.first()?.at.start)?;
        Some(before.matches('\n').count() + 1)
    }

    /// All of them as text for a person, in the style of rustc: the sentence, the excerpt of
    /// `text` (the file that they are about, called `origin`) with its underline, the hint.
    ///
    /// At most fifty are shown, and a line says how many more there are. The text ends with a
    /// newline.
    pub fn render(&self, origin: &str, text: &str, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Off => Renderer::plain(),
            Colour::On => Renderer::styled(),
        }
        .term_width(LONG_LINE + 40);
        let lines = Lines::of(text);
        let mut out = String::new();
        for problem in self.0.iter().take(RENDERED) {
            out += &problem.render(origin, &lines, &renderer);
            out += "\n\n";
        }
        match self.0.len() {
            KEPT => out += &format!("error: and at least {} more problems like these\n", KEPT - RENDERED),
            n if n == RENDERED + 1 => out += "error: and 1 more problem\n",
            n if n > RENDERED => out += &format!("error: and {} more problems\n", n - RENDERED),
            _ => {
                // The blank line after the last one goes.
                out.pop();
            }
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    /// The sentences alone, one a line, for where there is no file to quote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic {
    fn render(&self, origin: &str, lines: &Lines<'_>, renderer: &Renderer) -> String {
        let mut marks = vec![lines.mark(&self.at, AnnotationKind::Primary, &self.label)];
        marks.extend(self.related.iter().map(|(at, label)| lines.mark(at, AnnotationKind::Context, label)));
        let mut group = Group::with_title(Level::ERROR.primary_title(self.message.as_str()));
        let mut moved = Vec::new();
        for excerpt in excerpts(lines, marks) {
            group = group.element(excerpt.snippet.path(origin));
            moved.extend(excerpt.moved);
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let mut shown = renderer.render(&[group]);
        for Moved { line, shown_column, column } in moved {
            // The renderer counts columns in the cut line; the reader, in the file.
            let wrong = format!("{origin}:{line}:{shown_column}");
            shown = shown.replacen(&wrong, &format!("{origin}:{line}:{column}"), 1);
        }
        shown
    }
}

/// A text and where its lines begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

/// A place within one line.
struct Mark<'d> {
    /// Counted from 0.
    line: usize,
    /// Bytes of the text, both on that line.
    span: Span,
    kind: AnnotationKind,
    label: &'d str,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    /// The bytes of a line without its line end.
    fn bytes(&self, line: usize) -> Span {
        let start = self.starts[line];
        let end = self.starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let content = &self.text[start..end];
        start..start + content.strip_suffix('\r').unwrap_or(content).len()
    }

    /// A span, cut to its first line and to whole characters.
    fn mark<'d>(&self, span: &Span, kind: AnnotationKind, label: &'d str) -> Mark<'d> {
        let text = self.text;
        let start = floor(text, span.start);
        let mut line = self.starts.partition_point(|begin| *begin <= start) - 1;
        // A place behind the last line end is shown at the end of the line before.
        if line > 0 && self.starts[line] == text.len() {
            line -= 1;
        }
        let bytes = self.bytes(line);
        let start = start.min(bytes.end);
        let end = floor(text, span.end.clamp(start, bytes.end));
        Mark { line, span: start..end, kind, label }
    }

    /// The column of a mark in characters, counted from 1.
    fn column(&self, mark: &Mark<'_>) -> usize {
        self.text[self.starts[mark.line]..mark.span.start].chars().count() + 1
    }
}

/// Some lines of the file with their marks.
struct Excerpt<'d> {
    snippet: Snippet<'d, Annotation<'d>>,
    moved: Option<Moved>,
}

/// Where the mark of a cut line really is.
struct Moved {
    line: usize,
    shown_column: usize,
    column: usize,
}

/// The excerpts that show all marks: one if they are near each other and their lines short,
/// otherwise one for each.
fn excerpts<'d>(lines: &Lines<'d>, marks: Vec<Mark<'d>>) -> Vec<Excerpt<'d>> {
    // The iterators are not empty: there is always the primary mark.
    let first = marks.iter().map(|mark| mark.line).min().unwrap_or(0);
    let last = marks.iter().map(|mark| mark.line).max().unwrap_or(0);
    let short = (first..=last).take(SAME_EXCERPT + 1).all(|line| lines.bytes(line).len() <= LONG_LINE);
    if last - first <= SAME_EXCERPT && short {
        let bytes = lines.bytes(first).start..lines.bytes(last).end;
        let annotations = marks.into_iter().map(|mark| annotate(&mark, bytes.start));
        let snippet = Snippet::source(&lines.text[bytes.clone()]).line_start(first + 1).annotations(annotations);
        return vec![Excerpt { snippet, moved: None }];
    }
    marks.into_iter().map(|mark| cut(lines, &mark)).collect()
}

/// One line with one mark; a long line is cut around the mark.
fn cut<'d>(lines: &Lines<'d>, mark: &Mark<'d>) -> Excerpt<'d> {
    let bytes = lines.bytes(mark.line);
    let text = lines.text;
    if bytes.len() <= LONG_LINE {
        let snippet = Snippet::source(&text[bytes.clone()]).line_start(mark.line + 1);
        return Excerpt { snippet: snippet.annotation(annotate(mark, bytes.start)), moved: None };
    }
    let start = floor(text, mark.span.start.saturating_sub(LONG_LINE / 4)).max(bytes.start);
    let end = floor(text, (start + LONG_LINE).min(bytes.end));
    let before = if start > bytes.start { "…" } else { "" };
    let after = if end < bytes.end { "…" } else { "" };
    let shown = format!("{before}{}{after}", &text[start..end]);
    let kept = Mark { span: mark.span.start..mark.span.end.min(end), ..*mark };
    let moved = Moved {
        line: mark.line + 1,
        shown_column: before.chars().count() + text[start..mark.span.start].chars().count() + 1,
        column: lines.column(mark),
    };
    // Nothing underlined lies before `start`, so the difference in there cannot be negative.
    let annotation = annotate_shifted(&kept, start, before.len());
    Excerpt { snippet: Snippet::source(shown).line_start(mark.line + 1).annotation(annotation), moved: Some(moved) }
}

/// The last place at or before `at` where a character begins, or the end of the text.
fn floor(text: &str, at: usize) -> usize {
    // At 0 there is always one.
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn annotate<'d>(mark: &Mark<'d>, origin: usize) -> Annotation<'d> {
    annotate_shifted(mark, origin, 0)
}

fn annotate_shifted<'d>(mark: &Mark<'d>, origin: usize, shift: usize) -> Annotation<'d> {
    let span = mark.span.start - origin + shift..mark.span.end - origin + shift;
    let label = if mark.label.is_empty() { None } else { Some(mark.label) };
    mark.kind.span(span).label(label)
}

/// The candidate that `word` was probably meant to be.
///
/// Spelling that differs only in case, `-` and `_` counts as equal (`clusterIP`, `cluster_ip`).
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are not typing mistakes, and comparing them costs the product of the lengths.
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let wanted = plain(word);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 64)
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= word.len().max(candidate.len()).div_ceil(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A text of the user's as it can stand in a message: quoted, without control characters, cut.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 48;
    let head: String = text.chars().take(SHOWN).collect();
    if head.len() < text.len() { format!("{:?}…", head) } else { format!("{head:?}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(text: &str, problem: Diagnostic) -> String {
        Diagnostics(vec![problem]).render("lab.toml", text, Colour::Off)
    }

    #[test]
    fn looks_like_rustc() {
        let problem = Diagnostic::new(20..24, "the name `a` is used twice")
            .label("again here")
            .also(7..10, "first used here")
            .hint("rename one of them");
        assert_eq!(
            show("name = \"a\"\n# then\nname = \"a\"\n", Diagnostic { at: 25..28, ..problem }),
            "error: the name `a` is used twice
 --> lab.toml:3:8
  |
1 | name = \"a\"
  |        --- first used here
2 | # then
3 | name = \"a\"
  |        ^^^ again here
  |
  = hint: rename one of them
"
        );
    }

    #[test]
    fn an_empty_file_still_shows_a_place() {
        assert_eq!(
            show("", Diagnostic::new(0..0, "the lab has no pods")),
            "error: the lab has no pods\n --> lab.toml:1:1\n  |\n1 |\n  | ^\n"
        );
    }

    #[test]
    fn a_span_at_the_end_points_behind_the_last_character() {
        let shown = show("a = \n", Diagnostic::new(5..5, "x"));
        assert_eq!(shown, "error: x\n --> lab.toml:1:5\n  |\n1 | a = \n  |     ^\n");
    }

    #[test]
    fn carriage_returns_tabs_and_wide_characters() {
        let text = "\ta = \"日本\" # x\r\nb = 2\r\n";
        let at = text.find("# x").unwrap_or(0);
        assert_eq!(
            show(text, Diagnostic::new(at..at + 3, "x")),
            "error: x\n --> lab.toml:1:11\n  |\n1 |     a = \"日本\" # x\n  |                ^^^\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let text = format!("a = \"{}\" # {}", "x".repeat(5_000_000), "y".repeat(5_000_000));
        let shown = show(&text, Diagnostic::new(3_000_000..3_000_002, "x"));
        assert!(shown.len() < 1000, "{} bytes", shown.len());
        assert!(shown.contains(" --> lab.toml:1:3000001\n"), "{shown}");
        assert!(shown.contains("^^\n"), "{shown}");
    }

    #[test]
    fn far_places_get_excerpts_of_their_own() {
        let text = format!("a = 1\n{}a = 2\n", "\n".repeat(100));
        let shown = show(&text, Diagnostic::new(106..107, "again").also(0..1, "first"));
        assert_eq!(
            shown,
            "error: again
   --> lab.toml:102:1
    |
102 | a = 2
    | ^
    |
   ::: lab.toml:1:1
    |
  1 | a = 1
    | - first
"
        );
    }

    #[test]
    fn only_fifty_are_rendered() {
        let many = |n| Diagnostics((0..n).map(|_| Diagnostic::new(0..1, "x")).collect());
        let text = |n| many(n).render("f", "a", Colour::Off);
        assert!(text(50).ends_with("^\n"));
        assert!(text(51).ends_with("^\n\nerror: and 1 more problem\n"));
        assert!(text(60).ends_with("^\n\nerror: and 10 more problems\n"));
    }

    #[test]
    fn near_words() {
        let keys = ["cluster_ip", "selector", "ports", "name"];
        assert_eq!(nearest("clusterIP", keys), Some("cluster_ip"));
        assert_eq!(nearest("port", keys), Some("ports"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("zebra", keys), None);
    }

    proptest! {
        #[test]
        fn rendering_never_panics(text in "(?s).{0,300}", a in 0usize..400, b in 0usize..400, c in 0usize..400) {
            let problem = Diagnostic::new(a..b, "x").label("y").also(c..c + 1, "z").hint("w");
            prop_assert!(show(&text, problem.clone()).contains("error: x"));
            Diagnostics(vec![problem]).render("\n\t", &text, Colour::On);
        }
    }
}
