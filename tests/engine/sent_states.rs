//! What a computation resumes from, sent from one machine to another by a remote.

use std::path::{Path, PathBuf};

use pipe::engine::{
    remote::Remote,
    store::{State, Store},
};

use crate::common::Space;

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Machine {
    space: Space,
    remote: Remote,
}

impl Machine {
    fn new(url: &str) -> Self {
        let space = Space::new();
        let store = Store::open(&space.path().join("store")).unwrap();
        Self { remote: Remote::open(url, &store, |_| ()).unwrap(), space }
    }

    fn state(&self) -> State {
        State::new(self.space.path().join("state"), KEY)
    }

    /// Keeps files of these names and contents, and sends the state.
    fn send(&self, files: &[(&str, &str)], body: u32) {
        let state = self.state();
        let seal = |(name, text): &(&str, &str)| {
            std::fs::write(state.place(name).unwrap(), text).unwrap();
            state.seal(name).unwrap()
        };
        state.keep(files.iter().map(seal).collect(), &body).unwrap();
        self.remote.send_state(KEY, &state).unwrap();
    }

    /// What is brought, if that can be done.
    fn brought(&self) -> Option<u32> {
        let state = self.state();
        self.remote.bring_state(KEY, state.dir()).unwrap();
        state.read().unwrap()
    }
}

/// A remote's directory, the files in it of the computation, and two machines that see it.
fn world() -> (Space, PathBuf, [Machine; 2]) {
    let remote = Space::new();
    let url = format!("file://{}", remote.path().display());
    let folder = remote.path().join("v1/files/states").join(KEY);
    let machines = [Machine::new(&url), Machine::new(&url)];
    (remote, folder, machines)
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_state_that_was_sent_is_brought_as_it_was() {
    let (_remote, folder, [one, other]) = world();
    assert_eq!(other.brought(), None, "nothing was sent yet");
    let long = "w".repeat(20 << 20);
    one.send(&[("weights", &long), ("order", "1")], 20);
    assert_eq!(other.brought(), Some(20));
    // The next one takes its place, and what both have isn't sent twice.
    let stamp = |digest: &str| std::fs::metadata(folder.join(digest)).unwrap().modified().unwrap();
    let weights = blake3::hash(long.as_bytes()).to_hex().to_string();
    let before = stamp(&weights);
    one.send(&[("weights", &long), ("order", "2")], 40);
    assert_eq!((count(&folder), stamp(&weights)), (3, before));
    assert_eq!(other.brought(), Some(40));
    assert_eq!(std::fs::read_to_string(other.state().dir().join("order")).unwrap(), "2");
    one.remote.forget_state(KEY);
    assert_eq!(count(&folder), 0);
}

#[test]
fn a_state_that_is_not_whole_there_is_not_brought() {
    let (_remote, folder, [one, other]) = world();
    one.send(&[("weights", "some weights")], 20);
    let weights = folder.join(blake3::hash(b"some weights").to_hex().as_str());
    std::fs::write(&weights, "same length!").unwrap();
    let refused = || other.remote.bring_state(KEY, other.state().dir()).unwrap_err();
    assert!(format!("{:#}", refused()).contains("can't bring a state from file://"));
    assert_eq!(other.state().read::<u32>().unwrap(), None);
    let record = folder.join(State::RECORD);
    let text = std::fs::read_to_string(&record).unwrap().replace("20", "21");
    std::fs::write(&record, text).unwrap();
    assert!(format!("{:#}", refused()).contains("damaged"), "{:#}", refused());
}

#[test]
fn files_of_a_state_stay_in_its_folder() {
    let (_remote, folder, [one, other]) = world();
    one.send(&[("weights", "some weights")], 20);
    let record = folder.join(State::RECORD);
    let text = std::fs::read_to_string(&record).unwrap();
    let json = text.split_once('\n').unwrap().1.replace("\"weights\"", "\"../../weights\"");
    std::fs::write(&record, format!("{}\n{json}", blake3::hash(json.as_bytes()))).unwrap();
    let _ = other.remote.bring_state(KEY, other.state().dir());
    assert!(!other.space.path().join("../weights").exists() && !other.space.path().join("weights").exists());
}
