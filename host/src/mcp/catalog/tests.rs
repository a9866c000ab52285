//! Names: what is merged in one order is merged in any, and nobody takes what is another's.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn offer(name: &str) -> Offer {
    let item = format!(r#"{{"name":{},"x":1.0}}"#, super::super::message::quoted(name));
    Offer { name: name.to_owned(), upstream: name.to_owned(), item: RawValue::from_string(item).unwrap() }
}

fn offers(names: &[&str]) -> Offers {
    Offers { tools: names.iter().map(|name| offer(name)).collect(), ..Offers::default() }
}

fn resources(names: &[&str], templates: &[&str]) -> Offers {
    Offers {
        resources: names.iter().map(|name| offer(name)).collect(),
        templates: templates.iter().map(|name| offer(name)).collect(),
        ..Offers::default()
    }
}

/// The servers of a test, and what the gateway remembers of them.
struct Stage {
    servers: Vec<(Arc<str>, Standing, Offers)>,
    prefixed: Vec<&'static str>,
    owners: Owners,
}

impl Stage {
    /// None of them is up.
    fn new(names: &[&str]) -> Self {
        let servers = names.iter().map(|name| (Arc::from(*name), Standing::Awaited, Offers::default()));
        Self { servers: servers.collect(), prefixed: Vec::new(), owners: Owners::default() }
    }

    fn set(&mut self, name: &str, standing: Standing, offers: Offers) -> Catalog {
        let server = self.servers.iter_mut().find(|(known, ..)| **known == *name).unwrap();
        (server.1, server.2) = (standing, offers);
        self.merge()
    }

    fn listed(&mut self, name: &str, tools: &[&str]) -> Catalog {
        self.set(name, Standing::Listed, offers(tools))
    }

    fn merge(&mut self) -> Catalog {
        let parts: Vec<Part<'_>> = self
            .servers
            .iter()
            .map(|(backend, standing, offers)| Part {
                backend,
                always_prefix: self.prefixed.contains(&&**backend),
                standing: *standing,
                offers,
            })
            .collect();
        Catalog::merge(&parts, true, &mut self.owners)
    }
}

/// What is shown, with what rules call it and whose it is: `shown = rule's name @ backend/own`.
fn shown(catalog: &Catalog) -> Vec<String> {
    let text = |entry: &Arc<Entry>| {
        let Entry { name, shown, backend, upstream, .. } = &**entry;
        let ruled = if name == shown { String::new() } else { format!(" as {name}") };
        format!("{shown} {backend}/{upstream}{ruled}")
    };
    catalog.list(List::Tools).iter().map(text).collect()
}

fn owner<'c>(catalog: &'c Catalog, name: &str) -> Option<(&'c str, &'c str)> {
    catalog.find(List::Tools, name).map(|entry| (&*entry.backend, &*entry.upstream))
}

#[test]
fn a_collision_prefixes_the_later_one_and_the_index_strips_it() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.listed("a", &["search", "read"]);
    let catalog = stage.listed("b", &["search", "write"]);
    assert_eq!(shown(&catalog), ["read a/read", "search a/search", "b_search b/search", "write b/write"]);
    let entry = catalog.find(List::Tools, "b_search").unwrap();
    assert_eq!(entry.item.get(), r#"{"name":"b_search","x":1.0}"#);
    assert_eq!(owner(&catalog, "b_write"), Some(("b", "write")), "the longer name works in any case");
    assert_eq!(owner(&catalog, "a_search"), Some(("a", "search")));
}

#[test]
fn names_that_are_spelled_alike_stay_apart() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.listed("a", &["x.y", "x/y"]);
    let catalog = stage.listed("b", &["x_y"]);
    let lines = shown(&catalog);
    assert_eq!((&*lines[0], &*lines[2]), ("x_y a/x.y", "b_x_y b/x_y"));
    assert!(lines[1].starts_with("a_x_y_") && lines[1].ends_with(" a/x/y"), "{lines:?}");
    // What keeps its spelling has it, in whichever order they are listed.
    let mut stage = Stage::new(&["a"]);
    let catalog = stage.listed("a", &["x.y", "x_y"]);
    let lines = shown(&catalog);
    assert_eq!(&*lines[1], "x_y a/x_y");
    assert!(lines[0].starts_with("a_x_y_") && lines[0].ends_with(" a/x.y"), "{lines:?}");
}

