//! A server of one document, such as an identity provider's keys: over HTTP or HTTPS, well or not at all.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::PATIENCE;

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// With this status, these header lines and this body.
    Says(u16, String, String),
    /// It takes the request and never answers.
    Hangs,
    /// It closes the connection without a word.
    Breaks,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: String,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    /// The certificate (PEM) to trust, if it speaks HTTPS.
    pub(crate) ca: Option<String>,
}

impl Publisher {
    pub(crate) fn http(body: &str) -> Self {
        Self::start(body, None, None)
    }

    /// With a certificate authority made just now, that nobody trusts unless told to.
    pub(crate) fn https(body: &str) -> Self {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        Self::start(body, Some(Arc::new(config)), Some(root.pem()))
    }

    fn start(body: &str, tls: Option<Arc<rustls::ServerConfig>>, ca: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let this = Self {
            address,
            manner: Arc::new(Mutex::new(Manner::Says(200, String::new(), body.to_owned()))),
            asked: Arc::default(),
            over: Arc::default(),
            ca,
        };
        let (manner, asked, over) = (this.manner.clone(), this.asked.clone(), this.over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (manner, asked, over, tls) = (manner.clone(), asked.clone(), over.clone(), tls.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    match tls {
                        None => serve(stream, &manner, &asked, &over),
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config).unwrap();
                            serve(rustls::StreamOwned::new(connection, stream), &manner, &asked, &over);
                        }
                    }
                });
            }
        });
        this
    }

    /// `127.0.0.1` and the port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/keys", self.address)
    }

    /// From now on.
    pub(crate) fn behaves(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub(crate) fn publishes(&self, body: &str) {
        self.behaves(Manner::Says(200, String::new(), body.to_owned()));
    }

    /// How many requests have come.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, so that it sees that it is over.
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(mut stream: impl Read + Write, manner: &Mutex<Manner>, asked: &AtomicUsize, over: &AtomicBool) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let manner = manner.lock().unwrap().clone();
    match manner {
        Manner::Breaks => {}
        Manner::Hangs => {
            // Until the other end gives up; a look at `over` now and then, so that no thread outlives the test.
            while !over.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        Manner::Says(status, headers, body) => {
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
        }
    }
}
