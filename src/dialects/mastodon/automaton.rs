//! Many words, looked for in one pass over a text whatever their number.
//!
//! The automaton of Aho and Corasick, in little memory: 17 bytes for each byte of a word at most, whatever the words
//! are. Libraries copy to each state the words that end there, which hostile words make large without end; here they are
//! linked. Source: Aho and Corasick, "Efficient string matching", 1975.

/// No word, no state.
const NONE: u32 = u32::MAX;

/// Words, prepared. A state is a beginning of some word; those with the same beginning follow each other, as the states
/// are in order of length and then of bytes.
#[derive(Debug)]
pub struct Automaton {
    /// The last byte of each state; the first state, the empty one, has none.
    last: Vec<u8>,
    /// The first state that goes on from each, and, last, how many states there are.
    next: Vec<u32>,
    /// The longest state that is an end of each, other than itself.
    fallback: Vec<u32>,
    /// The word that each state is.
    word: Vec<u32>,
    /// The longest state that is an end of each, other than itself, and a word.
    shorter: Vec<u32>,
    /// Where each byte leads from the empty state.
    first: [u32; 256],
}

impl Automaton {
    /// Prepares words, which are sorted and differ, none of them empty; all together they have less than 2^32 bytes.
    pub fn new(words: &[&[u8]]) -> Self {
        assert!(
            words.is_sorted_by(|a, b| a < b) && words.first() != Some(&&b""[..]),
            "sorted, not empty"
        );
        let mut made = Self {
            last: vec![0],
            next: Vec::new(),
            fallback: vec![0],
            word: vec![NONE],
            shorter: vec![NONE],
            first: [0; 256],
        };
        // The states of one length, each with the words that begin so; all that the loop needs of the trie.
        let (mut level, mut length) = (vec![(0, words.len())], 0);
        while !level.is_empty() {
            let mut longer = Vec::new();
            for (start, end) in level {
                let state = made.next.len();
                made.next.push(made.last.len() as u32);
                let mut at = start;
                while at < end {
                    let Some(&byte) = words[at].get(length) else {
                        // The state itself: shorter words come first.
                        made.word[state] = at as u32;
                        at += 1;
                        continue;
                    };
                    let same = words[at..end].partition_point(|it| it.get(length) == Some(&byte));
                    longer.push((at, at + same));
                    at += same;
                    made.last.push(byte);
                    made.word.push(NONE);
                }
            }
            (level, length) = (longer, length + 1);
        }
        made.next.push(made.last.len() as u32);
        for state in made.next[0]..made.next[1] {
            made.first[usize::from(made.last[state as usize])] = state;
        }
        made.fallback.resize(made.last.len(), 0);
        made.shorter.resize(made.last.len(), NONE);
        for state in 0..made.last.len() {
            // Whatever is shorter is done.
            for longer in made.next[state]..made.next[state + 1] {
                let longer = longer as usize;
                if state != 0 {
                    made.fallback[longer] = made.step(made.fallback[state], made.last[longer]);
                }
                let fallback = made.fallback[longer] as usize;
                let is_word = made.word[fallback] != NONE;
                made.shorter[longer] =
                    if is_word { fallback as u32 } else { made.shorter[fallback] };
            }
        }
        made
    }

    /// The longest state that is an end of `state` and one more byte.
    fn step(&self, mut state: u32, byte: u8) -> u32 {
        while state != 0 {
            let (start, end) = (self.next[state as usize], self.next[state as usize + 1]);
            let longer = &self.last[start as usize..end as usize];
            if let Some(i) = memchr::memchr(byte, longer) {
                return start + i as u32;
            }
            state = self.fallback[state as usize];
        }
        self.first[usize::from(byte)]
    }

    /// Tells `found` each word of a text and where it ends, in order of that, the longest first; stops after
    /// `words_max`.
    pub fn find(&self, text: &[u8], mut words_max: usize, mut found: impl FnMut(usize, usize)) {
        let mut state = 0;
        for (at, byte) in text.iter().enumerate() {
            state = self.step(state, *byte);
            let mut end = state;
            if self.word[end as usize] == NONE {
                end = self.shorter[end as usize];
            }
            while end != NONE {
                if words_max == 0 {
                    return;
                }
                words_max -= 1;
                found(self.word[end as usize] as usize, at + 1);
                end = self.shorter[end as usize];
            }
        }
    }

    /// How many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.last.len() * (1 + 4 * size_of::<u32>()) + size_of::<Self>()
    }
}

#[cfg(test)]
#[path = "automaton_tests.rs"]
mod tests;
