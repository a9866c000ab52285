//! What the answers of a route say of its end: since when it should not be used (`Deprecation`, RFC 9745), when it ends
//! (`Sunset`, RFC 8594), and the path that takes its place (`Link` with "successor-version", RFC 5829).

use std::sync::Arc;

use crate::call::Told;
use crate::config::rest::{Route, Segment, Template};

/// A date as headers have it (RFC 9110, section 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// What is said of the end of a route.
#[derive(Debug)]
pub struct Farewell {
    deprecation: Option<String>,
    sunset: Option<String>,
    /// The path of today, of an older one.
    today: Option<Template>,
    /// Who says it: the gateway itself.
    speaker: Arc<str>,
}

impl Farewell {
    /// What is to be said of this route, whose path of today is this one if it is another; none of a route that stays.
    pub(super) fn of(route: &Route, today: Option<&Template>) -> Option<Self> {
        let dates = route.deprecation;
        if dates.since.is_none() && dates.sunset.is_none() && today.is_none() {
            return None;
        }
        Some(Self {
            deprecation: dates.since.map(|since| format!("@{}", since.as_second())),
            sunset: dates.sunset.map(|sunset| sunset.strftime(HTTP_DATE).to_string()),
            today: today.cloned(),
            speaker: "".into(),
        })
    }

    /// Says it. `sent` is what stands in the place of the names in the path that was asked for.
    pub(crate) fn tell(&self, told: &Told, route: &Route, sent: &[&str]) {
        for (header, value) in [("deprecation", &self.deprecation), ("sunset", &self.sunset)] {
            if let Some(value) = value {
                told.add(&self.speaker, header, value);
            }
        }
        if let Some(today) = &self.today {
            let path = written(today, route, sent);
            // Such a path is longer than a header may be, or would end its brackets early.
            if !path.contains(['<', '>', '"']) {
                told.add(&self.speaker, "link", &format!("<{path}>; rel=\"successor-version\""));
            }
        }
    }
}

/// The path of today, with the values as they were sent.
fn written(today: &Template, asked: &Route, sent: &[&str]) -> String {
    let value = |name: &str| {
        let mut values = asked.path.names().zip(sent);
        values.find(|(known, _)| *known == name).map_or("", |(_, value)| *value)
    };
    let mut path = String::new();
    for segment in today.segments() {
        path.push('/');
        path.push_str(match segment {
            Segment::Text(text) => text,
            Segment::Name(name) | Segment::Rest(name) => value(name),
        });
    }
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::config::rest::{Deprecation, LegacyPath, Target};

    #[test]
    fn an_older_path_names_the_one_of_today_with_the_same_values() {
        let mut route = sample("GET", "/pets/{id}/toys/{toy}");
        let deprecation = Deprecation {
            since: Some("2026-01-31T00:00:00Z".parse().unwrap()),
            sunset: Some("2026-12-31T23:00:00Z".parse().unwrap()),
        };
        let legacy = LegacyPath { path: Template::parse("/v0/{toy}/of/{id}").unwrap(), deprecation };
        route.legacy.push(legacy.clone());
        assert!(Farewell::of(&route, None).is_none(), "the route itself stays");
        let old = route.at(&legacy);
        assert_eq!(
            old.target,
            Target::Upstream { name: "up".to_owned(), path: Some(route.path.clone()) },
            "the upstream hears of the path of today"
        );
        let told = Told::default();
        Farewell::of(&old, Some(&route.path)).unwrap().tell(&told, &old, &["ball", "%C3%A4"]);
        let expected = [
            ("deprecation", "@1769817600"),
            ("sunset", "Thu, 31 Dec 2026 23:00:00 GMT"),
            ("link", "</pets/%C3%A4/toys/ball>; rel=\"successor-version\""),
        ];
        assert_eq!(told.headers(), expected.map(|(header, value)| (header, value.to_owned())));
    }
}
