//! Files are changed the way editors, scripts and Kubernetes change them.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::process::Command;

use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::*;

/// Linux's numbers on x86 and ARM.
const O_NONBLOCK: i32 = 0o4000;
const ENXIO: i32 = 6;

/// Long enough to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(250);

/// How long a change may take to be in force: many times what it takes, for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A follower at work on a directory.
struct World {
    dir: TempDir,
    plans: mpsc::Receiver<Vec<String>>,
    _stop: DropGuard,
}

fn broker(name: &str) -> String {
    format!("---\napiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {{name: {name}}}\n")
}

impl World {
    /// Follows the directory, or the file of that name in it.
    fn follow(dir: TempDir, file: &str) -> Self {
        let paths = vec![dir.path().join(file)];
        let (follower, _) = Follower::start(paths).unwrap();
        let (sender, plans) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(follower.run(&stopped, async |objects| {
                let keys = objects.iter().map(|located| located.object.key());
                let names = keys.map(|key| format!("{}/{}", key.namespace, key.name)).collect();
                // Nobody listens any more once the test is over.
                drop(sender.send(names).await);
            }));
        });
        Self { dir, plans, _stop: stop.drop_guard() }
    }

    /// Follows a directory with `mesh.yaml`, which declares the broker `a`.
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("mesh.yaml"), broker("a")).unwrap();
        Self::follow(dir, "")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The brokers of the next plan.
    async fn next(&mut self) -> Vec<String> {
        timeout(PATIENCE, self.plans.recv()).await.expect("a plan in time").unwrap()
    }
}

#[tokio::test]
async fn files_that_come_change_and_go_are_followed() {
    let mut world = World::start();
    world.write("more.yaml", &broker("b"));
    assert_eq!(world.next().await, ["default/a", "default/b"]);
    world.write("more.yaml", &broker("c"));
    assert_eq!(world.next().await, ["default/a", "default/c"]);
    std::fs::rename(world.path("more.yaml"), world.path("more.yaml.off")).unwrap();
    assert_eq!(world.next().await, ["default/a"]);
}

#[tokio::test]
async fn what_an_editor_does_on_the_way_is_not_brought_into_force() {
    let mut world = World::start();
    // As vim does: the old one out of the way, a new one in pieces, the old one removed.
    std::fs::rename(world.path("mesh.yaml"), world.path("mesh.yaml~")).unwrap();
    world.write("mesh.yaml", "");
    world.write("mesh.yaml", &broker("a"));
    world.write("mesh.yaml", &(broker("a") + &broker("b")));
    std::fs::remove_file(world.path("mesh.yaml~")).unwrap();
    assert_eq!(world.next().await, ["default/a", "default/b"]);
    // As others do: a new one beside it, renamed over it.
    world.write(".mesh.yaml.tmp", &broker("c"));
    std::fs::rename(world.path(".mesh.yaml.tmp"), world.path("mesh.yaml")).unwrap();
    assert_eq!(world.next().await, ["default/c"]);
}

#[tokio::test]
async fn an_emptied_or_broken_file_changes_nothing_until_it_is_good_again() {
    let mut world = World::start();
    for (name, bad) in [("b", ""), ("c", "a: ["), ("d", "apiVersion: apps/v1\nkind: Deployment\n")]
    {
        world.write("mesh.yaml", bad);
        assert!(timeout(A_WHILE, world.plans.recv()).await.is_err(), "{bad:?} is in force");
        world.write("mesh.yaml", &broker(name));
        assert_eq!(world.next().await, [format!("default/{name}")]);
    }
}

#[tokio::test]
async fn a_config_map_that_is_mounted_is_followed_through_its_links() {
    let dir = TempDir::new().unwrap();
    publish(dir.path(), "..1", "a");
    symlink("..data/mesh.yaml", dir.path().join("mesh.yaml")).unwrap();
    let mut world = World::follow(dir, "mesh.yaml");
    for (version, name) in [("..2", "b"), ("..3", "c")] {
        publish(world.dir.path(), version, name);
        assert_eq!(world.next().await, [format!("default/{name}")]);
    }
}

#[tokio::test]
async fn what_can_be_read_once_is_not_read_again() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("pipe.yaml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let follower = Follower { paths: vec![pipe.clone()], seen: None, complained: false };
    let stop = CancellationToken::new();
    assert!(timeout(A_WHILE, follower.run(&stop, async |_| {})).await.is_err(), "runs until stop");
    // Opened so, a pipe that nobody waits to read from is refused at once.
    let nobody = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&pipe).unwrap_err();
    assert_eq!(nobody.raw_os_error(), Some(ENXIO));
}

/// As a kubelet does: a new directory, and one rename that makes everything in it appear at once.
fn publish(dir: &Path, version: &str, name: &str) {
    std::fs::create_dir(dir.join(version)).unwrap();
    std::fs::write(dir.join(version).join("mesh.yaml"), broker(name)).unwrap();
    symlink(version, dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn what_happens_to_other_files_beside_a_followed_one_is_no_change() {
    let created = notify::EventKind::Create(notify::event::CreateKind::File);
    let event = |path: &str| notify::Event::new(created).add_path(PathBuf::from(path));
    let names = names(&[PathBuf::from("/tmp/mesh.yaml")]);
    assert!(concerns(names.as_deref(), &event("/tmp/mesh.yaml")));
    assert!(concerns(names.as_deref(), &event("/tmp/..data")));
    assert!(!concerns(names.as_deref(), &event("/tmp/other")));
    assert!(concerns(None, &event("/tmp/other")), "of a directory, everything counts");
}
