//! Calls under way, for operators who ask what is going on.
//!
//! The begin and the end of a call each lock a table for a moment, and allocate nothing once the table has grown.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::call::Call;

/// Room that is there from the beginning.
const ROOM: usize = 64;

/// All calls under way.
#[derive(Debug)]
pub struct Flights(Mutex<Table>);

#[derive(Debug)]
struct Table {
    places: Vec<Option<Flight>>,
    free: Vec<usize>,
}

/// A call under way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub call: Arc<Call>,
    pub since: Instant,
}

/// Keeps a call in the table.
#[derive(Debug)]
pub(super) struct Aloft<'f> {
    flights: &'f Flights,
    place: usize,
}

impl Default for Flights {
    fn default() -> Self {
        Self(Mutex::new(Table { places: Vec::with_capacity(ROOM), free: Vec::with_capacity(ROOM) }))
    }
}

impl Flights {
    pub(super) fn take_off(&self, call: &Arc<Call>, since: Instant) -> Aloft<'_> {
        let flight = Some(Flight { call: call.clone(), since });
        let mut table = self.0.lock();
        let place = match table.free.pop() {
            Some(place) => {
                table.places[place] = flight;
                place
            }
            None => {
                table.places.push(flight);
                table.places.len() - 1
            }
        };
        Aloft { flights: self, place }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let table = self.0.lock();
        table.places.len() - table.free.len()
    }

    /// Those that began first, at most so many.
    #[must_use]
    pub fn oldest(&self, most: usize) -> Vec<Flight> {
        let mut all: Vec<Flight> = self.0.lock().places.iter().flatten().cloned().collect();
        all.sort_by_key(|flight| flight.since);
        all.truncate(most);
        all
    }

    /// How many there are of a kind.
    #[must_use]
    pub(crate) fn count_of(&self, is_it: impl Fn(&Call) -> bool) -> usize {
        self.0.lock().places.iter().flatten().filter(|flight| is_it(&flight.call)).count()
    }
}

impl Drop for Aloft<'_> {
    fn drop(&mut self) {
        let mut table = self.flights.0.lock();
        let landed = table.places[self.place].take();
        table.free.push(self.place);
        drop(table);
        // The call itself goes without the lock.
        drop(landed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::sample;

    fn call(tool: &str) -> Arc<Call> {
        let call = sample::call(sample::principal("ann", "user"), sample::tool(tool, "one"));
        Arc::new(Call { id: tool.to_owned(), ..call })
    }

    #[test]
    fn who_takes_off_is_there_until_they_land_and_places_are_used_again() {
        let (flights, start) = (Flights::default(), Instant::now());
        let names = |flights: &Flights, most| -> Vec<String> {
            flights.oldest(most).into_iter().map(|flight| flight.call.id.clone()).collect()
        };
        let second = flights.take_off(&call("b"), start + Duration::from_secs(1));
        let first = flights.take_off(&call("a"), start);
        assert_eq!((names(&flights, 9), flights.count()), (vec!["a".to_owned(), "b".to_owned()], 2));
        assert_eq!((names(&flights, 1), flights.count_of(|call| call.id == "b")), (vec!["a".to_owned()], 1));
        drop(second);
        for _ in 0..1_000 {
            drop(flights.take_off(&call("c"), start));
        }
        assert_eq!((names(&flights, 9), flights.0.lock().places.len()), (vec!["a".to_owned()], 2));
        drop(first);
        assert_eq!(flights.count(), 0);
    }
}
