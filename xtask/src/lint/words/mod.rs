//! Checks for words and phrases that `docs/STYLE.md` replaces.

mod list;

use std::path::Path;

use self::list::{LIST, Refused};
use super::files;
use crate::Error;

/// Files that explain the words, and so contain them.
const EXEMPT: [&str; 2] = ["docs/STYLE.md", "xtask/src/lint/words/list.rs"];

/// The markers at the start of lines of comments, quotations, lists and tables. A phrase may continue after one.
const LINE_STARTS: [&str; 8] = ["///", "//!", "//", "#", "--", "*", ">", "|"];

/// Returns every refused word in the names and texts of the repository's files.
pub(super) fn violations(root: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    files::each_text(root, &mut |path, text| {
        if !EXEMPT.contains(&path) {
            found.extend(of_name(path));
            found.extend(of_text(path, text));
        }
    })?;
    Ok(found)
}

fn of_name(path: &str) -> Vec<String> {
    let characters: Vec<(char, usize)> = path.chars().map(|character| (character, 0)).collect();
    let used = LIST.iter().filter(|refused| !places(&characters, refused.text).is_empty());
    used.map(|refused| format!("{path}: rename the file: {}", advice(refused))).collect()
}

fn of_text(path: &str, text: &str) -> Vec<String> {
    let characters = characters(text);
    let mut found = Vec::new();
    for refused in LIST {
        for place in places(&characters, refused.text) {
            found.push((characters[place].1, format!("{path}:{}: {}", characters[place].1, advice(refused))));
        }
    }
    found.sort_by_key(|(line, _)| *line);
    found.into_iter().map(|(_, message)| message).collect()
}

fn advice(refused: &Refused) -> String {
    format!("\"{}\" is refused; write instead: {}", refused.text, refused.instead)
}

/// Returns the characters of a text with their lines. A line break and the next line's markers become one space.
fn characters(text: &str) -> Vec<(char, usize)> {
    let mut characters = Vec::with_capacity(text.len());
    for (index, line) in text.lines().enumerate() {
        let mut line = line.trim().trim_end_matches('\\').trim_end();
        while let Some(rest) = LINE_STARTS.iter().find_map(|start| line.strip_prefix(start)) {
            line = rest.trim_start();
        }
        let mut last_is_space = false;
        for character in line.chars().map(|character| if character.is_whitespace() { ' ' } else { character })
        {
            if !(character == ' ' && last_is_space) {
                characters.push((character, index + 1));
            }
            last_is_space = character == ' ';
        }
        characters.push((' ', index + 1));
    }
    characters
}

/// Returns the places of a word or phrase, in any case, as whole words, and with `_` or `-` for a space.
fn places(characters: &[(char, usize)], refused: &str) -> Vec<usize> {
    let refused: Vec<char> = refused.chars().collect();
    let is_phrase = refused.contains(&' ');
    let is_same = |wanted: char, found: char| {
        found.to_lowercase().eq([wanted]) || (wanted == ' ' && matches!(found, '_' | '-'))
    };
    let starts = 0..characters.len().saturating_sub(refused.len() - 1);
    let places = starts.filter(|&start| {
        let end = start + refused.len();
        let found = &characters[start..end];
        found.iter().zip(&refused).all(|((found, _), wanted)| is_same(*wanted, *found))
            && starts_a_word(start.checked_sub(1).map(|before| characters[before].0), found[0].0)
            // A word also matches with an ending; a phrase must not run on into another word.
            && !(is_phrase && continues(found[found.len() - 1].0, characters.get(end).map(|(after, _)| *after)))
    });
    places.collect()
}

/// A word starts after anything except a letter, and at a capital in `CamelCase`.
fn starts_a_word(before: Option<char>, first: char) -> bool {
    before.is_none_or(|before| !before.is_alphabetic() || (before.is_lowercase() && first.is_uppercase()))
}

fn continues(last: char, after: Option<char>) -> bool {
    last.is_alphabetic() && after.is_some_and(|after| after.is_alphabetic() && !after.is_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_list_is_refused_in_any_case() {
        for refused in LIST {
            for text in [refused.text.to_owned(), refused.text.to_uppercase()] {
                let found = of_text("a.md", &format!("first\n{text} 2\n"));
                let expected = format!("a.md:2: {}", advice(refused));
                assert_eq!(found, [expected], "{text}");
            }
        }
    }

    #[test]
    fn a_word_is_refused_in_an_identifier_and_with_an_ending() {
        let [first, second, third, phrase] = [1, 2, 4, 11].map(|index| LIST[index].text);
        let capital = |text: &str| text[..1].to_uppercase() + &text[1..];
        for text in [
            format!("is_{first}"),
            format!("{first}_lanes"),
            format!("IsNot{}Yet", capital(first)),
            format!("{}Of", capital(second)),
            format!("{third}n"),
            format!("who_is_{}", phrase.replace(' ', "_")),
        ] {
            assert_eq!(of_text("a.rs", &text).len(), 1, "{text}");
        }
    }

    #[test]
    fn parts_of_other_words_are_allowed() {
        let [first, second, phrase, other] = [1, 2, 9, 12].map(|index| LIST[index].text);
        for text in [
            format!("f{first} m{first} tr{first} TR{}", first.to_uppercase()),
            format!("im{second}"),
            format!("{phrase}gin"),
            format!("softw{other}"),
        ] {
            assert_eq!(of_text("a.rs", &text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_phrase_is_found_over_the_end_of_a_line() {
        let phrase = LIST[9].text;
        for separator in ["\n", "  \n    /// ", "\n//! ", "\n    -- ", " \\\n      ", "\n> "] {
            let text = format!("x {}\n", phrase.replacen(' ', separator, 1));
            let found = of_text("a.rs", &text);
            assert_eq!(found, [format!("a.rs:1: {}", advice(&LIST[9]))], "{text}");
        }
    }

    #[test]
    fn a_file_name_is_text_too() {
        let path = format!("store/tests/it/{}.rs", LIST[2].text);
        assert_eq!(of_name(&path), [format!("{path}: rename the file: {}", advice(&LIST[2]))]);
    }
}
