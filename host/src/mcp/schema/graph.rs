//! The graph behind [`super::cost`]: which schemas are visited together at one place, and where each step down leads.

use std::collections::HashMap;

use super::keyword;
use super::load::{LEVELS, Load, count};
use super::node::{Id, Node, ROOT, Word};

/// Most steps that the search for a bound takes itself.
const BUDGET: usize = 2_000_000;

/// Why there is no bound.
#[derive(Debug, PartialEq)]
pub(super) enum Entangled {
    /// A schema judges a place by judging that place by itself.
    Cycle,
    /// The search would take too long.
    Large,
}

/// One way down from a place: to a property, an item or a key.
#[derive(Debug, Default)]
struct Step {
    /// The schemas that judge what is there, and how often each does.
    to: Vec<(Id, f64)>,
    /// What finding them costs.
    own: Load,
}

/// What happens at a place that one schema judges.
#[derive(Debug, Default)]
struct Place {
    own: Load,
    steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Graph {
    places: HashMap<Id, Place>,
    chain: f64,
}

/// The search, with what is left of its budget.
struct Search<'n> {
    nodes: &'n [Node],
    /// How often a schema in place is judged again for its owner's `unevaluated…`.
    again: f64,
    budget: usize,
}

impl Graph {
    /// Looks at a schema; `steps` are those that may be taken for all schemas together.
    pub(super) fn new(nodes: &[Node], steps: &mut usize) -> Result<Self, Entangled> {
        let budget = BUDGET.min(*steps);
        let again = if nodes.iter().any(Node::looks_at_the_rest) { 3.0 } else { 1.0 };
        let mut search = Search { nodes, again, budget };
        let graph = search.graph();
        *steps -= budget - search.budget;
        graph
    }

    /// The longest chain of schemas that call each other at one place.
    pub(super) fn chain(&self) -> f64 {
        self.chain
    }

    /// What a place costs at most, for arguments of no further level, one, two and so on.
    pub(super) fn levels(&self) -> Vec<Load> {
        let mut below: HashMap<Id, Load> = self.places.iter().map(|(id, place)| (*id, place.own)).collect();
        let mut levels = vec![below[&ROOT]];
        let mut left = BUDGET;
        for _ in 0..LEVELS {
            let mut next = below.clone();
            for (id, place) in &self.places {
                let Some(load) = next.get_mut(id) else { continue };
                for step in &place.steps {
                    let mut sum = step.own;
                    for (to, times) in &step.to {
                        sum.add(below[to], *times);
                    }
                    load.at_least(sum);
                    left = left.saturating_sub(1 + step.to.len());
                }
            }
            let done = next == below;
            below = next;
            if done {
                break;
            }
            levels.push(below[&ROOT]);
            if below[&ROOT].is_endless() || left == 0 {
                // It grows, and nobody knows how far.
                let endless =
                    Load { visits: f64::INFINITY, per_byte: f64::INFINITY, compared: f64::INFINITY };
                levels.push(endless);
                break;
            }
        }
        levels
    }
}

impl<'n> Search<'n> {
    fn spend(&mut self, steps: usize) -> Result<(), Entangled> {
        self.budget = self.budget.checked_sub(steps).ok_or(Entangled::Large)?;
        Ok(())
    }

