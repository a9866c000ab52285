//! Where telemetry goes: nowhere, unless the file says it.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::raw::{RawOtlp, RawTelemetry};
use super::super::secret::Secret;
use super::super::{Otlp, Telemetry};
use super::address::{host_of, is_loopback};
use super::{Checker, duration};
use crate::config::document::escape;
use crate::telemetry::otlp::Settings;

const AT: &str = "/telemetry/otlp";
/// The variable by which other programs find a collector.
const USUAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

impl Checker<'_> {
    pub(super) fn telemetry(&mut self, raw: &RawTelemetry, mounted: bool) -> Telemetry {
        if mounted {
            if raw.otlp.is_some() {
                let text = "what is sent to a collector is that of all endpoints together";
                self.problem(AT, text, "leave it to the main file");
            }
            return Telemetry::default();
        }
        let Some(raw) = &raw.otlp else {
            if self.var(USUAL).is_some() && !self.gone(AT) {
                let hint = format!("[telemetry.otlp] with endpoint = \"${{{USUAL}}}\"");
                self.warn(
                    "",
                    format!("{USUAL} is set, and has no effect without a section of its own"),
                    hint,
                );
            }
            return Telemetry::default();
        };
        Telemetry { otlp: self.otlp(raw) }
    }

    fn otlp(&mut self, raw: &RawOtlp) -> Option<Otlp> {
        if !raw.traces && !raw.metrics {
            let text = "with neither traces nor metrics there is nothing to send";
            self.problem(AT, text, "set one of them to true, or remove the section");
        }
        let (headers, mut secrets) = self.sent_along(&raw.headers);
        let mut attributes = Vec::new();
        for (key, typed) in &raw.attributes {
            let at = format!("{AT}/attributes/{}", escape(key));
            if key.is_empty()
                || key.len() > 256
                || key.contains(|c: char| c.is_whitespace() || c.is_control())
            {
                self.problem(
                    &at,
                    format!("{key:?} is not a name of an attribute"),
                    "such as \"service.name\"",
                );
            }
            let Some(value) = self.interpolate(&at, key, typed) else { continue };
            attributes.push((key.clone(), value.expose().to_owned()));
        }
        let ca_at = format!("{AT}/ca_file");
        let ca = raw.ca_file.as_ref().and_then(|typed| self.certificates(&ca_at, typed));
        let endpoint_at = format!("{AT}/endpoint");
        let endpoint = match &raw.endpoint {
            Some(typed) => self.collector(&endpoint_at, typed),
            None => {
                let text = "the section needs the address of a collector";
                self.problem(&endpoint_at, text, "endpoint = \"http://127.0.0.1:4318\"");
                None
            }
        };
        let endpoint = endpoint?;
        if ca.is_some() && !endpoint.expose().to_ascii_lowercase().starts_with("https:") {
            self.warn(&ca_at, "it has no effect on an endpoint that does not begin with https", "remove it");
        }
        let settings = Settings {
            endpoint: endpoint.expose().to_owned(),
            headers,
            ca,
            traces: raw.traces,
            metrics: raw.metrics,
            sample_ratio: raw.sample_ratio,
            clients_decide: raw.clients_decide,
            timeout: duration(raw.timeout_secs),
            metrics_interval: duration(raw.metrics_interval_secs),
            max_queue_bytes: raw.max_queue_bytes,
            attributes,
        };
        secrets.push(endpoint);
        Some(Otlp { settings, secrets })
    }

    /// The headers of every request, and their values, which are secret.
    fn sent_along(&mut self, raw: &BTreeMap<String, String>) -> (HeaderMap, Vec<Secret>) {
        let at = format!("{AT}/headers");
        let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
        for (name, secret) in self.headers(&at, raw) {
            let sent = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(secret.expose()));
            if let (Ok(name), Ok(mut value)) = sent {
                // Kept out of every debug output.
                value.set_sensitive(true);
                headers.insert(name, value);
            } else if self.problems.is_empty() {
                // What is wrong with a header has been said above; this is for what was not seen there.
                self.problem(
                    &format!("{at}/{}", escape(&name)),
                    "it cannot be sent as a header",
                    "remove it",
                );
            }
            secrets.push(secret);
        }
        (headers, secrets)
    }

    /// The address of a collector; what is said about it shows it as it was typed.
    fn collector(&mut self, at: &str, typed: &str) -> Option<Secret> {
        let endpoint = self.interpolate(at, "", typed)?;
        let text = endpoint.expose();
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (http, https) = (scheme.eq_ignore_ascii_case("http"), scheme.eq_ignore_ascii_case("https"));
        let authority = rest.split('/').next().unwrap_or_default();
        let host = host_of(authority);
        if !(http || https) || reqwest::Url::parse(text).is_err() {
            let hint = "it looks like http://127.0.0.1:4318 or https://otlp.example.org";
            self.problem(at, format!("{typed:?} is not the address of a collector"), hint);
        } else if text.contains(['?', '#']) {
            let hint = "send a key as a header: headers = { x-api-key = \"${NAME}\" }";
            self.problem(at, "what follows a ? or # cannot be kept: paths are added to the address", hint);
        } else if authority.contains('@') {
            let hint = "send it as a header: headers = { Authorization = \"Basic ${NAME}\" }";
            self.problem(at, "an address must not carry a password", hint);
        } else if text.trim_end_matches('/').ends_with("/v1/traces")
            || text.trim_end_matches('/').ends_with("/v1/metrics")
        {
            let hint = "leave /v1/traces and /v1/metrics away";
            self.problem(at, "the path of one kind of telemetry is added to the address", hint);
        } else if authority.ends_with(":4317") {
            let hint = "the same collector usually takes HTTP at port 4318";
            self.warn(at, "4317 is the usual port for gRPC, and the gateway speaks OTLP over HTTP", hint);
        }
        if http && !host.is_empty() && !is_loopback(host) {
            // The host may come from a variable, and then it is not repeated.
            let host = if typed.contains(host) { host } else { "that host" };
            let message = format!("what is sent to {host} can be read and changed on the way");
            self.warn(at, message, "use https, or a collector at 127.0.0.1");
        }
        Some(endpoint)
    }
}
