use std::time::Duration;

use postrider_testkit::{
    Program,
    faulty::{DiskFault, FaultyDisk},
};

/// Copies with `dd`, which reports the failed write.
async fn copied(disk: &FaultyDisk, to: &std::path::Path) -> Result<(), String> {
    let dd =
        Program::at("/bin/dd").args(["if=/etc/passwd", "conv=fsync"]).arg(format!("of={}", to.display()));
    let mut dd = disk.under(dd).start();
    let status = dd.wait(Duration::from_secs(10)).await;
    if status.success() { Ok(()) } else { Err(dd.stderr().join("\n")) }
}

#[tokio::test]
async fn a_faulty_disk_fails_in_its_folder_and_only_on_command() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = match FaultyDisk::new(inside.path()) {
        Ok(disk) => disk,
        Err(error) => return println!("skipped: {error}"),
    };
    assert_eq!(copied(&disk, &inside.path().join("a")).await, Ok(()));
    disk.set(DiskFault::Full(1)).unwrap();
    let error = copied(&disk, &inside.path().join("b")).await.unwrap_err();
    assert!(error.contains("No space left"), "{error}");
    assert_eq!(copied(&disk, &outside.path().join("c")).await, Ok(()));
    disk.set(DiskFault::Broken(1)).unwrap();
    let error = copied(&disk, &inside.path().join("b")).await.unwrap_err();
    assert!(error.contains("Input/output error"), "{error}");
    disk.set(DiskFault::None).unwrap();
    assert_eq!(copied(&disk, &inside.path().join("b")).await, Ok(()));
}