    fn graph(&mut self) -> Result<Graph, Entangled> {
        let mut graph = Graph { places: HashMap::new(), chain: 1.0 };
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if graph.places.contains_key(&id) {
                continue;
            }
            let (together, chain) = self.together(id)?;
            graph.chain = graph.chain.max(chain);
            let place = self.place(&together)?;
            open.extend(place.steps.iter().flat_map(|step| step.to.iter().map(|(id, _)| *id)));
            graph.places.insert(id, place);
        }
        Ok(graph)
    }

    /// The schemas under a keyword that judge the same place, and how often.
    fn in_place(&self, node: &'n Node) -> impl Iterator<Item = (Id, f64)> + use<'n> {
        let again = self.again;
        node.words.iter().filter(|(keyword, _)| keyword::is_in_place(keyword)).flat_map(
            move |(keyword, word)| {
                // Once whether it fits, and once for the reasons it does not.
                let times = again * if matches!(*keyword, "anyOf" | "oneOf") { 2.0 } else { 1.0 };
                word.ids().into_iter().map(move |id| (id, times))
            },
        )
    }

    /// All schemas that judge a place together with one, how often each does, and the longest chain among them.
    fn together(&mut self, from: Id) -> Result<(Vec<(Id, f64)>, f64), Entangled> {
        // Depth first, each after all that it leads to.
        let mut order: Vec<Id> = Vec::new();
        let mut under_way: HashMap<Id, bool> = HashMap::new();
        let mut open = vec![(from, false)];
        while let Some((id, done)) = open.pop() {
            self.spend(1)?;
            if done {
                under_way.insert(id, false);
                order.push(id);
                continue;
            }
            match under_way.get(&id) {
                Some(true) => return Err(Entangled::Cycle),
                Some(false) => continue,
                None => {}
            }
            under_way.insert(id, true);
            open.push((id, true));
            for (to, _) in self.in_place(&self.nodes[id]) {
                if under_way.get(&to) == Some(&true) {
                    return Err(Entangled::Cycle);
                }
                if !under_way.contains_key(&to) {
                    open.push((to, false));
                }
            }
        }
        let mut times: HashMap<Id, (f64, f64)> = HashMap::from([(from, (1.0, 1.0))]);
        let mut longest = 1.0_f64;
        for id in order.iter().rev() {
            let (often, deep) = times[id];
            longest = longest.max(deep);
            for (to, factor) in self.in_place(&self.nodes[*id]) {
                self.spend(1)?;
                let (all, deepest) = times.entry(to).or_insert((0.0, 0.0));
                *all += often * factor;
                *deepest = deepest.max(deep + 1.0);
            }
        }
        Ok((order.into_iter().map(|id| (id, times[&id].0)).collect(), longest))
    }

    fn place(&mut self, together: &[(Id, f64)]) -> Result<Place, Entangled> {
        let mut place = Place::default();
        let nodes: Vec<(&Node, f64)> =
            together.iter().map(|(id, times)| (&self.nodes[*id], *times)).collect();
        for (node, times) in &nodes {
            self.spend(node.words.len())?;
            place.own.add(Load::of(node), *times);
        }
        self.properties(&nodes, &mut place)?;
        self.items(&nodes, &mut place)?;
        let mut key = Step::default();
        for (node, times) in &nodes {
            key.all(node.get("propertyNames"), *times);
        }
        place.steps.push(key);
        Ok(place)
    }

    fn properties(&mut self, nodes: &[(&'n Node, f64)], place: &mut Place) -> Result<(), Entangled> {
        // For any property: the patterns, which may all match, and what has not been looked at.
        let mut any = Step::default();
        let mut named: HashMap<&str, HashMap<usize, Id>> = HashMap::new();
        for (at, (node, times)) in nodes.iter().enumerate() {
            if let Some(Word::Named(patterns)) = node.get("patternProperties") {
                self.spend(patterns.len())?;
                // Once for the property and once for those that are none of these.
                let own = Load { visits: count(patterns.len()), per_byte: node.key_states, compared: 0.0 };
                any.own.add(own, 2.0 * self.again * times);
            }
            any.all(node.get("patternProperties"), *times);
            any.all(node.get("unevaluatedProperties"), 3.0 * times);
            if let Some(Word::Named(properties)) = node.get("properties") {
                self.spend(properties.len())?;
                for (name, id) in properties {
                    named.entry(name).or_default().insert(at, *id);
                }
            }
        }
        let with = |search: &mut Self, own: Option<&HashMap<usize, Id>>| {
            let mut step = Step { to: any.to.clone(), own: any.own };
            search.spend(nodes.len() + any.to.len() + 1)?;
            for (at, (node, times)) in nodes.iter().enumerate() {
                match own.and_then(|own| own.get(&at)) {
                    Some(id) => step.to.push((*id, *times)),
                    None => step.all(node.get("additionalProperties"), *times),
                }
            }
            Ok(step)
        };
        place.steps.push(with(self, None)?);
        for own in named.values() {
            place.steps.push(with(self, Some(own))?);
        }
        Ok(())
    }

    fn items(&mut self, nodes: &[(&'n Node, f64)], place: &mut Place) -> Result<(), Entangled> {
        let list = |node: &'n Node| match (node.get("prefixItems"), node.get("items")) {
            (Some(Word::Many(first)), rest) => (first.as_slice(), rest),
            (_, Some(Word::Many(first))) => (first.as_slice(), node.get("additionalItems")),
            (_, rest) => (&[][..], rest),
        };
        let longest = nodes.iter().map(|(node, _)| list(node).0.len()).max().unwrap_or_default();
        for index in 0..=longest {
            self.spend(nodes.len())?;
            let mut step = Step::default();
            for (node, times) in nodes {
                let (first, rest) = list(node);
                match first.get(index) {
                    Some(id) => step.to.push((*id, *times)),
                    None => step.all(rest, *times),
                }
                step.all(node.get("contains"), 2.0 * self.again * times);
                step.all(node.get("unevaluatedItems"), 3.0 * times);
            }
            place.steps.push(step);
        }
        Ok(())
    }
}

impl Step {
    fn all(&mut self, word: Option<&Word>, times: f64) {
        for id in word.map(Word::ids).unwrap_or_default() {
            self.to.push((id, times));
        }
    }
}
