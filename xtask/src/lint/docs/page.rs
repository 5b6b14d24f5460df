use std::collections::BTreeSet;

/// The parts of a Markdown page that the checks read.
#[derive(Debug)]
pub(super) struct Page {
    /// The text with its fenced blocks blanked out, so that lines keep their numbers.
    pub(super) prose: String,
    pub(super) spans: Vec<Span>,
    pub(super) links: Vec<Link>,
    /// The fragments of its headings.
    pub(super) anchors: BTreeSet<String>,
    pub(super) blocks: Vec<Block>,
}

/// A code span: text between backticks.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) text: String,
    pub(super) line: usize,
    /// The place in the prose where its first backtick starts.
    pub(super) start: usize,
    /// The place in the prose after its last backtick.
    pub(super) end: usize,
}

/// The target of a link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) target: String,
    pub(super) line: usize,
}

/// A fenced block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) language: String,
    /// The number of its first line of text.
    pub(super) line: usize,
    pub(super) text: String,
}

impl Page {
    pub(super) fn of(text: &str) -> Self {
        let (prose, blocks) = without_blocks(text);
        let (spans, outside) = spans(&prose);
        let links = links(&outside);
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let anchors = headings.map(|line| anchor(line.trim_start_matches('#'))).collect();
        Self { prose, spans, links, anchors, blocks }
    }
}

fn without_blocks(text: &str) -> (String, Vec<Block>) {
    let mut prose = String::with_capacity(text.len());
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, None) => prose.push_str(line),
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.trim().to_owned(),
                    line: index + 2,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
        prose.push('\n');
    }
    blocks.extend(open);
    (prose, blocks)
}

/// Returns the code spans of a prose, and the prose with them blanked out.
fn spans(prose: &str) -> (Vec<Span>, String) {
    let mut outside = prose.to_owned();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = prose[at..].find('`') {
        let start = at + offset;
        let ticks: String = prose[start..].chars().take_while(|character| *character == '`').collect();
        let inner = start + ticks.len();
        let paragraph = prose[inner..].find("\n\n").map_or(prose.len(), |end| inner + end);
        let Some(length) = prose[inner..paragraph].find(&ticks) else {
            at = inner;
            continue;
        };
        let end = inner + length + ticks.len();
        let text = prose[inner..inner + length].split_whitespace().collect::<Vec<_>>().join(" ");
        found.push(Span { text, line: line_of(prose, start), start, end });
        let blank: String =
            prose[start..end].chars().map(|character| if character == '\n' { '\n' } else { ' ' }).collect();
        // With other characters than ASCII the lengths would differ. A link in such a span is rare and harmless.
        if blank.len() == end - start {
            outside.replace_range(start..end, &blank);
        }
        at = end;
    }
    (found, outside)
}

/// Returns the targets of `[text](target)` and `[name]: target`.
fn links(prose: &str) -> Vec<Link> {
    let inline = prose.match_indices("](").filter_map(|(start, opening)| {
        let rest = &prose[start + opening.len()..];
        let target = rest.split([')', '\n', ' ']).next()?;
        Some(Link { target: target.to_owned(), line: line_of(prose, start) })
    });
    let references = prose.lines().enumerate().filter_map(|(index, line)| {
        let (_, target) = line.strip_prefix('[')?.split_once("]: ")?;
        Some(Link { target: target.trim().to_owned(), line: index + 1 })
    });
    inline.chain(references).collect()
}

/// Returns GitHub's fragment for a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        character if character.is_alphanumeric() => Some(character),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

pub(super) fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Way of an `event`, 2\n\
        See `a::b` and `` `c` ``, [here](x.md#y),\n\
        or `two\nwords`. A lone ` is none.\n\n\
        ```rust\nlet `x` = 1;\n```\n[`d`]: z.md\n`last`\n";

    #[test]
    fn spans_are_read_with_their_lines() {
        let page = Page::of(TEXT);
        let spans: Vec<_> = page.spans.iter().map(|span| (span.text.as_str(), span.line)).collect();
        assert_eq!(spans, [("event", 1), ("a::b", 2), ("`c`", 2), ("two words", 3), ("d", 9), ("last", 10)]);
    }

    #[test]
    fn links_headings_and_blocks_are_read() {
        let page = Page::of(TEXT);
        let links: Vec<_> = page.links.iter().map(|link| (link.target.as_str(), link.line)).collect();
        assert_eq!(links, [("x.md#y", 2), ("z.md", 9)]);
        assert!(page.anchors.contains("way-of-an-event-2"), "{:?}", page.anchors);
        let blocks: Vec<_> = page
            .blocks
            .iter()
            .map(|block| (block.language.as_str(), block.line, block.text.as_str()))
            .collect();
        assert_eq!(blocks, [("rust", 7, "let `x` = 1;\n")]);
    }
}
