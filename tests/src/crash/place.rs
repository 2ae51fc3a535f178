//! A directory under the shim, and what a power cut may leave of it.
//!
//! A state is the image of the last barriers, plus a random part of what came after: each changed block (512 B or
//! 4 KiB), each growth and each change of a name is kept with probability p. A rename is kept whole or not at all, and
//! names are removed only after all new ones are there: file systems with a journal keep that order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::rng::Rng;

/// How much of the unsynced a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Chance of each part, in permille.
    pub keep: u64,
    /// Bytes that a drive writes at once.
    pub block: usize,
}

/// reliability.md: p = 0, 0.1, 0.5, 0.9, 0.97, in sectors and in pages.
pub const CUTS: [Cut; 10] = {
    const KEEP: [u64; 5] = [0, 100, 500, 900, 970];
    let mut cuts = [Cut { keep: 0, block: 512 }; 10];
    let mut n = 0;
    while n < 10 {
        cuts[n] = Cut { keep: KEEP[n / 2], block: if n % 2 == 0 { 512 } else { 4096 } };
        n += 1;
    }
    cuts
};

/// A root directory and its durable image, both removed in the end.
#[derive(Debug)]
pub struct Place {
    base: tempfile::TempDir,
}

/// Inode and whether it is a directory.
type Names = BTreeMap<String, (u64, bool)>;

impl Place {
    /// An empty place.
    ///
    /// # Panics
    /// When the disk does not take it; so do all functions here, because a test that goes on would prove nothing.
    #[must_use]
    pub fn new() -> Self {
        let base = tempfile::Builder::new().prefix("crash-").tempdir().expect("a temporary directory");
        let place = Self { base };
        fs::create_dir(place.root()).expect("a fresh directory");
        place.settle();
        place
    }

    /// What the process under test works in.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.base.path().join("image")
    }

    /// A path beside the root, for what belongs to the test.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// Declares everything that is there now durable.
    pub fn settle(&self) {
        let image = self.image();
        let _ = fs::remove_dir_all(&image);
        for part in ["i", "d", "h", "b"] {
            fs::create_dir_all(image.join(part)).expect("a fresh directory");
        }
        for entry in walkdir::WalkDir::new(self.root()).into_iter().filter_map(Result::ok) {
            let meta = entry.metadata().expect("nobody else works here");
            let ino = meta.ino().to_string();
            if meta.is_dir() {
                let lines: String = names(entry.path())
                    .iter()
                    .map(|(name, (ino, dir))| format!("{ino} {} {name}\n", if *dir { 'd' } else { 'f' }))
                    .collect();
                fs::write(image.join("d").join(ino), lines).expect("the image is writable");
            } else if meta.is_file() {
                fs::copy(entry.path(), image.join("i").join(&ino)).expect("the image is writable");
                let _ = fs::hard_link(entry.path(), image.join("h").join(&ino)); // a second name of one file
            }
        }
    }

    /// Replaces the root by a state that was built before, and declares it durable.
    pub fn restart_from(&self, state: &Path) {
        fs::remove_dir_all(self.root()).expect("nobody else works here");
        fs::rename(state, self.root()).expect("the same file system");
        self.settle();
    }

    /// Builds in `out` what a power cut may leave.
    pub fn cut(&self, cut: Cut, rng: &mut Rng, out: &Path) {
        let _ = fs::remove_dir_all(out);
        let mut live = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.root()).into_iter().filter_map(Result::ok) {
            if let Ok(meta) = entry.metadata() {
                live.insert(meta.ino(), entry.path().to_owned());
            }
        }
        let root = fs::metadata(self.root()).expect("it is there").ino();
        Builder { image: self.image(), live, cut }.dir(root, rng, out);
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

fn names(dir: &Path) -> Names {
    let mut found = Names::new();
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() || meta.is_file() {
            found.insert(entry.file_name().to_string_lossy().into_owned(), (meta.ino(), meta.is_dir()));
        }
    }
    found
}

struct Builder {
    image: PathBuf,
    live: BTreeMap<u64, PathBuf>,
    cut: Cut,
}

impl Builder {
    fn dir(&self, ino: u64, rng: &mut Rng, out: &Path) {
        fs::create_dir_all(out).expect("the temporary directory is writable");
        if let Some(meta) = self.live.get(&ino).and_then(|path| fs::metadata(path).ok()) {
            fs::set_permissions(out, meta.permissions()).expect("the directory is ours");
        }
        for (name, (ino, is_dir)) in self.chosen(ino, rng) {
            let to = out.join(name);
            if is_dir { self.dir(ino, rng, &to) } else { self.file(ino, rng, &to) }
        }
    }