#[test]
fn a_server_that_lists_nothing_for_a_moment_keeps_its_place() {
    let mut stage = Stage::new(&["a", "b", "c"]);
    stage.listed("b", &["run"]);
    stage.listed("b", &[]);
    stage.listed("c", &["run"]);
    let catalog = stage.listed("a", &[]);
    assert_eq!(shown(&catalog), ["c_run c/run"]);
    let catalog = stage.listed("b", &["run"]);
    assert_eq!(shown(&catalog), ["run b/run", "c_run c/run"]);
}

#[test]
fn the_first_of_the_file_has_a_name_whoever_is_up_first() {
    let mut stage = Stage::new(&["sandbox", "commander"]);
    let catalog = stage.listed("commander", &["read", "run"]);
    assert_eq!(shown(&catalog), ["commander_read commander/read", "commander_run commander/run"]);
    assert_eq!(owner(&catalog, "read"), None, "nobody answers to it yet");
    let catalog = stage.listed("sandbox", &["read"]);
    assert_eq!(shown(&catalog), ["read sandbox/read", "commander_read commander/read", "run commander/run"]);
    assert_eq!(
        owner(&catalog, "commander_run"),
        Some(("commander", "run")),
        "what was shown before still works"
    );
}

#[test]
fn one_that_does_not_come_keeps_no_name_from_view_but_from_rules() {
    let mut stage = Stage::new(&["sandbox", "commander"]);
    stage.listed("commander", &["read", "run"]);
    let catalog = stage.set("sandbox", Standing::GivenUp, Offers::default());
    assert_eq!(
        shown(&catalog),
        ["read commander/read as commander_read", "run commander/run as commander_run"]
    );
    // It comes after all. What was shown stays where it was, and rules mean the first of the file.
    let catalog = stage.listed("sandbox", &["read"]);
    assert_eq!(
        shown(&catalog),
        ["sandbox_read sandbox/read as read", "read commander/read as commander_read", "run commander/run"]
    );
}

#[test]
fn a_name_stays_with_its_owner_while_that_is_down() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.listed("a", &["search"]);
    stage.listed("b", &["search"]);
    // It lists nothing now, be it that it died or that it changed its mind.
    let catalog = stage.listed("a", &[]);
    assert_eq!(shown(&catalog), ["b_search b/search"]);
    assert_eq!(owner(&catalog, "search"), None);
    let catalog = stage.listed("a", &["search"]);
    assert_eq!(shown(&catalog), ["search a/search", "b_search b/search"]);
    // And a first one that finds a name later does not take it over.
    stage.listed("b", &["search", "write"]);
    let catalog = stage.listed("a", &["search", "write"]);
    assert_eq!(owner(&catalog, "write"), Some(("b", "write")));
}

#[test]
fn nobody_lists_into_the_names_of_another() {
    let mut stage = Stage::new(&["x", "two", "two_b"]);
    stage.listed("two", &["deploy", "b_c"]);
    stage.listed("two_b", &["c"]);
    let catalog =
        stage.listed("x", &["two_deploy", "two.drop", "two/run", "two_b_c", "twofold", "x_own", "deploy"]);
    assert_eq!(owner(&catalog, "two_deploy"), Some(("two", "deploy")));
    assert_eq!(owner(&catalog, "two_b_c"), Some(("two_b", "c")));
    for (name, own) in [
        ("x_two_deploy", "two_deploy"),
        ("x_two_drop", "two.drop"),
        ("x_two_run", "two/run"),
        ("x_two_b_c", "two_b_c"),
        ("twofold", "twofold"),
        ("x_own", "x_own"),
        ("x_deploy", "deploy"),
    ] {
        assert_eq!(owner(&catalog, name), Some(("x", own)), "{name}");
    }
    for absent in ["two_drop", "two_run"] {
        assert_eq!(owner(&catalog, absent), None, "{absent}");
    }
}

#[test]
fn servers_that_name_their_tools_after_themselves_keep_those_names() {
    let mut stage = Stage::new(&["slow", "git"]);
    // Nobody else could have it, so nobody is waited for.
    let catalog = stage.listed("git", &["git_status", "status"]);
    assert_eq!(owner(&catalog, "git_status"), Some(("git", "git_status")));
    let status: Vec<_> = shown(&catalog).into_iter().filter(|line| line.contains("git/status")).collect();
    assert!(status.len() == 1 && status[0].starts_with("git_status_"), "{status:?}");
    let catalog = stage.listed("slow", &["status"]);
    assert_eq!(owner(&catalog, "git_status"), Some(("git", "git_status")));
    assert_eq!(owner(&catalog, "status"), Some(("slow", "status")));
}

