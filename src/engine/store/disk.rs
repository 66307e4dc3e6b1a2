//! What is known of the disk that a store lies on: whether its locks hold between machines, and whether it remembers that a
//! name wasn't there. Linux tells by the table of its mounts; elsewhere the usual is assumed.

use std::path::Path;

/// A store's disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Disk {
    locks_are_local: bool,
    forgets: bool,
}

impl Disk {
    /// The disk of a directory, or of what is to be one.
    pub(super) fn of(dir: &Path) -> Self {
        let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return Self::default() };
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let there = absolute.ancestors().find_map(|dir| dir.canonicalize().ok());
        there.map_or_else(Self::default, |there| Self::in_table(&mounts, &there))
    }

    /// Whether a file's lock keeps out processes of the same machine only.
    pub(super) fn locks_are_local(self) -> bool {
        self.locks_are_local
    }

    /// Whether a name that wasn't there is taken not to be there for a while, unless its directory is opened.
    pub(super) fn forgets(self) -> bool {
        self.forgets
    }

    /// By `/proc/self/mountinfo` (`proc(5)`): the mount point is the fifth field, its options the sixth, and behind a `-` come the
    /// file system's type, its source and its own options.
    fn in_table(mounts: &str, dir: &Path) -> Self {
        let mut nearest = (0, Self::default());
        for line in mounts.lines() {
            let Some((mount, system)) = line.split_once(" - ") else { continue };
            let (mount, system): (Vec<&str>, Vec<&str>) = (mount.split(' ').collect(), system.split(' ').collect());
            let (&[_, _, _, _, point, own, ..], &[kind, _, options]) = (&mount[..], &system[..]) else { continue };
            // Spaces in names are written so.
            let point = point.replace("\\040", " ");
            // Of several at one place the last one counts.
            if dir.starts_with(&point) && point.len() >= nearest.0 {
                let has = |option: &str| own.split(',').chain(options.split(',')).any(|one| one == option);
                nearest = (point.len(), Self::of_kind(kind, &has));
            }
        }
        nearest.1
    }

    fn of_kind(kind: &str, has: &dyn Fn(&str) -> bool) -> Self {
        match kind {
            "nfs" | "nfs4" => Self {
                locks_are_local: ["nolock", "local_lock=all", "local_lock=flock"].into_iter().any(has),
                forgets: true,
            },
            // Without either option there are no locks at all, which shows when one is wanted.
            "lustre" => Self { locks_are_local: has("localflock"), forgets: false },
            // Unless `tuneUseGlobalFileLocks` is set on every machine, which none can see of another.
            "beegfs" => Self { locks_are_local: true, forgets: false },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:50 / /home rw,relatime shared:2 - nfs4 host:/home rw,vers=4.2,local_lock=none,addr=10.0.0.1
41 22 0:51 / /old rw - nfs host:/old rw,vers=3,nolock,local_lock=all
42 22 0:52 / /scratch rw - lustre mds@tcp:/scratch rw,flock,lazystatfs
43 22 0:53 / /work rw - lustre mds@tcp:/work rw,localflock
44 22 0:54 / /my\\040data rw,nodev - beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/client.conf
45 40 8:2 / /home/fast rw - xfs /dev/sdb1 rw
";

    #[test]
    fn table_of_mounts_tells_whose_locks_hold() {
        for (dir, locks_are_local, forgets) in [
            ("/var/store", false, false),
            ("/home/me/.pipe", false, true),
            ("/home/fast/store", false, false),
            ("/homes", false, false),
            ("/old/store", true, true),
            ("/scratch/store", false, false),
            ("/work", true, false),
            ("/my data/store", true, false),
        ] {
            assert_eq!(Disk::in_table(TABLE, Path::new(dir)), Disk { locks_are_local, forgets }, "{dir}");
        }
    }
}