    /// The names that are left of a directory.
    fn chosen(&self, ino: u64, rng: &mut Rng) -> Names {
        let text = fs::read_to_string(self.image.join("d").join(ino.to_string())).unwrap_or_default();
        let mut durable = Names::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ' ');
            if let (Some(ino), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) {
                durable.insert(name.to_owned(), (ino.parse().unwrap_or(0), kind == "d"));
            }
        }
        let live = self.live.get(&ino).map(|path| names(path)).unwrap_or_default();
        let mut changed: BTreeSet<&String> =
            durable.keys().chain(live.keys()).filter(|name| durable.get(*name) != live.get(*name)).collect();
        let mut out = durable.clone();
        let mut removals = Vec::new();
        let mut all_new = true;
        while let Some(first) = changed.pop_first() {
            // Names that share an inode belong to one rename.
            let mut group = vec![first];
            let mut n = 0;
            while let Some(name) = group.get(n).copied() {
                let inodes: BTreeSet<u64> =
                    [durable.get(name), live.get(name)].into_iter().flatten().map(|(ino, _)| *ino).collect();
                let touches = |other: &String| {
                    [durable.get(other), live.get(other)]
                        .into_iter()
                        .flatten()
                        .any(|(ino, _)| inodes.contains(ino))
                };
                let more: Vec<&String> = changed.iter().copied().filter(|other| touches(other)).collect();
                for name in more {
                    changed.remove(name);
                    group.push(name);
                }
                n += 1;
            }
            if group.iter().all(|name| !live.contains_key(*name)) {
                removals.extend(group);
            } else if rng.chance(self.cut.keep) {
                take(&mut out, &live, &group);
            } else {
                all_new = false;
            }
        }
        if all_new {
            removals.retain(|_| rng.chance(self.cut.keep));
            take(&mut out, &live, &removals);
        }
        out
    }

    fn file(&self, ino: u64, rng: &mut Rng, out: &Path) {
        let held = self.image.join("h").join(ino.to_string());
        let durable = fs::read(self.image.join("i").join(ino.to_string())).unwrap_or_default();
        let source = if held.exists() { Some(&held) } else { self.live.get(&ino) };
        let live = source.and_then(|path| fs::read(path).ok());
        let Some(live) = live else {
            fs::write(out, durable).expect("the temporary directory is writable");
            return;
        };
        let bytes = mix(&durable, &live, self.cut, rng);
        fs::write(out, bytes).expect("the temporary directory is writable");
        if let Some(meta) = source.and_then(|path| fs::metadata(path).ok()) {
            fs::set_permissions(out, meta.permissions()).expect("the file is ours");
        }
    }
}

fn take(out: &mut Names, live: &Names, group: &[&String]) {
    for name in group {
        match live.get(*name) {
            Some(item) => drop(out.insert((*name).clone(), *item)),
            None => drop(out.remove(*name)),
        }
    }
}

/// The durable bytes with a part of the changed blocks and of the changed length.
fn mix(durable: &[u8], live: &[u8], cut: Cut, rng: &mut Rng) -> Vec<u8> {
    let length = if live.len() == durable.len() || rng.chance(cut.keep) {
        live.len()
    } else if live.len() < durable.len() || cut.keep == 0 {
        durable.len()
    } else {
        let grown = (live.len() - durable.len()) / cut.block;
        durable.len() + usize::try_from(rng.below(grown as u64 + 1)).unwrap_or(0) * cut.block
    };
    let mut out = durable.to_vec();
    out.resize(length, 0);
    let mut at = 0;
    while at < length {
        let end = (at + cut.block).min(length);
        let fresh = live.get(at..end.min(live.len())).unwrap_or_default();
        if out.get(at..at + fresh.len()) != Some(fresh)
            && rng.chance(cut.keep)
            && let Some(slot) = out.get_mut(at..at + fresh.len())
        {
            slot.copy_from_slice(fresh);
        }
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_kept_is_the_image_and_all_kept_is_the_disk() {
        let place = Place::new();
        fs::write(place.root().join("a"), [1; 9000]).unwrap();
        place.settle();
        fs::write(place.root().join("a"), [2; 20_000]).unwrap();
        fs::write(place.root().join("a.tmp"), [3; 10]).unwrap();
        fs::rename(place.root().join("a.tmp"), place.root().join("b")).unwrap();
        let out = place.beside("out");
        let mut rng = Rng::new(1, 1);
        place.cut(Cut { keep: 0, block: 512 }, &mut rng, &out);
        assert_eq!((fs::read(out.join("a")).unwrap(), out.join("b").exists()), (vec![1; 9000], false));
        place.cut(Cut { keep: 1000, block: 512 }, &mut rng, &out);
        assert_eq!(fs::read(out.join("a")).unwrap(), vec![2; 20_000]);
        assert_eq!(fs::read(out.join("b")).unwrap(), vec![3; 10]);
        let mut lengths = BTreeSet::new();
        for _ in 0..50 {
            place.cut(Cut { keep: 500, block: 4096 }, &mut rng, &out);
            let bytes = fs::read(out.join("a")).unwrap();
            lengths.insert(bytes.len());
            assert!(bytes.len() >= 9000 && bytes.chunks(4096).all(|b| !b.is_empty()));
        }
        assert!(lengths.len() > 2, "{lengths:?}");
    }

    #[test]
    fn a_rename_is_whole() {
        let place = Place::new();
        fs::write(place.root().join("f"), b"old").unwrap();
        place.settle();
        fs::write(place.root().join("f.tmp"), b"new").unwrap();
        // Its content was synced, its name was not.
        let ino = fs::metadata(place.root().join("f.tmp")).unwrap().ino().to_string();
        fs::copy(place.root().join("f.tmp"), place.image().join("i").join(ino)).unwrap();
        fs::rename(place.root().join("f.tmp"), place.root().join("f")).unwrap();
        let mut seen = BTreeSet::new();
        let (out, mut rng) = (place.beside("out"), Rng::new(2, 1));
        for _ in 0..64 {
            place.cut(Cut { keep: 500, block: 512 }, &mut rng, &out);
            seen.insert(fs::read(out.join("f")).unwrap());
        }
        assert_eq!(seen, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
    }
}