#[test]
fn a_backend_that_is_always_prefixed_keeps_nobody_waiting() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.prefixed.push("a");
    let catalog = stage.listed("b", &["run"]);
    assert_eq!(shown(&catalog), ["run b/run"]);
    let catalog = stage.listed("a", &["run"]);
    assert_eq!(shown(&catalog), ["a_run a/run", "run b/run"]);
}

#[test]
fn the_memory_for_names_is_bounded_and_nothing_is_lost() {
    let mut stage = Stage::new(&["a"]);
    let many: Vec<String> = (0..30_000).map(|number| format!("{number:0>64}")).collect();
    let names: Vec<&str> = many.iter().map(String::as_str).collect();
    let catalog = stage.listed("a", &names);
    assert_eq!(catalog.list(List::Tools).len(), names.len());
    let plain = catalog
        .list(List::Tools)
        .iter()
        .filter(|entry| entry.shown.len() == 64 && entry.shown.starts_with('0'));
    assert!((5_000..25_000).contains(&plain.count()));
    // Past it, names change hands as little as before: they are the backend's own.
    let others: Vec<String> = (0..30_000).map(|number| format!("b{number:0>63}")).collect();
    let catalog = stage.listed("a", &others.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(catalog.list(List::Tools).iter().all(|entry| entry.shown.starts_with("a_")));
}

#[test]
fn templates_are_found_by_their_longest_literal_beginning() {
    let mut stage = Stage::new(&["a"]);
    let catalog = stage.set("a", Standing::Listed, resources(&[], &["db://{x}", "db://t/{id}/row"]));
    assert_eq!(&*catalog.find_template("db://t/7/row").unwrap().name, "db://t/{id}/row");
    assert_eq!(&*catalog.find_template("db://t/7").unwrap().name, "db://{x}");
    assert!(catalog.find_template("file:///x").is_none());
}

#[test]
fn a_later_server_describes_nothing_away_from_an_earlier_one() {
    let mut stage = Stage::new(&["a", "b"]);
    stage.set("a", Standing::Listed, resources(&["db://a"], &["db://{x}"]));
    let hostile = resources(&["db://a", "db://t/7", "file:///x"], &["db://t/{id}", "{+any}", "file:///{x}"]);
    let catalog = stage.set("b", Standing::Listed, hostile);
    let of = |uri: &str| catalog.find_template(uri).map(|entry| &*entry.backend);
    assert_eq!((of("db://t/7"), of("db://q"), of("file:///y")), (Some("a"), Some("a"), Some("b")));
    let listed: Vec<_> =
        catalog.list(List::Resources).iter().map(|entry| (&*entry.shown, &*entry.backend)).collect();
    assert_eq!(listed, [("db://a", "a"), ("file:///x", "b")]);
    // One that begins with an expression gets what nobody else has.
    let mut stage = Stage::new(&["a", "b"]);
    stage.set("a", Standing::Listed, resources(&[], &["{+any}"]));
    let catalog = stage.set("b", Standing::Listed, resources(&[], &["db://{x}"]));
    assert_eq!(catalog.find_template("db://1").map(|entry| &*entry.backend), Some("b"));
    assert_eq!(catalog.find_template("x://1").map(|entry| &*entry.backend), Some("a"));
}

#[test]
fn the_page_of_a_tool_is_found_though_it_is_not_listed() {
    let tools = |name: &str, meta: &str| Offers {
        tools: vec![Offer {
            name: name.to_owned(),
            upstream: name.to_owned(),
            item: RawValue::from_string(format!(r#"{{"name":"{name}","_meta":{{{meta}}}}}"#)).unwrap(),
        }],
        ..Offers::default()
    };
    let mut stage = Stage::new(&["a", "b", "c", "d"]);
    stage.set("a", Standing::Listed, tools("one", r#""ui":{"resourceUri":"ui://a"}"#));
    stage.set("b", Standing::Listed, tools("two", r#""ui/resourceUri":"ui://b""#));
    // It is whose the first is, listed or not.
    let mut third = tools("three", r#""openai/outputTemplate":"ui://c""#);
    third.resources = vec![offer("ui://a"), offer("ui://own")];
    stage.set("c", Standing::Listed, third);
    let catalog = stage.set("d", Standing::Listed, tools("four", r#""ui":{"resourceUri":"ui://b"}"#));
    let of = |uri: &str| catalog.find(List::Resources, uri).map(|entry| &*entry.backend);
    assert_eq!(["ui://a", "ui://b", "ui://c", "ui://own"].map(of), ["a", "b", "c", "c"].map(Some));
    let listed: Vec<_> = catalog.list(List::Resources).iter().map(|entry| &*entry.shown).collect();
    assert_eq!(listed, ["ui://own"]);
}

#[derive(Clone, Debug)]
enum Step {
    Listed(usize),
    /// It lists nothing for a while.
    Gone(usize),
}

const SERVERS: [&str; 4] = ["a", "b", "a_b", "c"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let server = 0..SERVERS.len();
    let step = prop_oneof![3 => server.clone().prop_map(Step::Listed), 1 => server.prop_map(Step::Gone)];
    proptest::collection::vec(step, 0..12)
}

fn mapping(catalog: &Catalog) -> BTreeMap<String, (String, String)> {
    let of = |entry: &Arc<Entry>| (entry.backend.to_string(), entry.upstream.to_string());
    let index = &catalog.index[&List::Tools];
    index.iter().map(|(name, entry)| (name.to_string(), of(entry))).collect()
}

proptest! {
    /// Whatever comes, dies and returns in whichever order: in the end every name leads where the file and the lists say,
    /// on the way none has led anywhere else, and rules mean the same tools by the same names.
    #[test]
    fn names_follow_from_the_file_and_the_lists_alone(
        lists in proptest::collection::vec(proptest::collection::vec("[ab](_[abc.]){0,2}", 0..5), SERVERS.len()),
        prefixed in proptest::option::of(0..SERVERS.len()),
        steps in steps(),
    ) {
        let lists: Vec<Vec<&str>> = lists.iter().map(|list| list.iter().map(String::as_str).collect()).collect();
        let stage = || {
            let mut stage = Stage::new(&SERVERS);
            stage.prefixed.extend(prefixed.map(|server| SERVERS[server]));
            stage
        };
        let finish = |stage: &mut Stage| {
            for (server, list) in SERVERS.iter().zip(&lists) {
                stage.listed(server, list);
            }
            stage.merge()
        };
        let straight = finish(&mut stage());
        let mut winding = stage();
        let mut seen: BTreeMap<String, (String, String)> = BTreeMap::new();
        let mut look = |catalog: &Catalog| {
            for (name, whose) in mapping(catalog) {
                let before = seen.entry(name.clone()).or_insert_with(|| whose.clone());
                prop_assert_eq!(&*before, &whose, "{} has led elsewhere before", name);
            }
            Ok(())
        };
        for step in &steps {
            let catalog = match step {
                Step::Listed(server) => winding.listed(SERVERS[*server], &lists[*server]),
                Step::Gone(server) => {
                    // A server that dies before it was listed is still waited for.
                    let standing = winding.servers[*server].1;
                    winding.set(SERVERS[*server], standing, Offers::default())
                }
            };
            look(&catalog)?;
        }
        let catalog = finish(&mut winding);
        look(&catalog)?;
        prop_assert_eq!(shown(&catalog), shown(&straight));
        prop_assert_eq!(mapping(&catalog), mapping(&straight));
    }

    /// The same where one is given up: what clients reach by a name never changes, and what rules mean by one does not
    /// depend on it.
    #[test]
    fn giving_a_server_up_changes_no_rule(
        lists in proptest::collection::vec(proptest::collection::vec("[ab](_[abc.]){0,2}", 0..5), SERVERS.len()),
        late in 0..SERVERS.len(),
    ) {
        let lists: Vec<Vec<&str>> = lists.iter().map(|list| list.iter().map(String::as_str).collect()).collect();
        let mut straight = Stage::new(&SERVERS);
        let mut winding = Stage::new(&SERVERS);
        winding.set(SERVERS[late], Standing::GivenUp, Offers::default());
        for (place, (server, list)) in SERVERS.iter().zip(&lists).enumerate() {
            straight.listed(server, list);
            if place != late {
                winding.listed(server, list);
            }
        }
        let before = mapping(&winding.merge());
        let (straight, catalog) = (straight.merge(), winding.listed(SERVERS[late], &lists[late]));
        for (name, whose) in mapping(&catalog) {
            prop_assert!(before.get(&name).is_none_or(|known| *known == whose), "{} has led elsewhere before", name);
        }
        let ruled = |catalog: &Catalog| -> BTreeMap<(String, String), String> {
            let of = |entry: &Arc<Entry>| ((entry.backend.to_string(), entry.upstream.to_string()), entry.name.to_string());
            catalog.list(List::Tools).iter().map(of).collect()
        };
        prop_assert_eq!(ruled(&catalog), ruled(&straight));
    }
}
