//! Data sets by their names: only the files that are named are fetched, and the same ones by path are the same stage.

use super::*;

const NAMED: &str = "\
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 300 } }
      corpus: [{ hub: data/rows, revision: REVISION, path: \"PATH\" }]
";

/// A hub whose data set has the tiny recipe's corpus in two files, and others beside them.
fn world() -> World {
    let world = super::world();
    let corpus = world.space.read("corpus.txt");
    let (first, second) = corpus.split_at(corpus.find("\n\n").unwrap() + 2);
    let files = |second: &str| {
        let files = [
            ("texts/part-0.txt", first),
            ("texts/part-1.txt", second),
            ("texts/_SUCCESS", ""),
            ("texts/old/part-0.txt", "旧的"),
            ("texts/train.csv", "text,label\n他,甲\n"),
            ("README.md", "# Rows"),
        ];
        files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into_iter().collect::<Files>()
    };
    *world.hub.commits.lock() =
        BTreeMap::from([(FIRST.to_owned(), files(second)), (SECOND.to_owned(), files("别的。\n"))]);
    world
}

impl World {
    fn tokens(&self, path: &str, revision: &str) -> Output {
        self.space.write("recipe.yaml", NAMED.replace("PATH", path).replace("REVISION", revision));
        self.run(&[])
    }
}

#[test]
fn files_of_a_data_set_are_fetched_by_a_glob_and_known_by_what_they_hold() {
    let world = world();
    assert_eq!(status_of("tokens", &world.tokens("texts/part-*.txt", "main")), "ran");
    let mut requests = world.hub.take_requests();
    requests.sort();
    let file = |name: &str| format!("GET /datasets/data/rows/resolve/{FIRST}/texts/{name}");
    let listing = "GET /api/datasets/data/rows/revision/main".to_owned();
    assert_eq!(requests, [listing, file("part-0.txt"), file("part-1.txt")]);
    let repository = world.space.path().join("cache/datasets--data--rows");
    assert_eq!(fs_err::read_to_string(repository.join("refs/main")).unwrap(), FIRST);

    // What `main` was, it stays; another commit is another key.
    *world.hub.main.lock() = SECOND.to_owned();
    assert_eq!(status_of("tokens", &world.tokens("texts/part-*.txt", "main")), "hit");
    assert_eq!(world.hub.take_requests(), Vec::<String>::new());
    assert_eq!(status_of("tokens", &world.tokens("texts/part-*.txt", SECOND)), "ran");

    // The same files by their path are the same stage.
    let snapshot = repository.join("snapshots").join(FIRST);
    for name in ["part-0.txt", "part-1.txt"] {
        world.space.write(&format!("here/{name}"), fs_err::read(snapshot.join("texts").join(name)).unwrap());
    }
    let by_path = NAMED.replace("hub: data/rows, revision: REVISION, path: \"PATH\"", "path: here/*.txt");
    world.space.write("recipe.yaml", by_path);
    assert_eq!(status_of("tokens", &world.run(&[])), "hit");

    // Records tell which commit it was.
    let records = names(&world.space.path().join(".pipe/artifacts"));
    let read = |key: &String| world.space.read(&format!(".pipe/artifacts/{key}/artifact.json"));
    assert!(records.iter().map(read).any(|record| record.contains(&format!("data/rows@{FIRST}"))), "{records:?}");
}

#[test]
fn a_folder_of_a_data_set_is_what_a_folder_is_here() {
    let world = world();
    assert_eq!(status_of("tokens", &world.tokens("texts", "main")), "ran");
    let requests = world.hub.take_requests();
    let mut fetched: Vec<&str> = requests.iter().filter_map(|request| Some(request.split_once("/texts/")?.1)).collect();
    fetched.sort_unstable();
    assert_eq!(fetched, ["part-0.txt", "part-1.txt", "train.csv"]);
    assert_eq!(status_of("tokens", &world.tokens("texts/**/*.txt", "main")), "ran");
    assert!(world.hub.take_requests().iter().any(|request| request.contains("old/part-0.txt")));
}

#[test]
fn rows_of_a_data_set_are_learned_from() {
    let world = world();
    let files = ["train.tsv", "dev.tsv"].map(|name| (name.to_owned(), world.space.read(name).into_bytes()));
    *world.hub.commits.lock() = BTreeMap::from([(FIRST.to_owned(), Files::from(files))]);
    let by_name = TINY
        .replace("{ path: train.tsv }", "{ hub: data/rows, path: train.tsv }")
        .replace("{ path: dev.tsv }", "{ hub: data/rows, path: dev.tsv }");
    assert_ne!(by_name, TINY);
    world.space.write("recipe.yaml", by_name);
    let run = || status_of("topics", &world.run(&["--stage", "topics"]));
    assert_eq!(run(), "ran");
    world.space.write("recipe.yaml", TINY);
    assert_eq!(run(), "hit");
}

#[test]
fn what_a_data_set_lacks_is_said_with_what_it_has() {
    let world = world();
    for (path, revision, expected) in [
        ("texts/part-9.txt", "main", "data/rows has no file `texts/part-9.txt`"),
        ("texts/part-9.txt", "main", "hint: did you mean `texts/part-"),
        ("*.parquet", "main", "no file of data/rows matches `*.parquet`"),
        ("*.parquet", "main", "hint: it has texts/old/part-0.txt, texts/part-0.txt, texts/part-1.txt, texts/train.csv"),
        ("../part-0.txt", "main", "`../part-0.txt` is no file of data/rows"),
        ("texts/part-0.txt", "v9", "data/rows has no revision `v9`"),
    ] {
        let output = world.tokens(path, revision);
        assert_eq!(output.status, 2, "{path}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{path}: {}", output.stderr);
        assert!(output.stderr.contains("--> recipe.yaml:5:"), "{path}: {}", output.stderr);
    }
    for (hub, expected) in [
        ("data/absent", "127.0.0.1 has no data set `data/absent`, or not for everybody"),
        ("modelscope:data/rows", "data sets of ModelScope aren't read by name"),
        ("a b", "`a b` is no data set's name"),
    ] {
        world
            .space
            .write("recipe.yaml", NAMED.replace("data/rows", hub).replace("PATH", "x").replace("REVISION", "main"));
        let output = world.run(&[]);
        assert_eq!(output.status, 2, "{hub}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{hub}: {}", output.stderr);
    }
}
