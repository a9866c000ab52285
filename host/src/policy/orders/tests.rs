//! Orders in their file: kept, shared, and never read as "nothing is off".

#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::files::Trust;

fn file(folder: &Path) -> OrdersFile {
    OrdersFile::in_folder(&folder.join("control"), &Trust::default())
}

fn tool(name: &str) -> Switch {
    Switch::Tool(name.to_owned())
}

fn order(what: Switch) -> Order {
    Order { what, by: "ann".to_owned(), role: "admin".to_owned(), at_ms: 7, why: "it leaks".to_owned() }
}

#[test]
fn an_order_is_there_after_a_restart_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = Orders::open(file(dir.path())).unwrap();
    assert!(first.order(&order(tool("echo"))).unwrap());
    assert!(
        !first.order(&Order { by: "bob".to_owned(), ..order(tool("echo")) }).unwrap(),
        "it is off already"
    );
    assert!(first.order(&order(Switch::All)).unwrap());
    let again = Orders::open(file(dir.path())).unwrap();
    assert_eq!(again.list(), [order(tool("echo")), order(Switch::All)]);
    assert_eq!(
        again.lift(&tool("ech*")).unwrap(),
        None,
        "orders are taken back by the words they were given in"
    );
    assert_eq!(again.lift(&Switch::All).unwrap(), Some(order(Switch::All)));
    assert_eq!(Orders::open(file(dir.path())).unwrap().list(), [order(tool("echo"))]);
}

#[test]
fn gateways_of_one_file_lose_no_order_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Orders::open(file(dir.path())).unwrap(), Orders::open(file(dir.path())).unwrap());
    one.order(&order(tool("a"))).unwrap();
    other.order(&order(tool("b"))).unwrap();
    assert_eq!(
        other.list(),
        [order(tool("a")), order(tool("b"))],
        "what the first one wrote holds here, too"
    );
    assert_eq!(one.list(), [order(tool("a"))]);
    one.look_again().unwrap();
    assert_eq!(one.list(), other.list());
    one.lift(&tool("b")).unwrap();
    assert_eq!(other.lift(&tool("b")).unwrap(), Some(order(tool("b"))), "taken back here as well");
    assert_eq!(other.list(), [order(tool("a"))]);
}

#[test]
fn many_at_once_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = file(dir.path());
            scope.spawn(move || {
                let orders = Orders::open(file).unwrap();
                for round in 0..4 {
                    orders.order(&order(tool(&format!("t{number}-{round}")))).unwrap();
                }
            });
        }
    });
    assert_eq!(Orders::open(file(dir.path())).unwrap().list().len(), 32);
}

#[test]
fn what_cannot_be_read_is_never_taken_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let orders = Orders::open(file(dir.path())).unwrap();
    orders.order(&order(tool("echo"))).unwrap();
    let path = file(dir.path()).path();
    let good = std::fs::read_to_string(&path).unwrap();
    for bad in [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace("\"tool\"", "\"toll\""),
        good.replace("\"by\"", "\"bye\""),
        "\0".repeat(64),
    ] {
        std::fs::write(&path, &bad).unwrap();
        let error = Orders::open(file(dir.path())).unwrap_err().to_string();
        assert!(error.contains("orders.json") && error.contains("remove it"), "{error}");
        // While the gateway runs nothing comes back by that, and something new is off at once, though it is not kept.
        assert!(orders.look_again().is_err() && orders.lift(&tool("echo")).is_err());
        assert!(orders.order(&order(Switch::All)).is_err());
        assert_eq!(orders.list(), [order(tool("echo")), order(Switch::All)]);
    }
    std::fs::write(&path, &good).unwrap();
    orders.order(&order(tool("late"))).unwrap();
    let all = [order(tool("echo")), order(tool("late")), order(Switch::All)];
    assert_eq!(
        Orders::open(file(dir.path())).unwrap().list(),
        all,
        "what could not be kept is kept with the next one"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = Orders::open(file(dir.path())).unwrap_err().to_string();
    assert!(error.contains("everybody"), "{error}");
}

#[test]
fn the_files_are_the_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    Orders::open(file(dir.path())).unwrap().order(&order(Switch::All)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = dir.path().join("control");
    assert_eq!((mode(&folder), mode(&file(dir.path()).path())), (0o700, 0o600));
    let names =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names.len(), 2, "no draft is left: {names:?}");
}

#[test]
fn orders_are_bounded_and_everything_can_always_be_switched_off() {
    let orders = Orders::default();
    for number in 0..MAX_ORDERS {
        orders.order(&order(tool(&number.to_string()))).unwrap();
    }
    assert!(matches!(orders.order(&order(tool("more"))), Err(OrdersError::TooMany { .. })));
    assert!(orders.order(&order(Switch::All)).unwrap());
    let long = Order { why: "x".repeat(MAX_TEXT + 1), ..order(tool("y")) };
    assert!(matches!(orders.order(&long), Err(OrdersError::TooLong { .. })));
}

#[test]
fn callers_are_remembered_by_name_and_not_for_ever() {
    let orders = Orders::default();
    (0..MAX_SEEN + 2).for_each(|number| orders.saw(&number.to_string()));
    orders.saw("7");
    let seen = orders.subjects();
    assert_eq!((seen.len(), &*seen[0]), (MAX_SEEN, "2"));
}
