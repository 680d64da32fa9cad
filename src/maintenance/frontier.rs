//! How far a walk is treated without a gap, while several objects are treated at a time and end in any order.

use std::collections::BTreeMap;

use super::checkpoint::Note;
use super::progress::Counts;

/// Findings that are remembered.
pub(super) const MOST_NOTES: usize = 100;

/// Objects that were begun, and of those that ended only what is needed: runs of them are kept as one.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    open: BTreeMap<u64, Piece>,
    next: u64,
    /// All up to this position is treated.
    reached: Option<String>,
    counts: Counts,
    /// With the number of the object.
    notes: Vec<(u64, Note)>,
}

#[derive(Debug)]
struct Piece {
    /// Where the walk may begin anew once all up to here is treated.
    position: String,
    ended: Option<Counts>,
}

impl Frontier {
    /// Goes on from where all up to `reached` was treated before.
    pub(super) fn from(reached: Option<String>, counts: Counts, notes: Vec<Note>) -> Self {
        let notes = notes.into_iter().map(|note| (0, note)).collect();
        Self { reached, counts, notes, next: 1, ..Self::default() }
    }

    /// The number of an object that is begun, the next one in the walk.
    pub(super) fn begin(&mut self, position: String) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Piece { position, ended: None });
        number
    }

    /// That object ended.
    pub(super) fn end(&mut self, number: u64, counts: Counts, note: Option<Note>) {
        if let Some(note) = note.filter(|_| self.notes.len() < MOST_NOTES) {
            self.notes.push((number, note));
        }
        let Some(piece) = self.open.get_mut(&number) else { return };
        piece.ended = Some(counts);
        self.join(number);
        while let Some(first) = self.open.first_entry().filter(|first| first.get().ended.is_some()) {
            let piece = first.remove();
            self.counts = std::mem::take(&mut self.counts).and(piece.ended.unwrap_or_default());
            // An empty position says that no key is treated whole yet.
            if !piece.position.is_empty() {
                self.reached = Some(piece.position);
            }
        }
    }

    /// Makes one of neighbours that ended: the later one stands for both.
    fn join(&mut self, number: u64) {
        let neighbour =
            |piece: Option<(&u64, &Piece)>| piece.filter(|(_, piece)| piece.ended.is_some()).map(|(at, _)| *at);
        let before = neighbour(self.open.range(..number).next_back());
        let after = neighbour(self.open.range(number + 1..).next());
        let mut joined = vec![number];
        joined.splice(0..0, before);
        joined.extend(after);
        for pair in joined.windows(2) {
            if let [earlier, later] = pair
                && let Some(counts) = self.open.remove(earlier).and_then(|piece| piece.ended)
                && let Some(piece) = self.open.get_mut(later)
            {
                piece.ended = Some(piece.ended.take().unwrap_or_default().and(counts));
            }
        }
    }

    /// All up to this position is treated; `None` at the beginning.
    pub(super) fn reached(&self) -> Option<&str> {
        self.reached.as_deref()
    }

    /// Of what is treated up to there.
    pub(super) fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// What was found up to there.
    pub(super) fn notes(&self) -> Vec<Note> {
        let end = self.open.keys().next().copied().unwrap_or(self.next);
        self.notes.iter().filter(|(number, _)| *number < end).map(|(_, note)| note.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Counts {
        Counts { listed: 1, done: 1, bytes: 10, ..Counts::default() }
    }

    #[test]
    fn only_what_has_no_gap_counts() {
        let mut frontier = Frontier::default();
        let numbers: Vec<u64> = (0..6).map(|at| frontier.begin(format!("k{at}"))).collect();
        for at in [1, 3, 2, 5] {
            frontier.end(numbers[at], one(), None);
            assert_eq!((frontier.reached(), frontier.counts().done), (None, 0));
        }
        // Three runs: the open first one, 1 to 3 as one, the open fourth one, and the last one.
        assert_eq!(frontier.open.len(), 4);
        frontier.end(numbers[0], one(), None);
        assert_eq!((frontier.reached(), frontier.counts().done, frontier.counts().bytes), (Some("k3"), 4, 40));
        frontier.end(numbers[4], one(), None);
        assert_eq!((frontier.reached(), frontier.counts().done), (Some("k5"), 6));
        assert!(frontier.open.is_empty());
    }

    #[test]
    fn classes_are_counted_up_to_the_gap_as_everything_is() {
        let mut frontier = Frontier::default();
        let numbers: Vec<u64> = (0..4).map(|at| frontier.begin(format!("k{at}"))).collect();
        for (at, class) in [(3, 2), (1, 7), (0, 2)] {
            frontier.end(numbers[at], Counts { classes: [(class, 1)].into(), ..one() }, None);
        }
        assert_eq!(frontier.counts().classes, [(2, 1), (7, 1)].into());
        frontier.end(numbers[2], Counts { classes: [(7, 1)].into(), ..one() }, None);
        assert_eq!(frontier.counts().classes, [(2, 2), (7, 2)].into());
    }

    #[test]
    fn one_slow_object_makes_nothing_grow() {
        let mut frontier = Frontier::default();
        let slow = frontier.begin("a".into());
        for at in 0..10_000 {
            let number = frontier.begin(format!("k{at:05}"));
            frontier.end(number, one(), None);
        }
        assert_eq!(frontier.open.len(), 2);
        frontier.end(slow, one(), None);
        assert_eq!((frontier.reached(), frontier.counts().done), (Some("k09999"), 10_001));
    }

    #[test]
    fn findings_beyond_a_gap_are_found_again() {
        let note = |key: &str| Note { key: key.into(), version: None, error: "bad".into() };
        let mut frontier = Frontier::from(Some("a".into()), one(), vec![note("a")]);
        let numbers: Vec<u64> = ["b", "c", "d"].iter().map(|key| frontier.begin((*key).into())).collect();
        frontier.end(numbers[0], one(), Some(note("b")));
        frontier.end(numbers[2], one(), Some(note("d")));
        assert_eq!(frontier.notes(), [note("a"), note("b")]);
        assert_eq!((frontier.reached(), frontier.counts().done), (Some("b"), 2));
        frontier.end(numbers[1], one(), None);
        assert_eq!(frontier.notes(), [note("a"), note("b"), note("d")]);
    }
}
