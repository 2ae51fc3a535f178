//! A small deterministic mutator for the bounded runs: the coverage-guided fuzzer brings its own.

/// Values at which lengths, tags and counters go wrong.
const EDGES: &[u8] =
    &[0x00, 0x01, 0x7f, 0x80, 0x81, 0x90, 0xc0, 0xc1, 0xcf, 0xdf, 0xfe, 0xff, b'.', b'/', b'-', b'\n'];
/// Longest input made.
const MAX_BYTES: usize = 64 * 1024;

/// Makes inputs out of inputs, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// One for a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// splitmix64 (Steele, Lea, Flood 2014): every seed gives another full sequence.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound; 0 for the bound 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap_or(0)
    }

    /// One input, changed in one to four places, or two of them spliced.
    #[must_use]
    pub fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut data = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut data, corpus);
        }
        data.truncate(MAX_BYTES);
        data
    }

    fn change(&mut self, data: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(data.len());
        match self.below(8) {
            0 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << (self.next() % 8);
                }
            }
            1 => {
                let edge = EDGES[self.below(EDGES.len())];
                if let Some(byte) = data.get_mut(at) {
                    *byte = edge;
                }
            }
            2 => data.insert(at, EDGES[self.below(EDGES.len())]),
            3 => data.truncate(at),
            4 => {
                let end = (at + 1 + self.below(16)).min(data.len());
                data.drain(at.min(end)..end);
            }
            5 => {
                let end = (at + 1 + self.below(64)).min(data.len());
                let piece = data[at.min(end)..end].to_vec();
                data.splice(at..at, piece);
            }
            6 => {
                let other = corpus.get(self.below(corpus.len())).map_or(&[][..], Vec::as_slice);
                let from = self.below(other.len());
                data.truncate(at);
                data.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            _ => {
                let byte = u8::try_from(self.next() & 0xff).unwrap_or(0);
                if let Some(old) = data.get_mut(at) {
                    *old = byte;
                }
            }
        }
    }
}
