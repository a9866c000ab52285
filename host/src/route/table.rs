//! Which route a request is for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, Method};
use smallvec::SmallVec;

use super::farewell::Farewell;
use super::path;
use crate::config::rest::{Route, Template};
use crate::mcp::schema::ArgumentSchema;

/// The stack for reading schemas: each level of one takes some stack frames to compile.
const STACK: usize = 64 << 20;

/// All routes of a generation.
#[derive(Default)]
pub struct Table {
    tree: matchit::Router<usize>,
    shapes: Vec<Shape>,
    entries: Vec<Arc<Entry>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("routes", &self.entries.len()).finish_non_exhaustive()
    }
}

/// The routes at one path.
struct Shape {
    methods: SmallVec<[(Method, Arc<Entry>); 2]>,
    /// What `Allow` says of it (RFC 9110, section 10.2.1).
    allow: HeaderValue,
}

/// A route, ready to be asked.
#[derive(Debug)]
pub struct Entry {
    /// Its settings.
    pub route: Route,
    /// What the record calls its requests: `GET /pets/{petId}`.
    pub asked: String,
    /// The id, shared.
    pub id: Arc<str>,
    /// The name of its target, shared.
    pub backend: Arc<str>,
    /// What `arguments` must fit.
    pub schema: Option<Arc<ArgumentSchema>>,
    /// What its answers say of its end; none of a route that stays.
    pub farewell: Option<Farewell>,
}

/// What was found for a method and a path.
#[derive(Debug)]
pub enum Found<'t, 'p> {
    /// A route.
    Route(Matched<'t, 'p>),
    /// The path has other methods.
    Method(&'t HeaderValue),
    /// Nothing is at the path.
    Nothing,
    /// After its escapes are read the path would be another route's.
    Ambiguous,
}

/// A route, and what stands in the place of its names.
#[derive(Debug)]
pub struct Matched<'t, 'p> {
    /// The route.
    pub entry: &'t Arc<Entry>,
    /// What was sent for each name, as it was sent.
    pub values: SmallVec<[&'p str; 4]>,
    /// A `HEAD` request for a route that answers `GET`.
    pub head: bool,
}

impl Table {
    /// Makes the table of routes that were checked. Reading their schemas may take a while.
    #[must_use]
    pub fn new(routes: &[Route]) -> Self {
        std::thread::scope(|scope| {
            let reading = std::thread::Builder::new().name("schemas".to_owned()).stack_size(STACK);
            let read = reading.spawn_scoped(scope, || Self::read(routes));
            read.ok().and_then(|reading| reading.join().ok()).unwrap_or_else(|| {
                tracing::error!("the routes cannot be read, so none is served");
                Self::default()
            })
        })
    }

    fn read(routes: &[Route]) -> Self {
        let mut table = Self::default();
        let mut shapes: HashMap<String, usize> = HashMap::new();
        for route in routes {
            let entry = Arc::new(Entry::new(route.clone(), None));
            table.entries.push(entry.clone());
            table.place(&mut shapes, entry);
            for legacy in &route.legacy {
                let old = Entry::new(route.at(legacy), Some(&route.path));
                table.place(&mut shapes, Arc::new(old));
            }
        }
        for shape in &mut table.shapes {
            let mut words: Vec<&str> = shape.methods.iter().map(|(method, _)| method.as_str()).collect();
            if words.contains(&"GET") && !words.contains(&"HEAD") {
                words.push("HEAD");
            }
            words.sort_unstable();
            shape.allow = HeaderValue::from_str(&words.join(", ")).unwrap_or(HeaderValue::from_static("GET"));
        }
        table
    }

