//! Text in which case does not matter, as JavaScript's regular expressions have it with the flag `i` alone.

/// The character that stands for all that are the same but for case. Source: ECMAScript, "Canonicalize": the capital, if
/// that is one UTF-16 unit and no ASCII for what is none.
pub fn fold(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_uppercase();
    }
    let mut capital = character.to_uppercase();
    match (capital.next(), capital.next()) {
        // The capital of what is two units is two units, too.
        (Some(it), None) if ('\u{80}'..='\u{ffff}').contains(&it) => it,
        _ => character,
    }
}

/// A text, folded, that still knows how it was.
#[derive(Debug)]
pub struct Folded<'a> {
    text: &'a str,
    /// The folded text.
    pub folded: String,
    /// After characters that changed their length: where, folded and as it was.
    shifts: Vec<(usize, usize)>,
}

impl<'a> Folded<'a> {
    /// Folds a text.
    pub fn new(text: &'a str) -> Self {
        if text.is_ascii() {
            return Self { text, folded: text.to_ascii_uppercase(), shifts: Vec::new() };
        }
        let (mut folded, mut shifts) = (String::with_capacity(text.len()), Vec::new());
        for (at, character) in text.char_indices() {
            let capital = fold(character);
            folded.push(capital);
            if capital.len_utf8() != character.len_utf8() {
                shifts.push((folded.len(), at + character.len_utf8()));
            }
        }
        Self { text, folded, shifts }
    }

    /// How a piece of the folded text was.
    pub fn original(&self, start: usize, end: usize) -> &'a str {
        self.text.get(self.place(start)..self.place(end)).unwrap_or_default()
    }

    fn place(&self, at: usize) -> usize {
        match self.shifts[..self.shifts.partition_point(|it| it.0 <= at)].last() {
            Some((folded, text)) => text + (at - folded),
            None => at,
        }
    }
}

#[cfg(test)]
#[path = "folded_tests.rs"]
mod tests;
