//! What git has of a repository at another commit, by the `git` command: nothing is checked out, and no branch or file of the
//! working tree changes.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;

use crate::support::Hinted;

/// A repository, by the root of its working tree.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    pub(super) root: PathBuf,
}

/// A file of a commit.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// From the root.
    pub(super) path: PathBuf,
    /// Whether it's a file with bytes of its own, and no link or other repository.
    pub(super) is_file: bool,
}

impl Repository {
    /// The one that a directory is in.
    ///
    /// # Errors
    /// If it's in none, or there is no `git`.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let root = succeeded(Command::new("git").arg("-C").arg(here).args(["rev-parse", "--show-toplevel"]))?;
        let root = String::from_utf8(root).context("the repository's path isn't UTF-8")?;
        Ok(Self { root: fs::canonicalize(root.trim_end_matches(['\n', '\r']))? })
    }

    /// The commit that a revision names. In a clone that lacks it, a remote's branch (`origin/main`) or a whole commit's name
    /// is fetched: that commit, and in a shallow clone nothing before it.
    ///
    /// # Errors
    /// If there's no such commit, or it can't be fetched.
    pub(super) fn commit(&self, revision: &str) -> Result<String> {
        if let Some(commit) = self.known(revision)? {
            return Ok(commit);
        }
        let is_shallow = self.text(["rev-parse", "--is-shallow-repository"])? == "true";
        let depth: &[&str] = if is_shallow { &["--depth=1"] } else { &[] };
        let remotes = self.text(["remote"])?;
        let named = remotes.lines().find_map(|remote| {
            let branch = revision.strip_prefix(remote)?.strip_prefix('/')?;
            Some((remote, format!("+refs/heads/{branch}:refs/remotes/{remote}/{branch}")))
        });
        let is_commit = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let wanted = named.or_else(|| Some((remotes.lines().next().filter(|_| is_commit)?, revision.to_owned())));
        let fetched = wanted.map(|(remote, what)| {
            let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
            succeeded(self.git().args(fetch).args(depth).arg(remote).arg(what))
        });
        let reason = match fetched {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(format!("{error:#}")),
            None => None,
        };
        if let Some(commit) = self.known(revision)? {
            return Ok(commit);
        }
        let reason = reason.map(|reason| format!(", and it can't be fetched: {reason}")).unwrap_or_default();
        if is_shallow {
            let message = format!("the clone is shallow and lacks the base `{revision}`{reason}");
            let hint = "set `fetch-depth: 0` for actions/checkout (GIT_DEPTH for GitLab), or name a base that can be \
                        fetched alone: a remote's branch such as origin/main";
            bail!(Hinted::with(message, hint.to_owned()));
        }
        bail!(Hinted::with(
            format!("git knows no base `{revision}`{reason}"),
            "--base takes whatever git knows as a commit: origin/main, HEAD~1, a tag".to_owned(),
        ))
    }

    fn known(&self, revision: &str) -> Result<Option<String>> {
        let name = format!("{revision}^{{commit}}");
        let found = run(self.git().args(["rev-parse", "--verify", "--quiet", "--end-of-options", &name]))?;
        let commit = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        // A shallow clone knows the names of commits that it lacks.
        Ok(Some(commit).filter(|_| found.status.success()).filter(|commit| self.has(commit)))
    }

    fn has(&self, commit: &str) -> bool {
        run(self.git().args(["cat-file", "-e", commit])).is_ok_and(|output| output.status.success())
    }

    /// All files of a commit at or below a path.
    ///
    /// # Errors
    /// If git fails.
    pub(super) fn files(&self, commit: &str, below: &Path) -> Result<Vec<Entry>> {
        let mut git = self.git();
        git.args(["ls-tree", "-r", "-z", "--full-tree", commit]);
        if !below.as_os_str().is_empty() {
            git.arg("--").arg(below);
        }
        let listed = succeeded(&mut git)?;
        let entry = |line: &[u8]| {
            let at = line.iter().position(|&byte| byte == b'\t')?;
            Some(Entry { path: path(&line[at + 1..]), is_file: line.starts_with(b"100") })
        };
        Ok(listed.split(|&byte| byte == 0).filter_map(entry).collect())
    }

    /// The files at or below a path that aren't in the working tree as they are in a commit.
    ///
    /// # Errors
    /// If git fails.
    pub(super) fn changed(&self, commit: &str, below: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut git = self.git();
        git.args(["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules", commit]);
        names(&mut git, below)
    }

    /// The files at or below a path that git tracks now.
    ///
    /// # Errors
    /// If git fails.
    pub(super) fn tracked(&self, below: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut git = self.git();
        git.args(["ls-files", "-z", "--full-name"]);
        names(&mut git, below)
    }

    /// Whether git is told to ignore a path.
    pub(super) fn ignores(&self, path: &Path) -> bool {
        // It takes names, and refuses to be told so.
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.root).args(["check-ignore", "--quiet", "--"]).arg(path);
        run(&mut git).is_ok_and(|output| output.status.success())
    }

    /// What a file of a commit holds; `None` if there's no such file. As much as a checkout would write, but for large files
    /// that lie elsewhere (LFS): of these it's the pointer.
    ///
    /// # Errors
    /// If git fails.
    pub(super) fn contents(&self, commit: &str, file: &Path) -> Result<Option<Vec<u8>>> {
        if !self.files(commit, file)?.iter().any(|entry| entry.path == file && entry.is_file) {
            return Ok(None);
        }
        succeeded(&mut self.cat(commit, file)).map(Some)
    }

    /// Writes what a file of a commit holds, as [`Self::contents`].
    ///
    /// # Errors
    /// If git fails, or the file can't be written.
    pub(super) fn write(&self, commit: &str, file: &Path, to: &Path) -> Result<()> {
        let mut child = self.cat(commit, file).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context(NO_GIT)?;
        let mut out = fs::File::create(to)?;
        let mut from = child.stdout.take().context("git has no output")?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                read => out.write_all(&buffer[..read])?,
            }
        }
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "git: {}", said(&output));
        Ok(())
    }

    fn cat(&self, commit: &str, file: &Path) -> Command {
        let mut name = std::ffi::OsString::from(format!("{commit}:"));
        name.push(file);
        let mut git = self.git();
        git.args(["cat-file", "--filters"]).arg(name).env("GIT_LFS_SKIP_SMUDGE", "1");
        git
    }

    /// Where git keeps a large file of this hash, if it has it.
    pub(super) fn large_file(&self, sha256: &str) -> Option<PathBuf> {
        let common = self.text(["rev-parse", "--git-common-dir"]).ok()?;
        let (first, second) = (sha256.get(..2)?, sha256.get(2..4)?);
        let file = self.root.join(common).join("lfs/objects").join(first).join(second).join(sha256);
        file.is_file().then_some(file)
    }

    fn git(&self) -> Command {
        let mut git = Command::new("git");
        // Paths are names, and no patterns.
        git.arg("--literal-pathspecs").arg("-C").arg(&self.root);
        git
    }

    fn text<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        let output = succeeded(self.git().args(arguments))?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }
}

const NO_GIT: &str = "the command `git` can't be run";

fn names(git: &mut Command, below: &Path) -> Result<BTreeSet<PathBuf>> {
    if !below.as_os_str().is_empty() {
        git.arg("--").arg(below);
    }
    let listed = succeeded(git)?;
    Ok(listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(path).collect())
}

fn run(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().context(NO_GIT)
}

fn succeeded(command: &mut Command) -> Result<Vec<u8>> {
    let output = run(command)?;
    ensure!(output.status.success(), "git: {}", said(&output));
    Ok(output.stdout)
}

/// What a command that failed said, on one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    if text.is_empty() { output.status.to_string() } else { text }
}

/// A path as git writes it.
fn path(bytes: &[u8]) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(OsStr::from_bytes(bytes))
    }
    #[cfg(not(unix))]
    {
        PathBuf::from(OsStr::new(&*String::from_utf8_lossy(bytes)))
    }
}