    /// Puts a route where its path is.
    fn place(&mut self, shapes: &mut HashMap<String, usize>, entry: Arc<Entry>) {
        let shape = entry.route.path.shape();
        let index = *shapes.entry(shape.clone()).or_insert_with(|| {
            self.shapes.push(Shape { methods: SmallVec::new(), allow: HeaderValue::from_static("") });
            self.shapes.len() - 1
        });
        // Conflicts were mistakes of the file.
        if let Some(known) = self.shapes.get_mut(index) {
            known.methods.push((entry.route.method.clone(), entry));
        }
        let _ = self.tree.insert(shape, index);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All routes in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// The route for a request. The path was checked ([`path::check`]).
    #[must_use]
    pub fn find<'t, 'p>(&'t self, method: &Method, path: &'p str) -> Found<'t, 'p> {
        let found = self.tree.at(path).ok();
        if path.contains('%') {
            // Others read the escapes first.
            let decoded = path::decode(path);
            let other = decoded.as_deref().and_then(|path| self.tree.at(path).ok()).map(|found| *found.value);
            if other != found.as_ref().map(|found| *found.value) {
                return Found::Ambiguous;
            }
        }
        let Some(found) = found else { return Found::Nothing };
        let Some(shape) = self.shapes.get(*found.value) else { return Found::Nothing };
        let of =
            |method: &Method| shape.methods.iter().find(|(known, _)| known == method).map(|(_, entry)| entry);
        let (entry, head) = match (of(method), method == Method::HEAD) {
            (Some(entry), _) => (entry, false),
            (None, true) => match of(&Method::GET) {
                Some(entry) => (entry, true),
                None => return Found::Method(&shape.allow),
            },
            (None, false) => return Found::Method(&shape.allow),
        };
        Found::Route(Matched { entry, values: found.params.iter().map(|(_, value)| value).collect(), head })
    }

    /// The methods at a path, for a browser that asks.
    #[must_use]
    pub fn allowed(&self, path: &str) -> Option<&HeaderValue> {
        let found = self.tree.at(path).ok()?;
        self.shapes.get(*found.value).map(|shape| &shape.allow)
    }
}

impl Entry {
    fn new(route: Route, today: Option<&Template>) -> Self {
        Self {
            farewell: Farewell::of(&route, today),
            asked: format!("{} {}", route.method, route.path),
            id: route.id.as_str().into(),
            backend: route.target.backend().into(),
            schema: super::read::judge(&route).map(Arc::new),
            route,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::sample as route;
    use super::*;

    fn table(routes: &[(&str, &str)]) -> Table {
        Table::new(&routes.iter().map(|(method, path)| route(method, path)).collect::<Vec<_>>())
    }

    fn found(table: &Table, method: &str, path: &str) -> String {
        match table.find(&method.parse().unwrap(), path) {
            Found::Route(matched) => {
                format!("{} {:?} {}", matched.entry.id, matched.values.as_slice(), matched.head)
            }
            Found::Method(allow) => format!("405 {}", allow.to_str().unwrap()),
            Found::Nothing => "404".to_owned(),
            Found::Ambiguous => "400".to_owned(),
        }
    }

    #[test]
    fn a_request_finds_its_route_by_the_bytes_that_were_sent() {
        let table = table(&[
            ("GET", "/pets/{id}"),
            ("DELETE", "/pets/{other}"),
            ("POST", "/pets/mine"),
            ("GET", "/files/{*rest}"),
            ("POST", "/a b:c".replace(' ', "").as_str()),
        ]);
        for (method, path, expected) in [
            ("GET", "/pets/7", "GET /pets/{id} [\"7\"] false"),
            ("HEAD", "/pets/7", "GET /pets/{id} [\"7\"] true"),
            ("DELETE", "/pets/7", "DELETE /pets/{other} [\"7\"] false"),
            ("PUT", "/pets/7", "405 DELETE, GET, HEAD"),
            ("GET", "/pets/mine", "405 POST"),
            ("GET", "/pets/%C3%A4", "GET /pets/{id} [\"%C3%A4\"] false"),
            ("GET", "/pets/", "404"),
            ("GET", "/pets/7/", "404"),
            ("GET", "/files/a/b", "GET /files/{*rest} [\"a/b\"] false"),
            ("GET", "/files/", "404"),
            ("POST", "/ab:c", "POST /ab:c [] false"),
            ("POST", "/ab%3Ac", "400"),
            ("GET", "/Pets/7", "404"),
        ] {
            assert_eq!(found(&table, method, path), expected, "{method} {path}");
        }
    }

    proptest! {
        /// nginx and Node match after the escapes are read. Whatever they would choose, we choose it, too, or nothing.
        #[test]
        fn nobody_in_front_would_choose_another(path in "/[ab:%3A2b@]{0,4}(/[ab%:34A]{0,5}){0,2}") {
            let table = table(&[("GET", "/a"), ("GET", "/{x}"), ("GET", "/a/{y}"), ("GET", "/{x}/a:b"), ("GET", "/b/{*r}")]);
            if path::check(&path).is_ok() {
                let decoded = path::decode(&path).unwrap().into_owned();
                let id = |path: &str| table.tree.at(path).ok().map(|found| *found.value);
                match table.find(&Method::GET, &path) {
                    Found::Route(_) => prop_assert_eq!(id(&path), id(&decoded)),
                    Found::Nothing => prop_assert_eq!(id(&decoded), None),
                    Found::Ambiguous | Found::Method(_) => {}
                }
            }
        }
    }
}
