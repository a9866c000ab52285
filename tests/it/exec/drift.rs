//! What is approved is what runs: whatever becomes of programs, files and folders in between.

use std::sync::atomic::{AtomicBool, Ordering};

use super::scene::{Scene, call};

const CAT: &str = r#"
[[commands]]
name = "cat"
executable = "/usr/bin/cat"
argv = ["--", "{files}"]
slots = { files = { type = "path", beneath = "{dir}", repeat = 2 } }
[[commands]]
name = "own"
executable = "{dir}/program"
argv = ["x"]
cwd = "{dir}/folder"
"#;

fn scene() -> Scene {
    let scene = Scene::new(CAT);
    std::fs::copy("/usr/bin/echo", scene.data("program")).unwrap();
    std::fs::create_dir(scene.data("folder")).unwrap();
    scene.write("a", "approved\n");
    scene
}

#[test]
fn a_file_that_is_changed_between_asking_and_running_is_not_read() {
    let scene = scene();
    let _executor = scene.start();
    let cat = call("cat", &[("files", "a")]);
    let path = scene.data("a");
    std::fs::create_dir(scene.data("sub")).unwrap();
    let changes: [(&str, &str, &dyn Fn()); 9] = [
        ("rewritten in place", "changed", &|| scene.write("a", "evil\n")),
        ("longer", "changed", &|| scene.write("a", "approved\nevil\n")),
        ("cut", "changed", &|| scene.write("a", "appro")),
        ("emptied", "changed", &|| scene.write("a", "")),
        ("exchanged", "changed", &|| {
            scene.write("b", "evil\n");
            std::fs::rename(scene.data("b"), &path).unwrap();
        }),
        ("a hard link to another", "changed", &|| {
            scene.write("b", "evil\n");
            std::fs::remove_file(&path).unwrap();
            std::fs::hard_link(scene.data("b"), &path).unwrap();
        }),
        ("a link", "argument_refused", &|| {
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        }),
        ("gone", "argument_refused", &|| std::fs::remove_file(&path).unwrap()),
        ("a folder", "argument_refused", &|| {
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        }),
    ];
    for (what, reason, change) in changes {
        for _ in 0..4 {
            if path.is_dir() {
                std::fs::remove_dir(&path).unwrap();
            }
            let _ = std::fs::remove_file(&path);
            scene.write("a", "approved\n");
            let (_, digest) = scene.prepare(&cat).unwrap();
            let token = scene.token("cat", digest);
            change();
            assert_eq!(scene.run_with(&cat, &token).refused(), reason, "{what}");
        }
    }
    // What is as it was runs, with the very same token that was refused: none was used up.
    std::fs::remove_dir(&path).unwrap();
    scene.write("a", "approved\n");
    let (_, digest) = scene.prepare(&cat).unwrap();
    let token = scene.token("cat", digest);
    scene.write("a", "evil\n");
    assert_eq!(scene.run_with(&cat, &token).refused(), "changed");
    scene.write("a", "approved\n");
    assert_eq!(scene.run_with(&cat, &token).out, "approved\n");
}

#[test]
fn a_file_that_changes_all_the_time_is_read_as_it_was_approved_or_not_at_all() {
    let scene = scene();
    let _executor = scene.start();
    let cat = call("cat", &[("files", "a")]);
    let good = "approved\n".repeat(4_000);
    scene.write("a", &good);
    let (_, digest) = scene.prepare(&cat).unwrap();
    let over = AtomicBool::new(false);
    let (ran, refused) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let evil = "evil!!!!\n".repeat(4_000);
            while !over.load(Ordering::Relaxed) {
                scene.write("a", &evil);
                scene.write("a", &good);
            }
        });
        let (mut ran, mut refused) = (0, 0);
        for _ in 0..300 {
            let run = scene.run_with(&cat, &scene.token("cat", digest));
            match &run.end {
                Ok(_) => {
                    ran += 1;
                    assert!(
                        run.out == good,
                        "it read something else: {:?}",
                        &run.out[..run.out.len().min(40)]
                    );
                }
                Err((reason, ..)) => {
                    refused += 1;
                    assert_eq!(reason, "changed");
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        (ran, refused)
    });
    assert_eq!(ran + refused, 300);
    assert!(refused > 0, "the file never changed");
}

#[test]
fn a_program_or_a_folder_that_is_exchanged_is_not_used() {
    let scene = scene();
    let _executor = scene.start();
    let own = call("own", &[]);
    let program = scene.data("program");
    assert_eq!(scene.output(&own), "x\n");
    let (_, digest) = scene.prepare(&own).unwrap();
    // Another program in its place, whether it is a harmless one or a shell.
    for (other, reason) in
        [("/usr/bin/printf", "changed"), ("/usr/bin/dash", "unusable"), ("/usr/bin/id", "changed")]
    {
        std::fs::copy(other, scene.data("new")).unwrap();
        std::fs::rename(scene.data("new"), &program).unwrap();
        assert_eq!(scene.run_with(&own, &scene.token("own", digest)).refused(), reason, "{other}");
    }
    std::fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink("/usr/bin/echo", &program).unwrap();
    assert_eq!(scene.run_with(&own, &scene.token("own", digest)).refused(), "unusable");
    std::fs::remove_file(&program).unwrap();
    std::fs::copy("/usr/bin/echo", &program).unwrap();
    assert_eq!(scene.run_with(&own, &scene.token("own", digest)).out, "x\n");
    // A link in the place of the folder that it works in.
    std::fs::remove_dir(scene.data("folder")).unwrap();
    std::os::unix::fs::symlink("/", scene.data("folder")).unwrap();
    assert_eq!(scene.run_with(&own, &scene.token("own", digest)).refused(), "unusable");
}

#[test]
fn the_executors_own_file_decides_what_a_command_is() {
    let scene = scene();
    let cat = call("cat", &[("files", "a")]);
    let executor = scene.start();
    let (_, digest) = scene.prepare(&cat).unwrap();
    drop(executor);
    let file = scene.setup.path("sentinel.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("argv = [\"--\",", "argv = [\"-n\", \"--\",")).unwrap();
    let _executor = scene.start();
    assert_eq!(scene.run_with(&cat, &scene.token("cat", digest)).refused(), "changed");
    assert_eq!(scene.output(&cat), "     1\tapproved\n");
}
